"""No guest at all: a disk from which nothing boots, and what firmware says then."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.guests import DISK_SIZE
from bootmatrix.guests.prompt import blank_disk
from bootmatrix.model import GuestKind
from bootmatrix.pattern import Pattern


def test_its_disk_is_blank(tmp_path: Path) -> None:
    image = blank_disk("A", tmp_path)
    assert image.read_bytes() == bytes(DISK_SIZE)
    assert blank_disk("A", tmp_path) == image
    with pytest.raises(ValueError, match="label"):
        blank_disk("a b", tmp_path)


@pytest.mark.parametrize(("said", "up"), [
    (b"No valid state has been set by load or init-program\r\n\r\n0 > ", True),
    (b" ok\r\n0 > ", True),
    (b"Welcome to OpenBIOS v1.1 built on Oct 29 2026 06:59\r\n", False),
    (b"  Type 'help' for detailed information 0 > ", False),
])
def test_a_prompt_opens_a_line(said: bytes, *, up: bool) -> None:
    assert (Pattern(GuestKind.PROMPT.up).search(said) is not None) is up
