"""A cell's guest in one's own hands."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore, cache_home
from bootmatrix.diagnose import attach
from bootmatrix.engines import Engine
from bootmatrix.files.cell_files import temporary
from bootmatrix.files.shipped import IMAGES
from bootmatrix.guests import probe_disk
from bootmatrix.model import Disk, GuestKind, OwnDisk, OwnGuest
from bootmatrix.vm import read
from helpers.cells import cell

MATRIX = Path(__file__).parents[2] / "matrices" / "quickstart.yaml"
SILENT = "bullseye-to-sid,pc-q35-5.2,stock,migrate-reset,ahci"


@contextmanager
def attached(
    *arguments: str, matrix: Path = MATRIX
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; from bootmatrix.__main__ import main; sys.exit(main())",
         "repro", "--attach", "--matrix", str(matrix), *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            yield ours, process
        finally:
            process.kill()
            os.close(ours)


def read_until(terminal: int, wanted: bytes, text: bytes = b"") -> bytes:
    end = time.monotonic() + 300
    while wanted not in text:
        assert select.select([terminal], [], [], max(0, end - time.monotonic()))[0], text
        text += os.read(terminal, 4096)
    return text


def test_the_console_of_a_cell_in_ones_hands(store: ImageStore) -> None:
    with attached("bullseye-to-sid,pc-i440fx-5.2,stock,migrate-reset,ide", "--until",
                  "migrate") as (terminal, process):
        text = read_until(terminal, b"disk=\"A\"")
        assert b"step 2, migrate: done" in text
        assert b"step 3" not in text
        paths = [Path(path.decode()) for path in re.findall(rb"(/\S+\.sock)", text)]
        assert len(paths) == 2
        assert all(path.is_socket() for path in paths)
        answer = subprocess.run(
            ["socat", "-t", "2", "-", f"UNIX-CONNECT:{paths[0]}"], input=b"info status\n",
            capture_output=True, timeout=300).stdout
        assert b"VM status: running" in answer
        gdb = subprocess.run(
            ["gdb", "-nx", "-batch", "-ex", f"target remote {paths[1]}", "-ex", "x/1xb 0xffff0",
             "-ex", "detach"], stdin=subprocess.DEVNULL, capture_output=True, timeout=300).stdout
        assert b"0xffff0:\t0xea" in gdb  # the reset vector's far jump
        os.write(terminal, b"?")
        read_until(terminal, b"BOOTMATRIX here boot=1")
        os.write(terminal, b"\x1d")
        read_until(terminal, b"nothing is left")
        assert process.wait(300) == 0
        assert not paths[0].parent.exists()


@pytest.mark.thorough
def test_a_guest_that_hangs_can_be_attached_to_and_a_kill_leaves_nothing(
    store: ImageStore, tmp_path: Path
) -> None:
    matrix = tmp_path / "impatient.yaml"
    matrix.write_text(MATRIX.read_text().replace("\nboot-timeout: 5 ", "\nboot-timeout: 1 "))
    with attached(SILENT, matrix=matrix) as (terminal, process):
        text = read_until(terminal, b"What it has said:")
        assert b"step 3, reset: no banner; the guest is not up within 1 s" in text
        directory = Path(re.findall(rb"(/\S+)/\S+\.sock", text)[0].decode())
        assert directory.exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 130
        assert not directory.exists()


def test_a_guest_of_ones_own(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> None:
    image = tmp_path / "mine.img"
    image.write_bytes(probe_disk("A", cache_home()).read_bytes())
    machine = read(IMAGES.parent / "examples" / "vm" / "old-pc.sh", memory=128).machine
    guest = OwnGuest("mine", GuestKind.DISK, machine, OwnDisk(image, "raw"), r"beat boot=")
    wanted = replace(cell("trixie", "stock", "cold-boot"), machine=machine.machine, guest=guest,
                     disk=Disk.OWN)
    with Builds(store) as builds, temporary("bootmatrix-") as directory, attach.attached(
            wanted, wanted.scenario.steps, builds, bubblewrap, directory) as given:
        assert "beat boot=" in given.so_far
        assert given.monitor.is_socket()
    assert image.read_bytes() == probe_disk("A", cache_home()).read_bytes()
