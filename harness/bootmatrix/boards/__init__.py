"""The boards that QEMU emulates, as far as firmware is concerned: one row each.

A machine type (``pc-q35-5.2``) is a version of a board. What a board does with its firmware is
QEMU's, not ours: docs/stock-qemu.md has the measurements.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from bootmatrix.arguments import machine_type
from bootmatrix.boards.aarch64 import AARCH64
from bootmatrix.boards.base import Architecture, Attachment, Board, Loader
from bootmatrix.boards.loongarch64 import LOONGARCH64
from bootmatrix.boards.ppc64 import PPC64
from bootmatrix.boards.real import real_board
from bootmatrix.boards.riscv64 import RISCV64
from bootmatrix.boards.s390x import S390X
from bootmatrix.boards.sparc64 import SPARC64
from bootmatrix.boards.x86_64 import X86_64
from bootmatrix.errors import UserError
from bootmatrix.model import (
    BOARD_MACHINE,
    DEFAULT_MACHINE,
    Arch,
    FirmwareBuild,
    Interface,
    QemuBuild,
    role_name,
)

__all__ = [
    "ARCHITECTURES", "LABEL_LENGTH", "Architecture", "Attachment", "Board", "Loader", "board_of",
    "host_label", "known_board", "offered",
]  # fmt: skip

ARCHITECTURES: Mapping[Arch, Architecture] = MappingProxyType(
    {Arch.X86_64: X86_64, Arch.AARCH64: AARCH64, Arch.RISCV64: RISCV64, Arch.PPC64: PPC64,
     Arch.SPARC64: SPARC64, Arch.LOONGARCH64: LOONGARCH64, Arch.S390X: S390X}
)

_REAL = {arch: real_board(arch) for arch in Arch}

LABEL_LENGTH = 63
"""Characters of a host's label that the probe guest prints."""

_VERSION = re.compile(r"-\d+(\.\d+)*$")


def board_of(machine: str, arch: Arch = Arch.X86_64) -> Board | None:
    """The board of a machine type, with options or without; None for one that is not known.

    ``default`` is the architecture's default board, also where its QEMUs take none by themselves.
    """
    if machine == BOARD_MACHINE:
        return _REAL[arch]
    architecture, kind = ARCHITECTURES[arch], machine_type(machine)
    name = architecture.default if kind == DEFAULT_MACHINE else _VERSION.sub("", kind)
    return next(
        (board for board in architecture.boards if name in (board.name, *board.aliases)), None
    )


def known_board(machine: str, arch: Arch) -> Board:
    """The board of a machine type. Raises UserError for one that is not known."""
    board = board_of(machine, arch)
    if board is None:
        raise UserError(f"no guest of ours boots on machine {machine} ({arch})")
    return board


def offered(firmware: FirmwareBuild, arch: Arch) -> Interface:
    """The interface that a firmware offers to programs: U-Boot, which OpenSBI starts, has UEFI's.
    """
    return ARCHITECTURES[arch].interface or firmware.interface


def host_label(index: int, qemu: QemuBuild) -> str:
    """What names a cell's host to its guest, in the fw_cfg file opt/bootmatrix/host.

    Plain printable ASCII without quotes, as the guest's line has room for. "" where QEMU cannot be
    told, and of a real board, which has no fw_cfg.
    """
    if qemu.board is not None:
        return ""
    since = ARCHITECTURES[qemu.arch].label_since
    if since is None or int(qemu.version.split(".")[0]) < since:
        return ""
    label = f"{role_name(index)} {qemu.version} {qemu.name}"[:LABEL_LENGTH]
    return re.sub(r"[^ !#-~]", "?", label)
