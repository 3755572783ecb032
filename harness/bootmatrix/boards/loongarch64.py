"""LoongArch's virt: QEMU's hw/loongarch/virt.c; docs/stock-qemu.md has what was measured."""

from __future__ import annotations

from bootmatrix.boards.base import Architecture, Attachment, Board, Loader
from bootmatrix.model import Arch, Disk, Interface

LOONGARCH64 = Architecture(
    default="virt",
    newest="virt",
    has_default=True,
    interface=Interface.UEFI,
    firmware_bytes=16 << 20,  # of each flash: VIRT_FLASH0_SIZE, VIRT_FLASH1_SIZE
    boards=(
        # It begins in its flash. QEMU wants 1 GiB ("ram_size must be greater than 1G"). With two
        # CPUs the probe finds one.
        Board(
            "virt", Arch.LOONGARCH64, disks={Disk.VIRTIO: Attachment("virtio-blk-pci")},
            bios=Loader.MEMORY, flash_at=0x1C000000, reset_vector=0x1C000000, mib=1024,
            uefi_mib=1024, tells_cpus=False,
        ),
    ),
)  # fmt: skip
