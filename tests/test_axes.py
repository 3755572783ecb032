"""The axes beside the hosts: what a cell has on them, and which of them people are told of."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace

from cells import cell

from harness.axes import DEFAULTS, PLAIN_AXES, is_default, said, telling, values
from harness.model import Accel, Arch, Cell, Disk, GuestKind, Nic

PLAIN = cell("bullseye sid", "stock", disk="ahci")
LINUX = replace(PLAIN, arch=Arch.AARCH64, guest=GuestKind.LINUX, cpu="max", smp=2, nic=Nic.E1000)


def test_every_value_of_a_cell_but_its_hosts_and_its_seconds_is_on_an_axis() -> None:
    names = {field.name for field in fields(Cell)}
    assert names - {"hosts", "seconds"} == set(PLAIN_AXES) == set(values(PLAIN))
    assert tuple(values(PLAIN)) == PLAIN_AXES


def test_the_defaults_are_those_of_a_cell() -> None:
    given = {field.name: field.default for field in fields(Cell) if field.default is not MISSING}
    assert {axis: given[axis] for axis in DEFAULTS} == DEFAULTS
    assert all(is_default(axis, value) for axis, value in values(PLAIN).items()
               if axis in DEFAULTS)
    assert not any(is_default(axis, value) for axis, value in values(LINUX).items())
    assert not is_default("disk", "ahci")  # that one is always told


def test_values_are_those_of_a_record() -> None:
    assert values(LINUX) == {
        "machine": "pc-i440fx-5.2", "policy": "stock", "scenario": "migrate-reset",
        "disk": "ahci", "accel": "tcg", "arch": "aarch64", "guest": "linux", "cpu": "max",
        "smp": 2, "nic": "e1000",
    }  # fmt: skip


def test_what_people_are_told() -> None:
    assert [said(axis, values(LINUX)) for axis in PLAIN_AXES[3:]] == [
        "ahci", "tcg", "aarch64", "linux", "cpu max", "smp 2", "nic e1000"]
    old = {"machine": "pc-i440fx-5.2", "disk": "ahci", "accel": "tcg"}
    assert [said(axis, old) for axis in PLAIN_AXES[5:]] == [
        "x86_64", "probe", "cpu default", "smp 1", "nic none"]


def test_an_axis_is_told_where_cells_differ_or_have_what_is_not_the_default() -> None:
    old = {"disk": "ahci", "accel": "tcg"}  # from before there were more axes
    plain, linux = values(PLAIN), values(LINUX)
    assert telling([]) == telling([old]) == telling([plain, old]) == []
    assert telling([linux, linux]) == ["arch", "guest", "cpu", "smp", "nic"]
    assert telling([plain, linux]) == telling([old, linux]) == telling([linux])
    assert telling([plain, plain | {"smp": 4}, plain | {"disk": "ide"}]) == ["disk", "smp"]
    other = values(replace(PLAIN, disk=Disk.IDE, accel=Accel.KVM))
    assert telling([other]) == []
    assert telling([other, plain]) == ["disk", "accel"]
