"""The PCs: QEMU's hw/i386/pc_sysfw.c, x86-common.c, microvm.c; docs/stock-qemu.md has the rest."""

from __future__ import annotations

from bootmatrix.boards.base import FLOPPY, FOUR_GIB, Architecture, Attachment, Board, Loader
from bootmatrix.model import Arch, Disk, ResetBy, Tpm

_MIB = 1 << 20
_RESET_VECTOR = FOUR_GIB - 16  # Intel SDM volume 3, "First Instruction Executed"
# A PC maps the ROM below 1 MiB, too, at a reset: QEMU leaves there what the last firmware made of
# it, and the reset vector jumps into it.
_SEEN_BELOW = ((FOUR_GIB, 16 * _MIB), (_MIB, 256 << 10))
_VIRTIO = Attachment("virtio-blk-pci")
_TPMS = {Tpm.TIS: "tpm-tis", Tpm.CRB: "tpm-crb"}
# ACPI's reset register is port 0xCF9 on pc and q35, and microvm has one of its own.
_PC_RESETS = frozenset({ResetBy.CF9, ResetBy.KEYBOARD, ResetBy.TRIPLE_FAULT, ResetBy.ACPI})

X86_64 = Architecture(
    default="pc-i440fx",
    newest="pc-q35",
    has_default=True,
    interface=None,
    firmware_bytes=16 * _MIB,
    boards=(
        Board(
            "pc-i440fx", Arch.X86_64, aliases=("pc",),
            disks={
                Disk.AHCI: Attachment("ide-hd", "ahci.0", "ich9-ahci,id=ahci"),
                Disk.IDE: Attachment("ide-hd", "ide.0"),
                Disk.VIRTIO: _VIRTIO, Disk.FLOPPY: FLOPPY,
            },
            reset_vector=_RESET_VECTOR, swapped_below=_SEEN_BELOW, debug_port=True,
            resets=_PC_RESETS, tpms=_TPMS, suspends=True,
        ),
        Board(
            "pc-q35", Arch.X86_64, aliases=("q35",),
            disks={
                Disk.AHCI: Attachment("ide-hd", "ide.0"),  # its ports are ide.0 to ide.5
                Disk.IDE: Attachment("ide-hd", "pata.0", "piix3-ide,id=pata"),
                Disk.VIRTIO: _VIRTIO, Disk.FLOPPY: FLOPPY,
            },
            reset_vector=_RESET_VECTOR, swapped_below=_SEEN_BELOW, debug_port=True,
            resets=_PC_RESETS, tpms=_TPMS, suspends=True, smm_mib=256,
        ),
        # On both: SeaBIOS keeps its own variables in the memory that it was loaded to.
        Board(
            "isapc", Arch.X86_64, pci=False, versioned=False,
            disks={Disk.IDE: Attachment("ide-hd", "ide.0"), Disk.FLOPPY: FLOPPY},
            bios=Loader.MEMORY, flash_at=None, rom_readable=False,
            reset_vector=_RESET_VECTOR, swapped_below=_SEEN_BELOW, debug_port=True,
            resets=frozenset({ResetBy.KEYBOARD, ResetBy.TRIPLE_FAULT}),
        ),
        # QEMU's docs/system/i386/microvm.rst, "Limitations", says that it does not migrate.
        Board(
            "microvm", Arch.X86_64, pci=False, versioned=False, migrates_to_others=False,
            tells_cpus=False,  # its RSDP has an XSDT alone, which the probe does not follow
            disks={Disk.VIRTIO: Attachment("virtio-blk-device")},
            bios=Loader.MEMORY, flash_at=None, rom_readable=False,
            reset_vector=_RESET_VECTOR, swapped_below=_SEEN_BELOW, debug_port=True,
            resets=frozenset({ResetBy.TRIPLE_FAULT, ResetBy.ACPI}),
        ),
    ),
)  # fmt: skip
