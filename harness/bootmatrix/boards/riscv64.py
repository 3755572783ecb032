"""RISC-V's virt: QEMU's hw/riscv/virt.c; docs/stock-qemu.md has what was measured."""

from __future__ import annotations

from bootmatrix.boards.base import Architecture, Attachment, Board, Loader
from bootmatrix.model import Arch, Disk, Interface

RISCV64 = Architecture(
    default="virt",
    newest="virt",
    has_default=False,
    interface=Interface.UEFI,  # U-Boot's, and no other, to a program on a disk
    firmware_bytes=64 << 20,
    firmware_in_pages=False,  # it is loaded into memory
    # Up to 7.2 (measured; 10.0 does) virt makes its fw_cfg after the options for it are read.
    label_since=8,
    boards=(
        # It has no versions, but nothing is said of a migration: what becomes of it is found by
        # running. OpenSBI and U-Boot relocate themselves in the memory that they are loaded to.
        Board(
            "virt", Arch.RISCV64, disks={Disk.VIRTIO: Attachment("virtio-blk-pci")},
            versioned=False, bios=Loader.MEMORY, flash_at=None, rom_readable=False,
            reset_vector=0x1000, mib=256, uefi_mib=256,  # U-Boot's own needs
        ),
    ),
)  # fmt: skip
