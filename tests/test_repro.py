"""Generated scripts, run by bash alone, see what the harness sees; and the attached console."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cells import cell

from harness import repro
from harness.attach import steps_until
from harness.builds import Builds
from harness.chosen import from_matrix, from_records
from harness.errors import UserError
from harness.guest_files import setup_of
from harness.images import ImageStore, cache_home
from harness.model import Cell, GuestKind
from harness.records import RecordWriter
from harness.runner import Runner
from harness.scenarios import LIBRARY

MATRIX = Path(__file__).parent.parent / "matrices" / "quickstart.yaml"
SILENT = "bullseye-to-sid,pc-q35-5.2,stock,migrate-reset,ahci"


def uefi(route: str, policy: str, scenario: str) -> Cell:
    wanted = cell(route, policy, scenario, machine="pc-q35-5.2", disk="virtio", seconds=60)
    return replace(wanted, smp=2, hosts=tuple(
        replace(host, firmware="ovmf-4m") for host in wanted.hosts))


CELLS = [
    cell("bullseye sid", "stock"),
    cell("bullseye sid", "guest-owned", "migrate-restart"),
    cell("bullseye sid", "machine-owned"),
    cell("bullseye sid", "stock", machine="pc-q35-5.2", disk="ahci", seconds=3),
    cell("sid trixie", "machine-owned", "ping-pong"),
    cell("bookworm sid", "reread", "host-upgrade-reset"),
    cell("bullseye sid", "guest-owned", "nvram-upgrade-migrate-reset"),
    cell("bullseye sid", "stock", "save-restore-reset"),
    cell("bookworm sid", "guest-owned-versioned", "move", machine="default"),
    cell("bullseye sid", "guest-owned", "guest-flash-migrate-reset"),
    uefi("bullseye bookworm", "guest-owned", "variables-migrate-restart"),
    uefi("bookworm trixie", "machine-owned", "variables-migrate-reset"),
    replace(cell("bullseye sid", "machine-owned", "migrate-suspend-wake-reset", seconds=60),
            guest=GuestKind.LINUX_KERNEL),
]


def script_of(wanted: Cell, store: ImageStore) -> str:
    with Builds(store) as builds:
        hosts = [builds.host(host) for host in wanted.hosts]
        return repro.script(wanted, setup_of(wanted, hosts, cache_home()))


def run(script: str, work: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    work.mkdir()
    # Nothing of the harness: no Python, no environment of its own.
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120,
                          env={"PATH": os.environ["PATH"], "WORK": str(work)} | environment)


def banners(output: str) -> list[list[str]]:
    """The versions in the banners of each boot."""
    return [re.findall(r"version ([^()]+)\)", line)
            for line in output.splitlines() if line.startswith("boot ")]


def test_what_the_scripts_need_is_installed() -> None:
    assert shutil.which("socat")
    assert shutil.which("gdb")


@pytest.mark.parametrize("wanted", CELLS, ids=lambda wanted: wanted.id)
def test_a_script_sees_the_banners_of_the_record(
    wanted: Cell, store: ImageStore, runner: Runner, tmp_path: Path
) -> None:
    record = runner.run(wanted).to_json()
    assert record["boots"], record["reason"]
    done = run(script_of(wanted, store), tmp_path / "work")
    assert done.stderr == ""
    assert banners(done.stdout) == [boot["banners"] for boot in record["boots"]], done.stdout
    up = [boot["counter"] for boot in record["boots"] if boot["up"]]
    assert [int(n) for n in re.findall(r"^BOOTMATRIX up boot=(\d+)", done.stdout, re.M)] == up
    assert done.returncode == (0 if record["boots"][-1]["up"] else 1)


@pytest.mark.parametrize("name", sorted(LIBRARY))
@pytest.mark.parametrize("policy", ["guest-owned-versioned", "machine-owned", "reread"])
def test_every_scenario_makes_a_script_that_bash_can_read(
    name: str, policy: str, store: ImageStore
) -> None:
    if policy != "guest-owned-versioned" and "nvram" in name:
        return
    route = "bullseye bookworm sid"
    wanted = cell(" ".join(route.split()[: LIBRARY[name].hosts_needed]), policy, name)
    done = subprocess.run(["bash", "-n"], input=script_of(wanted, store), capture_output=True,
                          text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_qemu_of_ones_own_is_taken(store: ImageStore, tmp_path: Path) -> None:
    false = tmp_path / "no-qemu"
    false.write_text("#!/bin/sh\necho 'planted: no QEMU' >&2\nexit 1\n")
    false.chmod(0o755)
    done = run(script_of(cell("sid", "stock", "cold-boot"), store), tmp_path / "work",
               SOURCE_QEMU=str(false))
    assert done.returncode == 1
    assert "planted: no QEMU" in done.stdout


def test_another_firmware_is_seen(store: ImageStore, tmp_path: Path) -> None:
    other = store.firmware("seabios-1.16.3-2").path
    done = run(script_of(cell("sid", "stock", "cold-boot"), store), tmp_path / "work",
               SOURCE_FIRMWARE=str(other))
    assert banners(done.stdout) == [["1.16.3-debian-1.16.3-2"]]


def test_a_swap_that_does_not_happen_is_told(store: ImageStore, tmp_path: Path) -> None:
    script = script_of(cell("bullseye sid", "machine-owned"), store)
    assert script.count('"restore $2 ') == 2
    done = run(script.replace('"restore $2 ', '"echo $2 '), tmp_path / "work")
    assert done.returncode == 3
    assert "the swap failed" in done.stdout
    assert banners(done.stdout) == [["1.14.0-2"], ["1.14.0-2"]]


# ---- which cell? ------------------------------------------------------------------------------


def test_a_cell_of_a_record_is_that_of_its_matrix(
    store: ImageStore, runner: Runner, tmp_path: Path
) -> None:
    wanted = cell("sid trixie", "stock", seconds=7)
    with RecordWriter(tmp_path / "records.jsonl") as writer:
        writer.write(runner.run(wanted).to_json())
    with Builds(store) as builds:
        found = from_records(wanted.id, tmp_path / "records.jsonl", builds)
        assert (found.id, found.scenario) == (wanted.id, wanted.scenario)
        assert found.seconds == 7
        with pytest.raises(UserError, match="no record of a cell sid-to-trixie,x"):
            from_records("sid-to-trixie,x", tmp_path / "records.jsonl", builds)
        with pytest.raises(UserError, match=r"no such cell: .*near it: bullseye-to-sid"):
            from_matrix(SILENT.replace("sid", "sod"), MATRIX, builds)


def test_a_step_that_is_not_there() -> None:
    wanted = cell("sid trixie", "stock", "ping-pong")
    assert len(steps_until(wanted, "reset:2")) == 5
    assert len(steps_until(wanted, "2")) == 2
    for until in ("reset:3", "6", "shutdown", "reset:x", "reset:0"):
        with pytest.raises(UserError, match=f"--until {until}: no such step"):
            steps_until(wanted, until)


# ---- attach -------------------------------------------------------------------------------------


@contextmanager
def attached(*arguments: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; from harness.cli import main; sys.exit(main())",
         "repro", "--attach", "--matrix", str(MATRIX), *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            yield ours, process
        finally:
            process.kill()
            os.close(ours)


def read_until(terminal: int, wanted: bytes, text: bytes = b"") -> bytes:
    end = time.monotonic() + 60
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
            capture_output=True, timeout=20).stdout
        assert b"VM status: running" in answer
        gdb = subprocess.run(
            ["gdb", "-nx", "-batch", "-ex", f"target remote {paths[1]}", "-ex", "x/1xb 0xffff0",
             "-ex", "detach"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60).stdout
        assert b"0xffff0:\t0xea" in gdb  # the reset vector's far jump
        os.write(terminal, b"?")
        read_until(terminal, b"BOOTMATRIX here boot=1")
        os.write(terminal, b"\x1d")
        read_until(terminal, b"nothing is left")
        assert process.wait(30) == 0
        assert not paths[0].parent.exists()


def test_a_guest_that_hangs_can_be_attached_to_and_a_kill_leaves_nothing(
    store: ImageStore,
) -> None:
    with attached(SILENT) as (terminal, process):
        text = read_until(terminal, b"What it has said:")
        assert b"step 3, reset: no banner; the guest is not up within 5 s" in text
        directory = Path(re.findall(rb"(/\S+)/\S+\.sock", text)[0].decode())
        assert directory.exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
        assert not directory.exists()


def test_the_json_of_list_names_what_repro_takes(store: ImageStore) -> None:
    listed = subprocess.run(
        [sys.executable, "-c", "import sys; from harness.cli import main; sys.exit(main())",
         "list", str(MATRIX), "--json"], capture_output=True, text=True, timeout=60)
    assert SILENT in [row["id"] for row in json.loads(listed.stdout)]
