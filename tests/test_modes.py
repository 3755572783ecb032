"""What each mode of a migration takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES, lacking
from helpers.fakes import hosts


def test_every_mode_has_its_row() -> None:
    assert set(MODES) == set(MigrationMode)


def test_a_host_that_is_too_old_is_named(tmp_path: Path) -> None:
    there = hosts(tmp_path)
    assert list(lacking(MigrationMode.MULTIFD, there, {1})) == []
    assert list(lacking(MigrationMode.MAPPED_RAM, there, {1})) == [
        "mapped-ram is QEMU 9.0's and later, h0 has 5.2.0",
        "mapped-ram is QEMU 9.0's and later, h2 has 7.2.22"]


def test_two_that_share_no_sandbox_do_not_become_each_other(tmp_path: Path) -> None:
    one, other = (replace(host, qemu=replace(host.qemu, version="10.2.0", root=root))
                  for host, root in zip(hosts(tmp_path), (Path("/one"), Path("/other")),
                                        strict=False))
    assert list(lacking(MigrationMode.CPR_EXEC, [one, other], {1})) == [
        "cpr-exec: a process replaces itself by a program of its own sandbox, and h0 and h1 have "
        "one each"]
    there = replace(other, qemu=replace(other.qemu, root=one.qemu.root, binary="/usr/bin/new"))
    assert list(lacking(MigrationMode.CPR_EXEC, [one, there], {1})) == []


def test_a_destination_that_is_too_old_is_named(tmp_path: Path) -> None:
    there = hosts(tmp_path)
    assert list(lacking(MigrationMode.POSTCOPY, there, {1})) == []
    assert list(lacking(MigrationMode.POSTCOPY, there, {1, 2})) == [
        "postcopy goes into QEMU 8.1 and later, which takes /dev/userfaultfd: no sandbox has the "
        "system call; h2 has 7.2.22"]
