"""A real board is no version of anything, and has none of QEMU's tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.boards import ARCHITECTURES, Loader, board_of, host_label
from bootmatrix.firmware.identity import sha256
from bootmatrix.model import Arch, BoardSource, FirmwareBuild, QemuBuild, ResetBy


@pytest.mark.parametrize("arch", Arch)
def test_each_architecture_has_one_that_is_none_of_its_qemus(arch: Arch) -> None:
    board = board_of("board", arch)
    assert board is not None
    assert (board.arch, board.versioned, board.has_flash) == (arch, False, False)
    assert board not in ARCHITECTURES[arch].boards
    assert (ResetBy.CF9 in board.resets) == (arch is Arch.X86_64)
    firmware = FirmwareBuild("any", sha256(b""), 0, Path())
    assert board.loader(firmware) is Loader.CHIP
    assert board.rom_address(256 << 10) is None


def test_it_has_no_label() -> None:
    qemu = QemuBuild("apu2-main", "apu2-main", "", Path(), arch=Arch.RISCV64, board=BoardSource())
    assert host_label(0, qemu) == ""
