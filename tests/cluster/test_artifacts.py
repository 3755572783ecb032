"""A cell's files on their way: what comes is of a machine elsewhere, and written nowhere else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from bootmatrix.cluster import artifacts
from bootmatrix.errors import HarnessError

CELL = "cells/m.yaml/a-cell"


def test_files_come_as_they_were(tmp_path: Path) -> None:
    place = tmp_path / "there" / CELL
    (place / "1-source").mkdir(parents=True)
    (place / "1-source/console.log").write_bytes(b"SeaBIOS\xff\n")
    (place / "black-box.txt").write_text("rip")
    (place / "1-source/secret").symlink_to("/etc/shadow")
    packed = artifacts.pack(place, tmp_path / "there")
    artifacts.unpack(packed, tmp_path / "here" / CELL)
    found = {str(path.relative_to(tmp_path / "here" / CELL)): path.read_bytes()
             for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert found == {"1-source/console.log": b"SeaBIOS\xff\n", "black-box.txt": b"rip"}


def test_nothing_is_nothing(tmp_path: Path) -> None:
    (tmp_path / CELL).mkdir(parents=True)
    assert artifacts.pack(tmp_path / CELL, tmp_path) == b""


@pytest.mark.parametrize("name", [
    "../out", "/etc/out", "a/b/c", "1-source/..", ".hidden", "a/.b", "",
])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(HarnessError):
        artifacts.unpack(made.getvalue(), tmp_path / "place")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE,
                                  tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        info = tarfile.TarInfo("console.log")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(HarnessError):
        artifacts.unpack(made.getvalue(), tmp_path / "place")


@pytest.mark.parametrize("data", [b"", b"no tar", b"\x1f\x8b\x08\0\0"])
def test_what_is_damaged_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(HarnessError, match="damaged"):
        artifacts.unpack(data, tmp_path / "place")


@pytest.mark.parametrize("named", ["", ".", "..", "cells/../..", "/etc", "shared/x"])
def test_a_record_names_a_place_of_a_cell(tmp_path: Path, named: str) -> None:
    with pytest.raises(HarnessError):
        artifacts.inside(tmp_path, named)
    assert artifacts.inside(tmp_path, CELL) == tmp_path / CELL
