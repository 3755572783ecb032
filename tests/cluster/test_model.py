"""Cells as data, and back; what a machine lacks for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix import vm
from bootmatrix.arguments import ArgumentSet
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.cluster.model import (
    PROTOCOL,
    Needs,
    Task,
    WorkerFacts,
    guest_data,
    known_data,
    read_answer,
    read_facts,
    read_task,
    words_data,
)
from bootmatrix.errors import HarnessError
from bootmatrix.model import GuestKind, HostSpec, Known, OwnDisk, OwnGuest, Verdict
from bootmatrix.policies import Policy
from bootmatrix.steps.library import LIBRARY
from helpers.clusters import CELL, a_task

HERE = Path(__file__).parents[2]
DISK = "d" * 64
FACTS = WorkerFacts(protocol=PROTOCOL, axes=[], version="1", name="one", machine="x86_64", slots=2,
                    kvm="", memory=4096, engines=["bubblewrap"], roots={},
                    boards={"a" * 64: "apu2-main"})


def nowhere(digest: str) -> Path:
    raise AssertionError(f"nobody has the disk {digest}")


def as_data(cell: Cell, home: Path) -> Task:
    """A cell as a task that has gone to another machine, but for what does not change it."""
    task, _, _ = a_task(
        home, id=cell.id, values=cell.values, words=words_data(cell),
        guest=guest_data(cell.guest, lambda path: DISK))
    hosts = [data.model_copy(update={"arguments": list(host.arguments)})
             for data, host in zip(task.hosts, cell.hosts, strict=True)]
    return read_task(task.model_copy(update={"hosts": hosts}).model_dump_json().encode())


def a_cell(**values: Any) -> Cell:
    hosts = (HostSpec("old", "debian-bullseye"),
             HostSpec("new", "debian-bookworm", arguments=("-m", "512")))
    return Cell(hosts, **{"machine": "pc-i440fx-5.2", "policy": Policy.STOCK,
                          "scenario": LIBRARY["migrate-reset"], **values})


def same(cell: Cell, other: Cell) -> None:
    """Check that two cells are one, but for what a task has otherwise: builds by their content."""
    assert [(host.name, host.arguments) for host in cell.hosts] == \
        [(host.name, host.arguments) for host in other.hosts]
    assert cell.scenario.steps == other.scenario.steps
    assert replace(cell, hosts=(), scenario=other.scenario) == replace(other, hosts=())


def test_options_and_sets_of_arguments_come_back(store: ImageStore, tmp_path: Path) -> None:
    cell = a_cell(
        machine="pc-i440fx-5.2,acpi=off", cpu="Haswell,-hle", smp="2,maxcpus=4",
        memory="1G,slots=2,maxmem=4G", arguments=ArgumentSet("rtc", ("-rtc", "base=utc")),
        devices=ArgumentSet("usb", ("qemu-xhci", "-device", "usb-tablet")))
    same(as_data(cell, tmp_path).cell(nowhere), cell)


@pytest.mark.parametrize("example", sorted((HERE / "examples/vm").iterdir()),
                         ids=lambda path: path.name)
def test_somebodys_machine_comes_back(store: ImageStore, tmp_path: Path, example: Path) -> None:
    machine = vm.read(example, libvirt=example.suffix == ".xml").machine
    cell = a_cell(guest=OwnGuest("mine", GuestKind.LINUX, machine), machine=machine.machine,
                  arch=machine.arch)
    same(as_data(cell, tmp_path).cell(nowhere), cell)


def test_a_disk_comes_by_its_content(store: ImageStore, tmp_path: Path) -> None:
    def guest(path: Path) -> OwnGuest:
        return OwnGuest("mine", GuestKind.DISK, None, OwnDisk(path, "raw"), "login: ")

    task = as_data(a_cell(guest=guest(Path("/home/me/disk.raw"))), tmp_path)
    assert "/home/me" not in task.model_dump_json()
    same(task.cell(lambda digest: Path("/cache", digest)),
         a_cell(guest=guest(Path("/cache", DISK))))


@pytest.mark.parametrize(("change", "told"), [
    ({"words": {"arguments": ["-monitor", "stdio"]}}, "-monitor is not to be given here"),
    ({"words": {}}, "no cell"),
    ({"values": {"arguments": "../x"}}, "no name"),
    ({"guest": {"up": "("}}, "no cell"),
    ({"guest": {"kind": "windows"}}, "no cell"),
    ({"guest": {"machine": {"arch": "x86_64"}}}, "no cell"),
    ({"guest": {"machine": {"arch": "x86_64", "machine": "pc", "words": ["-qmp", "stdio"]}}},
     "-qmp is not to be given here"),
])
def test_words_that_no_matrix_can_hold_are_refused(
    store: ImageStore, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    cell = a_cell(arguments=ArgumentSet("rtc", ("-rtc", "base=utc")),
                  guest=OwnGuest("mine", GuestKind.PROBE))
    data: dict[str, Any] = as_data(cell, tmp_path).model_dump(mode="json")
    for key, value in change.items():
        data[key] = value if key == "words" else data[key] | value
    with pytest.raises(HarnessError, match=told):
        read_task(json.dumps(data).encode()).cell(nowhere)


def test_a_cell_comes_back_from_its_values(store: ImageStore, tmp_path: Path) -> None:
    known = Known((("machine", ("pc-*",)),), (Verdict.SILENT,), "as ever", "https://example.org")
    task, _, _ = a_task(tmp_path, known=[known_data(known)])
    again = read_task(task.model_dump_json().encode())
    assert again == task
    assert again.cell(nowhere).id == CELL
    assert again.cell(nowhere).scenario.steps == LIBRARY["migrate-reset"].steps
    assert again.declared() == (known,)


@pytest.mark.parametrize("changes", [
    {"id": "another"}, {"seconds": 1, "values": {}}, {"values": {"machine": "../x"}},
    {"steps": []},
])
def test_what_makes_no_cell_or_another_one_is_refused(
    store: ImageStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    task, _, _ = a_task(tmp_path, **changes)
    with pytest.raises(HarnessError):
        task.cell(nowhere)


@pytest.mark.parametrize("read", [read_task, read_answer, read_facts])
@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"run": "../../etc"}', b"\xff"])
def test_what_is_no_message_is_refused(read: Any, data: bytes) -> None:
    with pytest.raises(HarnessError):
        read(data)


@pytest.mark.parametrize(("needs", "lacks"), [
    ({}, ""),
    ({"kvm": True, "memory": 4096, "engine": "bubblewrap"}, ""),
    ({"boards": (("a" * 64, "apu2-main"),)}, ""),
    ({"machine": "aarch64"}, "is x86_64, not aarch64"),
    ({"memory": 4097}, "has 4096 MiB of memory, not 4097"),
    ({"engine": "docker"}, "runs QEMUs with bubblewrap, not with docker"),
    ({"boards": (("b" * 64, "other"),)}, "has no board other"),
])
def test_what_a_machine_lacks_is_said(needs: dict[str, Any], lacks: str) -> None:
    assert Needs(**{"machine": "x86_64", **needs}).lacking(FACTS) == lacks


def test_a_machine_says_why_it_has_no_kvm_and_that_it_has_no_engine() -> None:
    poor = FACTS.model_copy(update={"kvm": "/dev/kvm is not there", "engines": []})
    assert Needs(machine="x86_64", kvm=True).lacking(poor) == \
        "has no KVM: /dev/kvm is not there"
    assert Needs(machine="x86_64").lacking(poor) == "has no engine that works"
