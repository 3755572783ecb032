"""Somebody's machines, and machine options, on real QEMUs: what public reports are about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.arguments import ArgumentSet
from bootmatrix.builds.image_store import cache_home
from bootmatrix.cell import Cell
from bootmatrix.files.shipped import IMAGES
from bootmatrix.guests import linux_disk, linux_kernel, probe_disk
from bootmatrix.model import Arch, Disk, GuestKind, HostSpec, Limits, Nic, OwnDisk, OwnGuest
from bootmatrix.policies import Policy
from bootmatrix.records.model import Record
from bootmatrix.run.runner import Runner
from bootmatrix.steps.base import Scenario
from bootmatrix.steps.library import LIBRARY, parse
from bootmatrix.vm import read

EXAMPLES = IMAGES.parent / "examples" / "vm"
MIGRATE = Scenario("migrate", LIBRARY["migrate-reset"].steps[:2])
QUEUE = "queue-size: VQ 0 vring.num 1024 exceeds allocated max"


def run(
    runner: Runner, pair: str, machine: str, scenario: Scenario = MIGRATE,
    firmware: str | None = None, more: Mapping[str, tuple[str, ...]] | None = None, **axes: object,
) -> Record:
    arch = Arch(str(axes.get("arch", Arch.X86_64)))
    hosts = tuple(HostSpec(name, f"debian-{name.partition('-')[0]}", firmware, arch,
                           (more or {}).get(name, ())) for name in pair.split())
    cell = Cell(hosts[:scenario.hosts_needed], machine, Policy.STOCK, scenario, seconds=60.0,
                **axes)  # type: ignore[arg-type]
    return runner.run(cell)


def own(
    runner: Runner, file: str, pair: str, scenario: Scenario = MIGRATE,
    firmware: str | None = None,
) -> Record:
    found = read(EXAMPLES / file, memory=512 if "desktop" in file or "numa" in file else 256)
    guest = OwnGuest("mine", GuestKind.PROBE, found.machine)
    return run(runner, pair, found.machine.machine, scenario, firmware, guest=guest,
               disk=Disk.OWN, arch=found.machine.arch)


# Two pairs of versions each: where QEMU refuses, by the cause that a report about it names.
@pytest.mark.parametrize(("file", "pair", "firmware", "refused"), [
    ("old-pc.sh", "trixie bookworm", None, ""),
    ("old-pc.sh", "trixie sid", None, QUEUE),
    pytest.param("desktop.log", "bookworm trixie", "ovmf-4m", "", marks=pytest.mark.slow),
    pytest.param("desktop.log", "trixie sid", "ovmf-4m", QUEUE, marks=pytest.mark.thorough),
    pytest.param("numa.ps.txt", "bookworm trixie", "ovmf-4m", "", marks=pytest.mark.slow),
])
def test_a_pasted_machine_moves_or_is_refused_by_its_cause(
    runner: Runner, file: str, pair: str, firmware: str | None, refused: str
) -> None:
    record = own(runner, file, pair, firmware=firmware)
    assert record["verdict"] == ("blocked" if refused else "pass"), record["reason"]
    assert refused in record["reason"]
    assert record["cell"]["guest"] == "mine"
    first = record["qemus"][0]["argv"]
    assert any("drive=disk" in word for word in first)


# A microvm has no versions, and of aarch64 no two migrate under TCG, whatever the machine: they are
# shut down, and started by the next.
@pytest.mark.parametrize(("file", "route", "firmware"), [
    ("microvm.sh", "bookworm trixie sid", "seabios-microvm"),
    pytest.param("arm.xml", "trixie sid", None, marks=pytest.mark.slow),
])
def test_a_pasted_machine_that_does_not_migrate_moves(
    runner: Runner, file: str, route: str, firmware: str | None
) -> None:
    others = len(route.split()) - 1
    moves: list[Any] = ["start"]
    for host in ("destination", "host-3")[:others]:
        moves += ["shutdown", {"start": {"on": host}}]
    record = own(runner, file, route, parse("moves", moves), firmware)
    assert record["verdict"] == "pass", record["reason"]
    assert [boot["up"] for boot in record["boots"]] == [True] * (1 + others)


def test_q35_without_acpi_tells_of_two_cpus_or_of_one(runner: Runner) -> None:
    seen = {}
    for host in ("trixie", "sid"):
        record = run(runner, host, "pc-q35-10.0,acpi=off", LIBRARY["cold-boot"], smp=2)
        boot = record["boots"][0]
        seen[host] = record["verdict"], boot["cpus"], boot["acpi"] == "00000000"
        assert "acpi=off" in " ".join(record["qemus"][0]["argv"])
    # SeaBIOS 1.16.3 makes tables of its own, 1.17.0 offers no RSDP, and an MP table with one CPU.
    assert seen == {"trixie": ("pass", 2, False), "sid": ("wrong-hardware", 1, True)}


def test_maxcpus_that_differ_between_hosts(runner: Runner) -> None:
    more = {"sid-64": ("-smp", "4,maxcpus=64")}
    record = run(runner, "sid sid-64", "pc-q35-10.0", more=more, smp="4,maxcpus=4")
    assert record["verdict"] == "blocked"
    assert "missing-section: Missing section footer for" in record["reason"]
    assert record["reason"].endswith("ICH9LPC")
    assert record["cell"]["destination"]["arguments"] == list(more["sid-64"])
    assert record["cell"]["smp"] == "4,maxcpus=4"


def test_sets_of_arguments_are_in_the_record_in_full(runner: Runner) -> None:
    usb = ArgumentSet("usb", ("qemu-xhci", "usb-tablet"))
    numa = ArgumentSet("numa", ("-object", "memory-backend-ram,id=a,size=64M", "-numa",
                                "node,memdev=a"))
    record = run(runner, "bookworm trixie", "pc-q35-7.2", memory=64, devices=usb, arguments=numa,
                 cpu="qemu64,-svm")
    assert record["verdict"] == "pass", record["reason"]
    assert record["cell"]["id"].endswith("cpu-qemu64,-svm,memory-64,arguments-numa,devices-usb")
    assert record["cell"]["words"] == {"arguments": list(numa.words), "devices": list(usb.words)}
    assert 62 << 10 < (record["boots"][0]["memory"] or 0) <= 64 << 10


def test_romsize_is_that_of_the_largest_file(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"10.0.13": 262144, "11.1.3": 262145}
    monkeypatch.setattr("bootmatrix.machines.qemu.machine.rom_bytes",
                        lambda build, name: sizes[build.version])
    record = run(runner, "trixie sid", "pc-q35-7.2", nic=Nic.VIRTIO_ROMSIZE)
    assert all(any("romsize=524288" in word for word in qemu["argv"]) for qemu in record["qemus"])


def test_a_disk_of_the_users_is_up_by_its_word_and_never_written(
    runner: Runner, tmp_path: Path
) -> None:
    image = tmp_path / "mine.img"
    image.write_bytes(probe_disk("A", cache_home()).read_bytes())
    before = image.read_bytes()
    # The probe's beat stands for a login: it is said again and again.
    guest = OwnGuest("mine", GuestKind.DISK, None, OwnDisk(image, "raw"), r"BOOTMATRIX beat boot=")
    record = run(runner, "bookworm trixie", "pc-i440fx-7.2", LIBRARY["migrate-reset"],
                 guest=guest, disk=Disk.IDE)
    assert record["verdict"] == "pass", record["reason"]
    assert [boot["up"] for boot in record["boots"]] == [True, True]
    assert image.read_bytes() == before
    argv = " ".join(record["qemus"][0]["argv"])
    assert "driver=qcow2,node-name=disk" in argv
    assert "backing=base" in argv
    assert str(image) not in argv


# A Linux with a getty, a password and a shell, as a distribution has them: our kernel's disk, with
# another first process.
GETTY = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs devtmpfs /dev
$b mount -t sysfs sysfs /sys
$b cat >/bin/ask <<'END'
#!/bin/busybox sh
printf 'Password: '
read -r word
[ "$word" = secret ] || exit
exec /bin/busybox sh -i
END
$b chmod 755 /bin/ask
$b hostname appliance
while :; do
    $b setsid $b getty -L -l /bin/ask 115200 ttyS0 vt100
done
"""


