"""What preflight foretells, on data that differs in one place, and on real QEMUs."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cli.main import main
from bootmatrix.cli.preflight import own_disk
from bootmatrix.deadline import Deadline
from bootmatrix.diagnose import preflight
from bootmatrix.diagnose.preflight import (
    Block,
    Kind,
    MachineFacts,
    Obstacle,
    blocks_in,
    compare,
    facts,
    machine_findings,
    sections_in,
    taken_all_the_same,
)
from bootmatrix.engines import Engine
from bootmatrix.errors import QemuError
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Arch, FirmwareBuild, Host, HostSpec, QemuBuild
from bootmatrix.policies import Policy
from bootmatrix.witnesses.refusal import Refusal

HOST = Host("h", QemuBuild("q", "1.0", "", Path(), machines=("m",), default_machine="m"),
            FirmwareBuild("f", "", 0, Path()))


def entry(name: str, size: int = 4, **more: Any) -> dict[str, Any]:
    return {"field": name, "version_id": 0, "field_exists": False, "size": size} | more


def told(*fields: dict[str, Any], version: int = 2, least: int = 1,
         subsections: tuple[str, ...] = ()) -> MachineFacts:
    description = {
        "name": "dev", "version_id": version, "minimum_version_id": least, "Fields": list(fields),
        "Subsections": [{"name": f"dev/{name}", "version_id": 1, "minimum_version_id": 1,
                         "Fields": []} for name in subsections],
    }
    return MachineFacts(HOST, "m", {"pc.ram": Block(64, 64), "tables": Block(8, 32)}, ("device",),
                        {"device": {"Name": "device", "Description": description},
                         "vmschkmachine": {"Name": "m"}}, ("dev",))


OLD = told(entry("a"), entry("b"), entry("late", version_id=3))


def changed(**fields: Any) -> MachineFacts:
    return MachineFacts(**(vars(copy.deepcopy(OLD)) | fields))


@pytest.mark.parametrize(("new", "kind", "refuses"), [
    (OLD, None, False),
    (told(entry("a"), entry("renamed")), None, False),
    (told(entry("a"), entry("b1", 2), entry("b2", 2)), None, False),
    (told(entry("a"), entry("b"), entry("later", version_id=4), version=4), None, False),
    (told(entry("a")), Kind.FIELD, True),
    (told(entry("a"), entry("b"), entry("c")), Kind.FIELD, True),
    (told(entry("a"), entry("b"), entry("c", field_exists=True)), Kind.FIELD, False),
    (told(entry("a"), entry("b", 8)), Kind.FIELD, True),
    (told(entry("a"), entry("b"), version=1), Kind.SECTION, True),
    (told(entry("a"), entry("b"), version=4, least=3), Kind.SECTION, True),
    (changed(sections=()), Kind.SECTION, True),
    (changed(blocks={"pc.ram": Block(64, 64)}), Kind.RAM, True),
    (changed(blocks={"pc.ram": Block(32, 32), "tables": Block(8, 32)}), Kind.RAM, True),
    (changed(blocks={"pc.ram": Block(64, 64), "tables": Block(2, 4)}), Kind.RAM, True),
    (changed(blocks={"pc.ram": Block(64, 64), "tables": Block(16, 32)}), None, False),
])  # fmt: skip
def test_one_difference(new: MachineFacts, kind: Kind | None, refuses: bool) -> None:
    found = compare(OLD, new)
    assert [(one.kind, one.refuses) for one in found] == ([(kind, refuses)] if kind else [])


def test_boards_have_disks_of_their_own() -> None:
    found = [own_disk(machine) for machine in ("pc-q35-5.2", "pc-i440fx-5.2", "isapc", "microvm")]
    assert found == ["ahci", "ide", "ide", "virtio"]
    assert own_disk("virt-5.2", Arch.AARCH64) == own_disk("virt", Arch.RISCV64) == "virtio"
    assert own_disk("a-board-that-nobody-knows") == "ide"


@pytest.mark.parametrize(("arguments", "refused"), [
    # The list of an Arm CPU's registers, which only loading tells (docs/stock-qemu.md).
    pytest.param(("debian-bullseye", "debian-sid", "--machine", "virt-5.2", "--arch", "aarch64"),
                 True, marks=pytest.mark.slow),
    (("debian-bookworm/ovmf-4m", "debian-sid/ovmf-4m", "--machine", "pc-q35-5.2"), False),
    # Another layout of the flash: its code and its variables are other blocks.
    (("debian-bookworm/ovmf-2m", "debian-sid/ovmf-4m", "--machine", "pc-q35-5.2"), True),
    (("debian-bullseye", "debian-sid", "--machine", "pc-q35-5.2", "--nic", "e1000"), False),
])  # fmt: skip
def test_other_boards_firmware_and_cards(
    arguments: tuple[str, ...], refused: bool, store: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination, *more = arguments
    status = main(["preflight", "--source", source, "--destination", destination, *more,
                   "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (status, told["refused"]) == (int(refused), refused)
    if refused:
        found = [row["text"] for row in told["findings"] if row["refuses"]]
        assert {text.split()[0] for text in found} == {"system.flash0", "system.flash1"} or (
            "device 'cpu'" in found[0])


def test_a_stopped_guests_stream_is_loaded(
    store: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ["preflight", "--source", "debian-trixie", "--destination", "debian-sid", "--machine",
            "pc-q35-10.0", "--json"]
    for more, refuses, depends in (
            (["--nic", "virtio"], True, False),
            (["--disk", "virtio"], False, True), (["--nic", "e1000"], False, False)):
        status = main([*pair, *more])
        told = json.loads(capsys.readouterr().out)["findings"]
        assert status == int(refuses or depends)
        assert any(row["refuses"] for row in told) is refuses
        assert any(row["depends"] for row in told) is depends
        assert refuses + depends == sum("VQ 0 vring.num" in row["text"] for row in told)


def test_a_subsection_that_is_not_there_is_a_warning() -> None:
    found = compare(told(subsections=("x",)), told())
    assert found == (Obstacle(Kind.SUBSECTION, False,
                             "dev/x is not there: refused, if it is sent"),)


def test_of_two_devices_of_one_name_the_one_that_is_there_is_meant() -> None:
    other = copy.deepcopy(OLD.vmstate["device"])
    other["Description"]["Fields"] = [entry("isa", 99)]
    assert not compare(OLD, changed(vmstate={**OLD.vmstate, "isa-device": other}))


def test_a_source_that_lets_no_guest_go() -> None:
    stuck = changed(stuck="State blocked by non-migratable device 'nvme'")
    assert [(one.kind, one.refuses, one.text) for one in compare(stuck, OLD)] == [
        (Kind.STREAM, True, "the source lets no guest go: State blocked by non-migratable device "
         "'nvme'")]
    assert not compare(OLD, stuck)


QTREE = """\
bus: main-system-bus
  type System
  dev: q35-pcihost, id ""
    bus: pcie.0
      type PCIE
      dev: virtio-blk-pci, id "a"
        addr = 03.0
        romfile = ""
        bus: virtio-bus
          type virtio-pci-bus
          dev: virtio-blk-device, id ""
            drive = "disk"
            num-queues = 2 (0x2)
            queue-size = 256 (0x100)
      dev: virtio-blk-pci, id "b"
        addr = 04.0
        bus: virtio-bus
          dev: virtio-blk-device, id ""
            num-queues = 1 (0x1)
      dev: VGA, id ""
        addr = 01.0
