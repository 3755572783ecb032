"""A cell: its id, its values, its board; and the table of the axes, from which they follow."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import pytest

from bootmatrix import cell as module
from bootmatrix.arguments import ArgumentSet
from bootmatrix.cell import AXES, Axis, Cell
from bootmatrix.errors import UserError
from bootmatrix.lab import Lab
from bootmatrix.model import Accel, Arch, Disk, GuestKind, HostSpec, Nic
from bootmatrix.policies import Policy
from bootmatrix.records.model import CellRow
from bootmatrix.steps.library import LIBRARY

CELL = Cell(
    hosts=(HostSpec("bullseye", "debian-bullseye"), HostSpec("sid", "debian-sid")),
    machine="pc-q35-5.2",
    policy=Policy.GUEST_OWNED,
    scenario=LIBRARY["migrate-reset"],
)
LINUX = replace(CELL, arch=Arch.AARCH64, guest=GuestKind.LINUX, cpu="max", smp=2, nic=Nic.E1000)


def test_the_id_is_derived_from_the_values() -> None:
    assert CELL.id == "bullseye-to-sid,pc-q35-5.2,guest-owned,migrate-reset,ahci"
    assert replace(CELL, accel=Accel.KVM).id == CELL.id + ",kvm"
    assert replace(CELL, accel=Accel.TCG).id == CELL.id


def test_cells_that_differ_in_an_axis_have_other_ids() -> None:
    others = [
        replace(CELL, hosts=CELL.hosts[::-1]),
        replace(CELL, hosts=(*CELL.hosts, HostSpec("trixie", "debian-trixie"))),
        replace(CELL, machine="default"),
        *(replace(CELL, policy=policy) for policy in Policy if policy is not CELL.policy),
        *(replace(CELL, scenario=LIBRARY[name]) for name in LIBRARY if name != "migrate-reset"),
        *(replace(CELL, disk=disk) for disk in Disk if disk is not CELL.disk),
        replace(CELL, accel=Accel.KVM),
    ]
    ids = [cell.id for cell in (CELL, *others)]
    assert len(set(ids)) == len(ids)
    # safe as a file name and in a shell
    assert all(re.fullmatch(r"[A-Za-z0-9.,_-]{1,255}", each) for each in ids)


def test_an_axis_that_needs_it_has_its_name_in_the_id() -> None:
    assert LINUX.id == CELL.id + ",aarch64,linux,cpu-max,smp-2,nic-e1000"


def test_what_qemu_is_told_of_a_machine_stands_in_the_id_as_it_is_written() -> None:
    more = replace(
        CELL, machine="pc-q35-10.0,acpi=off", cpu="Haswell,-hle,+ssse3", smp="4,maxcpus=64",
        memory=512, arguments=ArgumentSet("numa", ("-numa", "node")),
        devices=ArgumentSet("usb", ("qemu-xhci", "-object", "rng-builtin,id=r")))
    assert more.id == (
        "bullseye-to-sid,pc-q35-10.0,acpi=off,guest-owned,migrate-reset,ahci,"
        "cpu-Haswell,-hle,+ssse3,smp-4,maxcpus=64,memory-512,arguments-numa,devices-usb")
    assert re.fullmatch(r"[A-Za-z0-9.,_+=-]{1,255}", more.id)
    assert more.words == ("-device", "qemu-xhci", "-object", "rng-builtin,id=r", "-numa", "node")
    assert more.values["memory"] == 512
    assert more.values["arguments"] == "numa"
    assert more.board == replace(CELL, machine="pc-q35-10.0").board


def test_a_cell_knows_its_board() -> None:
    assert CELL.board is not None
    assert CELL.board.name == "pc-q35"
    assert replace(CELL, machine="virt").board is None
    board = replace(CELL, machine="virt", arch=Arch.AARCH64).board
    assert board is not None
    assert board.arch is Arch.AARCH64


def test_every_field_of_a_cell_but_its_hosts_and_how_it_is_watched_is_an_axis() -> None:
    names = [field.name for field in fields(Cell)]
    watched = ("hosts", "seconds", "patience", "debug_log", "limits")
    assert list(AXES) == [name for name in names if name not in watched]
    assert list(CELL.values) == [name for name, axis in AXES.items() if not axis.sparse]


def test_values_are_those_of_a_record_and_are_read_back() -> None:
    assert LINUX.values == {
        "machine": "pc-q35-5.2", "policy": "guest-owned", "scenario": "migrate-reset",
        "disk": "ahci", "accel": "tcg", "arch": "aarch64", "guest": "linux", "cpu": "max",
        "smp": 2, "nic": "e1000", "migration": "precopy",
    }  # fmt: skip
    read = {name: AXES[name].parse(value) for name, value in LINUX.values.items()}
    assert Cell(LINUX.hosts, **read | {"scenario": LIBRARY[read["scenario"]]}) == LINUX


def test_a_record_has_every_axis() -> None:
    assert set(AXES) <= set(CellRow.__annotations__)


@pytest.mark.parametrize(("axis", "value"), [
    ("machine", ""), ("machine", "pc-q35-5.2\n"), ("machine", None), ("machine", "a,b"),
    ("policy", "mine"), ("scenario", "-x"), ("disk", None), ("cpu", "max,+"), ("cpu", 1),
    ("smp", 0), ("smp", "2"), ("smp", True), ("nic", "tulip"), ("smp", "4,"), ("memory", "1;"),
    ("machine", "pc,acpi"), ("tpm", "2"), ("arguments", "numa"), ("guest", "mine"),
])
def test_what_no_matrix_can_hold_is_no_value(axis: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"no matrix can hold|is not a valid"):
        AXES[axis].parse(value)


def test_a_row_is_all_that_an_axis_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from bootmatrix.matrix import schema

    @dataclass(frozen=True)
    class Wider(Cell):
        colour: Annotated[str, Axis("its colour", "colours", "^[a-z]+$", labelled=True)] = "grey"

    usual = CELL.id
    monkeypatch.setattr(module, "AXES", module.axes_of(Wider))
    plain = Wider(CELL.hosts, CELL.machine, CELL.policy, CELL.scenario)
    assert plain.id == usual
    assert replace(plain, colour="red").id == usual + ",colour-red"
    assert plain.values["colour"] == "grey"
    entry = schema.axes_entry(module.AXES).model_validate({"colour": "red"})
    assert getattr(entry, "colour") == ["red"]  # noqa: B009  # made at run time


@pytest.mark.parametrize(("axes", "message"), [
    ({"colour": "red"}, "no such axis of a guest: colour (accepted: machine, policy, disk, "),
    ({"scenario": "reset"}, "no such axis of a guest: scenario"),
    ({"disk": "scsi"}, "disk: no such choice: 'scsi' (accepted: ahci, ide,"),
    ({"smp": "2"}, "smp is '2', which no matrix can hold"),
])
def test_a_lab_takes_axes_by_name(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        Lab(None, None, None).guest("debian-sid", machine="pc", **axes)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)
