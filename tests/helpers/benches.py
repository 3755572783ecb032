"""A bench on this host: virtual boards, their labgrid environment files, and cells run on them."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore, cache_home
from bootmatrix.guests import program_of
from bootmatrix.machines.bench.seat import Seat
from bootmatrix.matrix.expansion import load
from bootmatrix.model import Arch, BoardSource, GuestKind
from bootmatrix.records.model import Record
from bootmatrix.run.bench import BenchRunner

PROGRAM = Path(__file__).parents[2] / "examples" / "bench" / "virtual_board.py"
QEMU = "debian-trixie"
OLD, NEW = "seabios-1.16.2", "seabios-1.17.0"



@dataclass(frozen=True)
class VirtualBoard:
    """A board in a directory, with the environment file by which it is reached."""

    directory: Path
    cache: Path

    @property
    def env(self) -> Path:
        """Its environment file."""
        return self.directory.parent / f"{self.directory.name}.yaml"

    @property
    def chip(self) -> Path:
        """What is in its chip."""
        return self.directory / "chip.bin"

    @property
    def source(self) -> BoardSource:
        """As a matrix file names it."""
        return BoardSource(env=self.env)

    @property
    def seat(self) -> Seat:
        """Where its bench keeps what it knows of it."""
        return Seat.of(self.source, self.cache)

    @property
    def programmer(self) -> Path:
        """A flashrom that does not wait, busily, for a second before it verifies.

        That is for real chips' sake. What is in the chip the bench reads back anyway.
        """
        return self.directory.parent / "bin" / "flashrom"

    def fault(self, **faults: Any) -> None:
        """Plant what is wrong with it from now on."""
        (self.directory / "faults.json").write_text(json.dumps(faults))

    def power(self, word: str) -> str:
        """Use its switch, as the command for it does."""
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.directory / "control"))
            control.sendall(word.encode())
            return control.recv(64).decode()

    def describe(self, **changes: Any) -> None:
        """Write its environment file; ``changes`` are parts of the target, None leaves one out."""
        switch = f"{sys.executable} -IS {PROGRAM} power {self.directory}"
        target: dict[str, Any] = {
            "resources": {
                "RawSerialPort": {"port": str(self.directory / "tty")},
                "Flashrom": {"programmer": f"dummy:emulate=VARIABLE_SIZE,"
                                           f"size={self.chip.stat().st_size},"
                                           f"image={self.chip}"},
            },
            "drivers": {
                "SerialDriver": {},
                "ExternalPowerDriver": {"cmd_on": f"{switch} on", "cmd_off": f"{switch} off"},
                "FlashromDriver": {},
            },
            "options": {"bootmatrix-live-flash": True,
                        "bootmatrix-update": str(self.directory / "update.bin")},
        }  # fmt: skip
        whole: dict[str, Any] = {
            "targets": {"main": target}, "tools": {"flashrom": str(self.programmer)}}
        for part, change in changes.items():
            if part in ("tools", "top"):
                whole.update(change if part == "top" else {"tools": change})
                continue
            for name, value in change.items():
                if value is None:
                    target[part].pop(name)
                else:
                    target[part][name] = value
        with self.env.open("w") as file:
            YAML().dump(whole, file)

    # -- cells -----------------------------------------------------------------------------------

    def matrix(self, *steps: Any, **more: Any) -> str:
        """A matrix of one cell on it; ``restore`` and others of its host and of the file."""
        board = f"{{env: {self.env}, restore: {json.dumps(more.pop('restore', False))}}}"
        extra = "".join(f"{key.replace('_', '-')}: {json.dumps(value)}\n"
                        for key, value in more.items() if key not in ("policy", "axes"))
        return (
            "schema: 1\nhosts:\n"
            f"  board: {{board: {board}, firmware: {OLD}}}\n"
            f"  next: {{board: {board}, firmware: {NEW}}}\n"
            "axes: {source: board, destination: next, machine: newest-common, scenario: mine, "
            f"policy: {more.get('policy', 'guest-owned')}}}\n"
            f"scenarios: {{mine: {json.dumps(list(steps))}}}\n{extra}")

    def run(self, directory: Path, *steps: Any, **more: Any) -> Record:
        """Run a cell of these steps on it, here."""
        return self.run_text(directory, self.matrix(
            *steps, **{"patience": 30.0, "boot_timeout": 15.0, **more}))

    def run_text(self, directory: Path, text: str) -> Record:
        """Run the one cell of a matrix."""
        file = directory / "mine.yaml"
        file.write_text(text)
        builds = Builds(ImageStore())
        cell, = load(file).cells(builds.machines)
        builds.prepare(cell.hosts)
        runner = BenchRunner(builds, directory / "run", "test", self.cache)
        with builds, runner:
            return runner.run(cell)


@contextlib.contextmanager
def virtual_board(
    directory: Path, name: str = "board", firmware: str = "", *, uefi: bool = False
) -> Iterator[VirtualBoard]:
    """A virtual board; in its chip is a ``firmware``, by default the one of its QEMU.

    With ``uefi`` it is OVMF, code and variables in one image.
    """
    store = ImageStore()
    for image in (QEMU, "debian-bookworm", "debian-sid"):
        if not store.is_built(image):
            store.build([image], lambda line: None)
    qemu = store.qemu(QEMU)
    there = store.beside(QEMU, "ovmf-4m") if uefi else store.firmware(firmware or qemu.firmware)
    chip = combined(directory, QEMU) if uefi else there.path
    disk = program_of(GuestKind.PROBE, there, Arch.X86_64).disk(
        "A", cache_home(), Arch.X86_64, there)
    board = VirtualBoard(directory / name, directory / "cache")
    serve = subprocess.Popen(  # which ends with a worker of pytest's that is killed, too
        ["setpriv", "--pdeathsig", "TERM", sys.executable, PROGRAM, "serve",
         board.directory, "--root", qemu.root, "--chip", chip, "--disk", disk,
         "--mib", "128" if uefi else "32"],
        stdout=subprocess.PIPE)
    try:
        assert serve.stdout is not None
        assert serve.stdout.readline() == b"ready\n"
        board.programmer.parent.mkdir(exist_ok=True)
        board.programmer.write_text('#!/bin/sh\nexec flashrom --noverify "$@"\n')
        board.programmer.chmod(0o755)
        board.describe()
        yield board
    finally:
        serve.terminate()
        serve.wait()
        # What commands have made of it, which have the cache of all.
        shutil.rmtree(Seat.of(board.source, cache_home()).saved.parent)
        if serve.stdout is not None:
            serve.stdout.close()


def combined(directory: Path, beside: str) -> Path:
    """OVMF of an image, as a file with variables and code."""
    build = ImageStore().beside(beside, "ovmf-4m")
    assert build.variables is not None
    file = directory / f"{beside}.fd"
    file.write_bytes(build.variables.read_bytes() + build.path.read_bytes())
    return file


def image(name: str) -> bytes:
    """The bytes of a firmware of the catalogue."""
    return ImageStore().firmware(name).path.read_bytes()