"""


@pytest.mark.parametrize(("device", "refuses"), [
    ("0000:00:03.0/virtio-blk", True), ("0000:00:04.0/virtio-blk", False),
    ("0000:00:05.0/virtio-scsi", False), ("0000:00:05.0/virtio-net", True),
])
def test_a_disk_with_more_queues_than_seabios_shortens_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, refuses: bool
) -> None:
    @contextlib.contextmanager
    def stopped(engine: Engine, setup: object, host: int, *, incoming: bool) -> Iterator[Any]:
        yield SimpleNamespace(
            private=tmp_path, clock=SimpleNamespace(deadline=Deadline.after),
            log_tail=lambda: f"error while loading state for instance 0x0 of device '{device}'")

    message = "VQ 0 vring.num 1024 exceeds allocated max 256"
    monkeypatch.setattr(preflight, "_stopped", stopped)
    monkeypatch.setattr(preflight, "restore", lambda vm, path, deadline: SimpleNamespace(
        refusal=Refusal("queue-size", message)))
    told = QTREE.replace("\n", "\r\n")  # as the monitor has it
    source = changed(stream=b"QEVM", queues=preflight.queues_in(told))
    (found,) = preflight.loaded(
        cast(Engine, None), cast(GuestSetup, SimpleNamespace(hosts=[HOST, HOST])), source)
    assert (found.refuses, found.depends) == (refuses, device[-4:] != "-net" and not refuses)
    assert f"{message}, of {device}" in found.text
    assert ("2 queues" in found.text) is ("03.0" in device)


def test_a_machine_that_a_qemu_does_not_start_is_refused() -> None:
    ended = changed(refused=Refusal("missing-feature", "'x' is not a valid device model name"))
    for old, new, roles in ((ended, OLD, ["source"]), (OLD, ended, ["destination"]),
                            (ended, ended, ["source", "destination"])):
        assert [(one.kind, one.refuses, one.text) for one in compare(old, new)] == [
            (Kind.START, True, f"the {role}, QEMU 1.0, does not start with this machine: "
             "missing-feature: 'x' is not a valid device model name") for role in roles]


def test_what_the_destination_takes_all_the_same_is_a_warning() -> None:
    (lost,) = compare(OLD, changed(sections=()))
    taken = taken_all_the_same(lost)
    assert (taken.refuses, taken.kind) == (False, Kind.SECTION)
    assert "dev is not there, but the destination takes" in taken.text
    warning = Obstacle(Kind.SUBSECTION, False, "x")
    assert taken_all_the_same(warning) is warning


def test_machine_types() -> None:
    assert machine_findings(HOST, HOST, "m") == ()
    assert machine_findings(HOST, HOST, "default") == ()
    assert [one.text for one in machine_findings(HOST, HOST, "n")] == [
        "the source, QEMU 1.0, has no n", "the destination, QEMU 1.0, has no n"]


def test_what_the_monitor_and_a_stream_tell() -> None:
    text = ("              Block Name    PSize              Offset               Used      Total\n"
            "                  pc.ram    4 KiB  0x0000000000000000 0x0000000002000000 "
            "0x0000000002000000 rw\n"
            "    /rom@etc/acpi/tables    4 KiB  0x0000000002100000 0x0000000000020000 "
            "0x0000000000200000 ro\n")
    assert blocks_in(text) == {"pc.ram": Block(32 << 20, 32 << 20),
                               "/rom@etc/acpi/tables": Block(128 << 10, 2 << 20)}
    end = json.dumps({"devices": [{"name": "timer"}, {"name": "0000:00:1f.0/ICH9LPC"}]}).encode()
    stream = b"QEVM\x06\0\0\0\x02{}" + b"\x06" + len(end).to_bytes(4, "big") + end
    assert sections_in(stream) == ("timer", "ICH9LPC")
    assert sections_in(b"QEVM") == ()


def test_what_no_qemu_tells_is_no_fault_of_ours() -> None:
    deep: dict[str, Any] = {"name": "dev/x", "version_id": 1, "minimum_version_id": 1}
    for _ in range(2000):
        deep = deep | {"Fields": [{"field": "f", "version_id": 1, "size": 1, "Description": deep}]}
    nonsense: list[Any] = [{}, [], 1, {"name": "dev/x"}, {"name": "dev/x", "version_id": []}, deep]
    for description in nonsense:
        vmstate = {"x": {"Description": description}}
        facts = replace(told(), vmstate=vmstate, devices=("x",), sections=("dev/x",))
        with pytest.raises(QemuError, match="does not answer as a QEMU does"):
            compare(facts, facts)


def test_how_many_fields_a_description_may_have() -> None:
    most = [entry(f"f{number}") for number in range(500)]
    assert compare(told(*most), told(*most)) == ()
    for old, new in (([*most, entry("x")], most), (most, [*most, entry("x")])):
        with pytest.raises(QemuError) as caught:
            compare(told(*old), told(*new))
        assert "dev has more than 500 fields" in str(caught.value.__cause__)


def test_names_and_findings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finding tells its whole path: of hostile ones a page took gigabytes."""
    for old, new in ((told(entry("x" * 2000)), told(entry("x" * 2000, 8))),
                     (told(entry("x" * 2000)), told())):
        with pytest.raises(QemuError) as caught:
            compare(old, new)
        assert "is longer than 1000 characters" in str(caught.value.__cause__)
    many = [entry(f"f{number}", 3) for number in range(60)]
    found, = compare(told(*many), told())
    assert found.text.count("bytes)") == 50
    assert ", 10 more, " in found.text
    monkeypatch.setattr(preflight, "_MOST_FINDINGS", 59)
    with pytest.raises(QemuError) as caught:
        compare(told(*many), told(*(one | {"size": 4} for one in many)))
    assert "more than 59 differences" in str(caught.value.__cause__)


# ---- for real -------------------------------------------------------------------------------


def test_what_a_real_qemu_tells(store: ImageStore, bubblewrap: Engine) -> None:
    with Builds(store) as builds:
        host = builds.host(HostSpec("sid", "debian-sid"))
    setup = GuestSetup([host], "pc-q35-5.2", Policy.STOCK, [])
    there = facts(bubblewrap, setup)
    assert there.blocks["pc.bios"].used == host.firmware.size
    assert {"ICH9LPC", "ich9_ahci", "timer"} <= set(there.sections)
    assert "ICH9-LPC" in there.devices
    assert not compare(there, there)


# ---- the figure -----------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", ["\n" * (2 << 20), " " * (2 << 20), "a " * (1 << 20)],
                         ids=["lines", "spaces", "words"])
def test_what_a_hostile_monitor_prints_is_read_once(hostile: str) -> None:
    assert blocks_in(hostile) == {}
    assert preflight._DEVICE.findall(hostile) == []
