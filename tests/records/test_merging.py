"""Several records files read as one: whose they are, what they share, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import UserError
from bootmatrix.records.merging import OtherBuilds, load
from helpers.records import record, write


def test_each_record_knows_its_directory(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    files = [write(tmp_path / name / "r.jsonl", [record(policy=policy)])
             for name, policy in (("a", "stock"), ("b", "reread"))]
    assert [(one["cell"]["policy"], one.get("run_dir")) for one in load(files)] == [
        ("stock", str(tmp_path / "a")), ("reread", str(tmp_path / "b"))]


def test_a_copy_knows_where_its_run_is_if_that_is_below_it(tmp_path: Path) -> None:
    (tmp_path / "here" / "runs" / "one").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here" / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    here = str(tmp_path / "here")
    for run, found in (("runs/one", f"{here}/runs/one"), ("runs/gone", here),
                       ("../elsewhere", here), (str(tmp_path / "elsewhere"), here),
                       ("runs/link", here)):
        copy = write(tmp_path / "here" / "copy.jsonl", [record() | {"run": run}])
        assert [one.get("run_dir") for one in load([copy])] == [found], run


def test_what_records_repeat_is_kept_once(tmp_path: Path) -> None:
    def one(**changed: Any) -> Any:
        made = record(**changed) | {"qemus": [{"role": "source", "version": "5.2.0",
                                               "argv": ["qemu", "-m", "32"]}]}
        made["cell"]["source"]["packages"] = {"seabios": "1"}
        return made

    other = one(policy="reread")
    other["qemus"][0]["argv"] = ["qemu", "-m", "64"]
    other["cell"]["destination"]["digest"] = "0f"
    first, second, third = load([write(tmp_path / "r", [one(), one(policy="stock"), other])])
    assert first["cell"]["source"] is second["cell"]["source"]
    assert first["cell"]["destination"] is not third["cell"]["destination"]
    assert first["qemus"][0] is second["qemus"][0]
    assert first["qemus"][0] is not third["qemus"][0]
    assert third["qemus"][0]["argv"][-1] == "64"
    assert first["cell"]["machine"] is second["cell"]["machine"]
    assert "packages" not in first["cell"]["source"]


def test_a_cell_on_other_bytes_is_no_repeat(tmp_path: Path) -> None:
    def run(name: str, **host: Any) -> Path:
        one = record()
        one["cell"]["destination"] |= host
        return write(tmp_path / name, [one])

    same = run("a", digest="0f"), run("b", digest="0f"), run("baseline")
    assert len(load(list(same))) == 3
    for other in (run("c", digest="1f"), run("d", qemu="11.1.4"), run("e", firmware="f")):
        with pytest.raises(OtherBuilds, match=r"on other builds than in .*/a: these are no rep"):
            load([same[0], other])
        assert len(load([same[0], other], mixed=True)) == 2


def test_a_file_that_was_cut_off_is_told_or_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r", [record(), record(policy="stock")])
    path.write_bytes(path.read_bytes()[:-40])
    told: list[str] = []
    assert len(load([path], cut_off=told.append)) == 1
    assert told == [f"{path}:2: the last record was cut off, and is left out"]
    with pytest.raises(UserError) as caught:
        load([path])
    assert str(caught.value) == (f"{path}: the last record was cut off, and is left out "
                                 "(finish the run first: bootmatrix run MATRIX --resume DIR)")


def test_files_without_records(tmp_path: Path) -> None:
    empty, whole = write(tmp_path / "empty", []), write(tmp_path / "r", [record()])
    with pytest.raises(UserError, match="no records in it: no cell of the run has ended"):
        load([empty])
    told: list[str] = []
    assert len(load([empty, whole], cut_off=told.append)) == 1
    assert told == [f"{empty}: no records in it"]  # a shard can have no cell
    assert len(load([whole, empty])) == 1


def test_files_of_two_matrices(tmp_path: Path) -> None:
    one = write(tmp_path / "a", [record()])
    other = write(tmp_path / "b", [record() | {"matrix": "n.yaml"}])
    with pytest.raises(UserError, match=r"two matrices: n\.yaml here, m\.yaml in .*/a \(give"):
        load([one, other])
    nameless = write(tmp_path / "c", [record() | {"matrix": ""}])
    with pytest.raises(UserError, match=r"two matrices: no matrix here, m\.yaml in"):
        load([one, nameless])
    assert len(load([one, other], mixed=True)) == 2


def test_cells_of_a_matrix_that_changed_between(tmp_path: Path) -> None:
    files = [write(tmp_path / mark, [record() | {"fingerprint": mark}]) for mark in "ab"]
    with pytest.raises(UserError, match=r"is another than in .*/a: the matrix changed between"):
        load(files)
    assert len(load(files, mixed=True)) == 2
    assert len(load([files[0], files[0]])) == 2
    unmarked = write(tmp_path / "older", [record()])
    assert len(load([files[0], unmarked])) == 2, "an older record has no fingerprint"
