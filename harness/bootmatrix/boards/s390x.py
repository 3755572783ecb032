"""IBM's s390-ccw-virtio: QEMU's hw/s390x; docs/stock-qemu.md has what was measured."""

from __future__ import annotations

from bootmatrix.boards.base import Architecture, Attachment, Board, Loader
from bootmatrix.model import Arch, Disk, Interface

S390X = Architecture(
    default="s390-ccw-virtio",
    newest="s390-ccw-virtio",
    has_default=True,
    interface=Interface.IPL,
    firmware_bytes=4 << 20,  # L_BIOS_SIZE, the largest that QEMU takes
    firmware_in_pages=False,
    label_since=None,
    has_probe=False,
    boards=(
        # Its memory holds the segments of an ELF file: no bytes of it are the image's as a whole.
        # QEMU makes the disk an IPL device where it has a bootindex, and only then.
        Board(
            "s390-ccw-virtio", Arch.S390X,
            disks={Disk.VIRTIO: Attachment("virtio-blk-ccw,bootindex=1")}, bios=Loader.MEMORY,
            flash_at=None, rom_readable=False, waits_at_menu=True, mib=128,
        ),
    ),
)  # fmt: skip
