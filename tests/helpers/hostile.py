"""Guests that lie, made of the probe guest's source, and a runner that boots them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bootmatrix import guests
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import FirmwareBuild, Host, HostSpec
from bootmatrix.run.runner import Runner

UP = "    print text_up\n"
# Where no command waits: a guest that says what it likes all the time still does what it is told.
IDLE = "    cmp byte [ticks], TICKS_PER_BEAT\n"
AFTER_UP = "    call put_identity\n\nmain_loop:\n"


def printed_by(suite: str) -> str:
    """What a suite's SeaBIOS says its version is."""
    return ImageStore().beside(f"debian-{suite}", "seabios").prints or ""


def banner_in_assembly(text: str = "") -> str:
    """A banner that the guest can say itself; by default bullseye's."""
    text = text or f"SeaBIOS (version {printed_by('bullseye')})"
    return f"text_hostile db 13, 10, '{text}', 13, 10, 0\n"


class RunnerWith(Runner):
    """A runner whose guests and firmware are the test's own."""

    disk: Path | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.firmware: dict[str, FirmwareBuild] = {}

    def boots(self, disk: Path) -> None:
        self.disk = disk

    def setup(self, cell: Cell, hosts: Sequence[Host]) -> GuestSetup:
        setup = super().setup(cell, hosts)
        return replace(setup, disks=(self.disk, self.disk)) if self.disk else setup

    def host(self, spec: HostSpec) -> Host:
        host = super().host(spec)
        return replace(host, firmware=self.firmware.get(spec.name, host.firmware))


SAY = "    mov si, text_hostile\n    call put_string\n"


def probe(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """The probe guest's disk with something hostile in its source."""
    source = guests.PROBE_SOURCE.read_text()
    for before, after in changes:
        assert source.count(before) == 1, before
        source = source.replace(before, after)
    changed = tmp_path / "hostile.asm"
    changed.write_text(source)
    return guests.probe_disk("A", tmp_path, source=changed)


def hostile_probe(tmp_path: Path, code: str, data: str, *, where: str = "after up") -> Path:
    """A probe that does something before its line, once after it, or all the time."""
    place = {
        "before up": (UP, code + UP),
        "after up": (AFTER_UP, f"    call put_identity\n{code}\nmain_loop:\n"),
        "all the time": (IDLE, code + IDLE),
    }[where]
    text = "text_disk_error db"
    return probe(tmp_path, place, ("payload:\n    cli\n", f"payload:\n    jmp hostile_start\n{data}"
                                   "hostile_start:\n    cli\n"), (text, text))
