"""PAPR's pseries: QEMU's hw/ppc/spapr.c; docs/stock-qemu.md has what was measured."""

from __future__ import annotations

from bootmatrix.boards.base import Architecture, Attachment, Board, Loader
from bootmatrix.model import Arch, Disk, Interface, ResetBy

PPC64 = Architecture(
    default="pseries",
    newest="pseries",
    has_default=True,
    interface=Interface.OPENFIRMWARE,
    firmware_bytes=4 << 20,  # FW_MAX_SIZE
    firmware_in_pages=False,  # it is loaded into memory
    label_since=None,
    boards=(
        # SLOF lies at 0 and keeps its own variables beside it; 0x100 is where the CPU begins
        # (SPAPR_ENTRY_POINT). QEMU wants 128 MiB for it.
        Board(
            "pseries", Arch.PPC64, disks={Disk.VIRTIO: Attachment("virtio-blk-pci")},
            bios=Loader.MEMORY, flash_at=None, rom_readable=False, reset_vector=0x100,
            resets=frozenset({ResetBy.RTAS}), nvram="NVRAM", mib=256, uefi_mib=256,
        ),
    ),
)  # fmt: skip
