"""A life as a matrix file, read again: the same cell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cell import Cell
from bootmatrix.explore.lives import Life, World, places_of
from bootmatrix.explore.written import matrix_file
from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.matrix.expansion import Matrix, load
from bootmatrix.model import GitSource
from bootmatrix.steps.library import parse

STEPS = ["start", {"migrate": {"during-post": True}}, {"reset": {"by": "cf9"}},
         {"migration-fails": {"to": "source", "by": "stream-cut", "seed": 3}}]


def lived(matrix: Matrix) -> Life:
    """A life on the first cell's hosts."""
    cell = matrix.cells(lambda host: ())[0]
    places, _ = places_of([cell])
    world = World(places, {}, lambda hosts, machine: KnownFirmware(()))
    return Life(world, places[0], cell.hosts, parse("own", STEPS).steps)


def again(directory: Path, text: str) -> tuple[Cell, Cell]:
    """The cell of a life in a matrix, and that of the file that it is written to."""
    (directory / "a").mkdir()
    (directory / "b").mkdir()
    path = directory / "a" / "mine.yaml"
    path.write_text(text)
    matrix = load(path)
    life = lived(matrix)
    other = directory / "b" / "finding-1.yaml"
    other.write_text(matrix_file(life, "finding-1", matrix, ["told: x\ny"]))
    (cell,) = load(other).cells(lambda host: ())
    return life.cell("finding-1"), cell


BASE: dict[str, Any] = {
    "schema": 1, "hosts": {"a": {"qemu": "qa"}, "b": {"qemu": "qb", "firmware": "seabios-1"}},
    "axes": {"source": "a", "destination": "b", "machine": "pc-q35-5.2", "policy": "reread",
             "scenario": "migrate-reset"},
}


def changed(**more: Any) -> str:
    made = {key: {**value, **more.pop(key, {})} if isinstance(value, dict) else value
            for key, value in BASE.items()}
    return json.dumps(made | more)


@pytest.mark.parametrize("text", [
    changed(),
    changed(axes={"disk": "virtio", "smp": 2, "nic": "e1000", "memory": 64, "cpu": "qemu64,-sse",
                  "machine": "pc-q35-5.2,acpi=off"}),
    changed(axes={"smp": "2,maxcpus=4", "migration": "multifd", "accel": "kvm",
                  "guest": "linux-kernel"}),
    changed(**{"boot-timeout": 7.5, "patience": 60.0, "debug-log": "off",
               "limits": {"memory": 512}}),
    changed(axes={"arguments": {"more": ["-rtc", "base=utc"]}, "devices": {"rng": [
        "virtio-rng-pci", "-object", "rng-random,id=r"]}}),
    changed(guests={"own": {"arguments": ["-device virtio-rng-pci"], "machine": "pc-q35-5.2"}},
            axes={"guest": "own"}),
], ids=["plain", "axes", "more axes", "limits", "arguments", "own guest"])  # fmt: skip
def test_it_is_the_same_cell(tmp_path: Path, text: str) -> None:
    life, cell = again(tmp_path, text)
    assert cell == life


def test_builds_of_ones_own_are_found_from_anywhere(tmp_path: Path) -> None:
    text = changed(hosts={
        "a": {"qemu": {"path": "q/qemu", "data": "q/pc-bios"}, "arguments": ["-rtc", "base=utc"]},
        "b": {"qemu": {"suite": "trixie", "package-version": "1:10.0"},
              "firmware": {"path": "CODE.fd", "variables": "VARS.fd"}}})
    life, cell = again(tmp_path, text)
    (one, other) = cell.hosts
    assert (one.qemu.path, one.qemu.data) == (  # type: ignore[union-attr]
        tmp_path / "a" / "q" / "qemu", tmp_path / "a" / "q" / "pc-bios")
    assert one.arguments == ("-rtc", "base=utc")
    assert other.qemu == life.hosts[1].qemu
    assert other.firmware.variables == tmp_path / "a" / "VARS.fd"  # type: ignore[union-attr]
    assert replace(cell, hosts=()) == replace(life, hosts=())


def test_firmware_by_bios_is_so_again(tmp_path: Path) -> None:
    _, cell = again(tmp_path, changed(hosts={
        "a": {"qemu": "debian-sid", "firmware": {"path": "OVMF.fd", "flash": False}},
        "b": {"qemu": "debian-sid", "firmware": {"path": "OVMF.fd"}}}))
    assert [host.firmware.flash for host in cell.hosts] == [  # type: ignore[union-attr]
        False, True]


def test_a_commit_that_is_built_is_the_same_one(tmp_path: Path) -> None:
    life, cell = again(tmp_path, changed(hosts={
        "a": {"qemu": {"source": "q", "revision": "v9.2.0", "options": ["--enable-slirp"],
                       "packages": ["libslirp-dev"], "toolchain": "trixie"}},
        "b": {"qemu": "debian-sid", "firmware": {"source": "s"}}}))
    (one, other) = cell.hosts
    there = tmp_path / "a"
    assert one.qemu.git == GitSource(  # type: ignore[union-attr]
        there / "q", "v9.2.0", (), ("--enable-slirp",), ("libslirp-dev",), "trixie")
    assert other.firmware.git == GitSource(there / "s")  # type: ignore[union-attr]
    assert [host.qemu for host in life.hosts] == [host.qemu for host in cell.hosts]


def test_what_is_told_stays_a_comment(tmp_path: Path) -> None:
    again(tmp_path, changed())
    lines = (tmp_path / "b" / "finding-1.yaml").read_text().splitlines()
    assert lines[:2] == ["# told: x\\ny", "schema: 1"]
