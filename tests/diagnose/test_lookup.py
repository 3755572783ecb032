"""A cell by its id, of a matrix or of a record."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.diagnose.lookup import from_matrix, from_records
from bootmatrix.errors import UserError
from bootmatrix.records.jsonl import RecordWriter
from bootmatrix.run.runner import Runner
from helpers.cells import cell

MATRIX = Path(__file__).parents[2] / "matrices" / "quickstart.yaml"
SILENT = "bullseye-to-sid,pc-q35-5.2,stock,migrate-reset,ahci"


def test_a_cell_of_a_record_is_that_of_its_matrix(
    store: ImageStore, runner: Runner, tmp_path: Path
) -> None:
    wanted = cell("sid trixie", "stock", seconds=7)
    record = runner.run(wanted)
    other = record | {"cell": record["cell"] | {"boot_timeout": 9}, "matrix": "m/other.yaml"}
    with RecordWriter(tmp_path / "records.jsonl") as writer:
        writer.write(record)
    with RecordWriter(tmp_path / "both.jsonl") as writer:
        writer.write(record | {"matrix": "m/one.yaml"})
        writer.write(other)
    with Builds(store) as builds:
        found = from_records(wanted.id, tmp_path / "records.jsonl", builds)
        assert (found.id, found.scenario.steps) == (wanted.id, wanted.scenario.steps)
        assert found.seconds == 7
        with pytest.raises(UserError, match="no record of a cell sid-to-trixie,x"):
            from_records("sid-to-trixie,x", tmp_path / "records.jsonl", builds)
        for name, seconds in (("one", 7), ("other", 9)):
            found = from_records(f"{name}.yaml::{wanted.id}", tmp_path / "both.jsonl", builds)
            assert found.seconds == seconds
        with pytest.raises(UserError, match=r"is one of one\.yaml and one of other\.yaml \(say wh"):
            from_records(wanted.id, tmp_path / "both.jsonl", builds)
        with pytest.raises(UserError, match=r"no such cell: .*near it: bullseye-to-sid"):
            from_matrix(SILENT.replace("sid", "sod"), MATRIX, builds)


def test_a_matrix_that_is_no_file_is_told_from_one_that_is_missing(tmp_path: Path) -> None:
    builds: Any = None  # nobody gets as far as that
    os.mkfifo(tmp_path / "fifo")
    for name, words in (("none", "no such matrix file"), ("fifo", "is no regular file"),
                        (".", "is a directory")):
        with pytest.raises(UserError, match=words):
            from_matrix("a-to-b", tmp_path / name, builds)


def test_a_real_boards_cell_is_not_for_what_is_about_qemus(tmp_path: Path) -> None:
    (tmp_path / "env.yaml").write_text("targets: {main: {}}\n")
    (tmp_path / "mine.yaml").write_text(
        "schema: 1\nhosts: {one: {board: {env: env.yaml}, firmware: seabios-1.16.2}}\n"
        "axes: {machine: newest-common, scenario: cold-boot, policy: stock}\n")
    with pytest.raises(UserError, match="is a real board's, and this is about QEMUs"):
        from_matrix("one,board,stock,cold-boot,ahci", tmp_path / "mine.yaml",
                    Builds(ImageStore()))


def test_a_guest_of_the_matrixs_own_needs_its_matrix(tmp_path: Path) -> None:
    row = {"cell": {"id": "a-to-b,mine", "guest": "mine", "scenario": "migrate-reset"}}
    path = tmp_path / "records.jsonl"
    builds: Any = None  # nobody gets as far as that
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bootmatrix.diagnose.lookup.read_records", lambda path: [row])
        with pytest.raises(UserError, match=r"mine is a guest of the matrix's own, .*--matrix F"):
            from_records("a-to-b,mine", path, builds)
