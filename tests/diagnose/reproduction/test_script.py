"""Generated scripts, run by bash alone, see what the harness sees; and the attached console."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore, cache_home
from bootmatrix.cell import Cell
from bootmatrix.diagnose import reproduction
from bootmatrix.files.shipped import IMAGES
from bootmatrix.guests import probe_disk
from bootmatrix.machines.setup import setup_of
from bootmatrix.model import Disk, GuestKind, OwnDisk, OwnGuest
from bootmatrix.run.runner import Runner
from bootmatrix.steps.library import LIBRARY
from bootmatrix.vm import read
from helpers.cells import cell


def uefi(route: str, policy: str, scenario: str) -> Cell:
    wanted = cell(route, policy, scenario, machine="pc-q35-5.2", disk="ahci", seconds=60)
    return replace(wanted, hosts=tuple(
        replace(host, firmware="ovmf-4m") for host in wanted.hosts))


CELLS = [
    cell("bullseye sid", "stock"),
    cell("bullseye sid", "guest-owned", "migrate-restart"),
    cell("bullseye sid", "machine-owned"),
    cell("bullseye sid", "stock", machine="pc-q35-5.2", disk="ahci", seconds=1.5),
    *(pytest.param(wanted, marks=pytest.mark.thorough) for wanted in (
        replace(cell("sid trixie", "machine-owned", "ping-pong"), smp=2),
        cell("bookworm sid", "reread", "host-upgrade-reset"),
        cell("bullseye sid", "guest-owned", "nvram-upgrade-migrate-reset"),
        cell("bullseye sid", "stock", "save-restore-reset"))),
    cell("bookworm sid", "guest-owned-versioned", "move", machine="default"),
    cell("bullseye sid", "guest-owned", "guest-flash-migrate-reset"),
    # From trixie, where the guest's firmware stays: it boots in half the time of the older ones.
    *(pytest.param(wanted, marks=pytest.mark.slow) for wanted in (
        uefi("trixie bookworm", "guest-owned", "variables-migrate-restart"),
        uefi("trixie sid", "machine-owned", "variables-migrate-reset"),
        replace(cell("bullseye sid", "machine-owned", "migrate-suspend-wake-reset", seconds=240),
                guest=GuestKind.LINUX_KERNEL))),
]


def script_of(wanted: Cell, store: ImageStore) -> str:
    with Builds(store) as builds:
        hosts = [builds.host(host) for host in wanted.hosts]
        return reproduction.script(wanted, setup_of(wanted, hosts, cache_home()))


def run(script: str, work: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    work.mkdir()
    # Nothing of the harness: no Python, no environment of its own.
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300,
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
    record = runner.run(wanted)
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
    other = store.beside("debian-trixie", "seabios")
    done = run(script_of(cell("sid", "stock", "cold-boot"), store), tmp_path / "work",
               SOURCE_FIRMWARE=str(other.path))
    assert banners(done.stdout) == [[other.prints]]


def test_a_swap_that_does_not_happen_is_told(store: ImageStore, tmp_path: Path) -> None:
    script = script_of(cell("bullseye sid", "machine-owned"), store)
    assert script.count('"restore $2 ') == 2
    done = run(script.replace('"restore $2 ', '"echo $2 '), tmp_path / "work")
    assert done.returncode == 3
    assert "the swap failed" in done.stdout
    assert banners(done.stdout) == [[store.beside("debian-bullseye", "seabios").prints]] * 2


# ---- which cell? ------------------------------------------------------------------------------


# ---- attach -------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_machine_and_a_disk_of_ones_own(
    store: ImageStore, runner: Runner, tmp_path: Path
) -> None:
    image = tmp_path / "it's mine.img"
    image.write_bytes(probe_disk("A", cache_home()).read_bytes())
    machine = read(IMAGES.parent / "examples" / "vm" / "old-pc.sh", memory=256).machine
    # The probe's beat stands for a login: it is said again and again.
    guest = OwnGuest("mine", GuestKind.DISK, machine, OwnDisk(image, "raw"), r"BEAT|beat boot=\d")
    wanted = replace(cell("trixie bookworm", "stock"), machine=machine.machine, guest=guest,
                     disk=Disk.OWN)
    record = runner.run(wanted)
    assert record["verdict"] == "pass", record["reason"]
    script = script_of(wanted, store)
    assert "-smp 2" in script
    done = run(script, tmp_path / "work")
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    assert banners(done.stdout) == [boot["banners"] for boot in record["boots"]], done.stdout
    assert len(re.findall(r"^.*beat boot=", done.stdout, re.M)) == 3