@pytest.mark.thorough
def test_a_login_and_what_a_command_says_of_smbios(runner: Runner, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "init").write_text(GETTY)
    (sources / "guest.c").write_text("int main(void) { return 0; }\n")
    kernel, cache = linux_kernel(cache_home()).kernel.parent, tmp_path / "cache"
    cache.mkdir()
    (cache / kernel.name).symlink_to(kernel)  # what is in Debian's packages is the same
    image = linux_disk("A", cache, sources=sources)
    guest = OwnGuest(
        "appliance", GuestKind.DISK, None, OwnDisk(image, "raw"), "appliance login: ",
        "/bin/busybox cat /sys/class/dmi/id/bios_version",
        (("login: ", "root"), ("Password: ", "secret")))
    record = run(runner, "trixie bookworm", "pc-q35-7.2", guest=guest, disk=Disk.AHCI)
    assert record["verdict"] == "pass", record["reason"]
    boot = record["boots"][0]
    assert boot["smbios"] == [None, boot["banners"][0]]


@pytest.mark.parametrize(("limits", "more", "said"), [
    (Limits(memory=1100), ("-m", "1024"), "sandbox-memory: "),
    (Limits(file=64), ("-object", "memory-backend-memfd,id=m,size=128M"), "sandbox-file: "),
    (Limits(processes=4), (), "sandbox-processes: "),
], ids=["memory", "file", "processes"])
def test_a_limit_that_qemu_meets_is_told(
    runner: Runner, limits: Limits, more: tuple[str, ...], said: str
) -> None:
    arguments = ArgumentSet("more", more)
    record = run(runner, "trixie", "pc-q35-10.0", LIBRARY["cold-boot"], limits=limits,
                 arguments=arguments)
    assert record["verdict"] == "blocked"
    assert said in record["reason"], record["reason"]
    assert f"its sandbox has {max(limits.given.values())} " in record["reason"]
    assert record["cell"]["limits"] == limits.given
