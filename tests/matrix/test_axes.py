"""The axes beside the hosts: what a cell has on them, and which of them people are told of."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace

from bootmatrix.cell import AXES, Cell
from bootmatrix.matrix.axes import DEFAULTS, is_default, labelled, telling
from bootmatrix.model import Accel, Arch, Disk, GuestKind, MigrationMode, Nic, Tpm
from helpers.cells import cell

PLAIN = cell("bullseye sid", "stock", disk="ahci")
LINUX = replace(PLAIN, arch=Arch.AARCH64, guest=GuestKind.LINUX, cpu="max", smp=2, nic=Nic.E1000,
                migration=MigrationMode.MULTIFD)


def test_the_defaults_are_those_of_a_cell() -> None:
    given = {field.name: field.default for field in fields(Cell) if field.default is not MISSING}
    assert {axis: AXES[axis].plain(given[axis]) for axis in DEFAULTS} == DEFAULTS
    assert all(is_default(axis, value) for axis, value in PLAIN.values.items()
               if axis in DEFAULTS)
    assert not any(is_default(axis, value) for axis, value in LINUX.values.items())
    assert not is_default("disk", "ahci")  # that one is always told


def test_what_people_are_told() -> None:
    assert [labelled(axis, LINUX.values) for axis in list(AXES)[3:]] == [
        "ahci", "tcg", "aarch64", "linux", "cpu max", "smp 2", "nic e1000", "multifd",
        "memory default",
        "arguments default", "devices default", "tpm none"]
    old = {"machine": "pc-i440fx-5.2", "disk": "ahci", "accel": "tcg"}
    assert [labelled(axis, old) for axis in list(AXES)[5:]] == [
        "x86_64", "probe", "cpu default", "smp 1", "nic none", "precopy",
        "memory default",
        "arguments default", "devices default", "tpm none"]


def test_an_axis_is_told_where_cells_differ_or_have_what_is_not_the_default() -> None:
    old = {"disk": "ahci", "accel": "tcg"}  # from before there were more axes
    plain, linux = PLAIN.values, LINUX.values
    assert telling([]) == telling([old]) == telling([plain, old]) == []
    assert telling([linux, linux]) == ["arch", "guest", "cpu", "smp", "nic", "migration"]
    assert telling([plain, linux]) == telling([old, linux]) == telling([linux])
    assert telling([plain, plain | {"smp": 4}, plain | {"disk": "ide"}]) == ["disk", "smp"]
    assert telling([replace(PLAIN, tpm=Tpm.CRB).values]) == ["tpm"]
    other = replace(PLAIN, disk=Disk.IDE, accel=Accel.KVM).values
    assert telling([other]) == []
    assert telling([other, plain]) == ["disk", "accel"]
