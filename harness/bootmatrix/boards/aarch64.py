"""Arm's virt: QEMU's hw/arm/virt.c; docs/stock-qemu.md has what was measured."""

from __future__ import annotations

from bootmatrix.boards.base import Architecture, Attachment, Board, Loader
from bootmatrix.model import Arch, Disk, Interface, Tpm

AARCH64 = Architecture(
    default="virt",
    newest="virt",
    has_default=False,
    interface=Interface.UEFI,
    firmware_bytes=64 << 20,  # of each flash
    boards=(
        Board(
            "virt", Arch.AARCH64, disks={Disk.VIRTIO: Attachment("virtio-blk-pci")},
            bios=Loader.MEMORY, flash_at=0, reset_vector=0, cpu="cortex-a57",
            tpms={Tpm.TIS: "tpm-tis-device"},
        ),
    ),
)  # fmt: skip
