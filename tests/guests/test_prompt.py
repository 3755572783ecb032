"""No guest at all: a disk from which nothing boots, and what firmware says then."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.guests import DISK_SIZE
from bootmatrix.guests.prompt import prompt_disk
from bootmatrix.model import Arch, GuestKind
from bootmatrix.pattern import Pattern


def test_its_disk_is_blank(tmp_path: Path) -> None:
    image = prompt_disk("A", tmp_path, Arch.SPARC64)
    assert image.read_bytes() == bytes(DISK_SIZE)
    assert prompt_disk("A", tmp_path, Arch.SPARC64) == image
    with pytest.raises(ValueError, match="label"):
        prompt_disk("a b", tmp_path, Arch.SPARC64)


def test_for_s390x_it_has_a_menu_of_programs_that_are_not_there(tmp_path: Path) -> None:
    """As struct ScsiMbr and BootMapTable of s390-ccw have it, which was found to take it."""
    content = prompt_disk("A", tmp_path, Arch.S390X).read_bytes()
    record, table, rest = content[:512], content[512:1024], content[1024:]
    sector = b"\2\0" + bytes(6)
    assert record == (b"zIPL" + bytes(12) + (1).to_bytes(8, "big") + sector).ljust(512, b"\0")
    assert table == (b"zIPL" + bytes(12) + 2 * ((2).to_bytes(8, "big") + sector)).ljust(512, b"\0")
    assert rest == bytes(DISK_SIZE - 1024)


@pytest.mark.parametrize(("said", "up"), [
    (b"No valid state has been set by load or init-program\r\n\r\n0 > ", True),
    (b" ok\r\n0 > ", True),
    (b"Welcome to OpenBIOS v1.1 built on Oct 29 2026 06:59\r\n", False),
    (b"  Type 'help' for detailed information 0 > ", False),
    (b" [1]\r\n\r\nPlease choose:\r\n", True),
    (b"\r\nError: undefined configuration\r\nPlease choose:\r\r\n", True),
    (b"Please choose (default will boot in 3 seconds):\r\n", False),
    (b"s390-ccw Enumerated Boot Menu.\r\n\r\n [0] default\r\n", False),
])
def test_a_prompt_opens_a_line(said: bytes, *, up: bool) -> None:
    assert (Pattern(GuestKind.PROMPT.up).search(said) is not None) is up
