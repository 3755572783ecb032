"""bootmatrix repro: the cell that list names, and a step that is not there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootmatrix import engines
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cli.main import main
from bootmatrix.diagnose import attach
from bootmatrix.diagnose.attach import steps_until
from bootmatrix.errors import Status, UserError
from helpers import forked
from helpers.cells import cell
from helpers.leavings import deep_tree

MATRIX = Path(__file__).parents[2] / "matrices" / "quickstart.yaml"
SILENT = "bullseye-to-sid,pc-q35-5.2,stock,migrate-reset,ahci"


def test_a_step_that_is_not_there() -> None:
    wanted = cell("sid trixie", "stock", "ping-pong")
    assert len(steps_until(wanted, "reset:2")) == 5
    assert len(steps_until(wanted, "2")) == 2
    for until in ("reset:3", "6", "shutdown", "reset:x", "reset:0"):
        with pytest.raises(UserError, match=f"--until {until}: no such step"):
            steps_until(wanted, until)


def test_a_script_starts_no_swtpm(store: ImageStore, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = MATRIX.with_name("tpm.yaml")
    wanted = "bookworm-to-trixie,pc-q35-7.2,stock,migrate-reset,ide,tpm-crb"
    assert main(["repro", str(matrix), wanted]) == Status.USER_ERROR
    said = capsys.readouterr().err
    assert f"{wanted} has a TPM, and a script starts no swtpm" in said
    assert "--attach" in said


def test_the_json_of_list_names_what_repro_takes(store: ImageStore) -> None:
    listed = forked.run(["bootmatrix", "list", str(MATRIX), "--json"], cwd=MATRIX.parent,
                        env={**os.environ})
    assert SILENT in [row["id"] for row in json.loads(listed.stdout)]


def test_what_a_hostile_qemu_leaves_goes_however_deep_it_is(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places: list[Path] = []

    @contextlib.contextmanager
    def attached(*arguments: Any) -> Iterator[None]:
        places.append(arguments[-1])
        deep_tree(places[0] / "cell")
        raise UserError("no guest to attach to")
        yield

    monkeypatch.setattr(engines, "choose_for_a_look", contextlib.nullcontext)
    monkeypatch.setattr(attach, "attached", attached)
    assert main(["repro", "--attach", str(MATRIX), SILENT]) == Status.USER_ERROR
    assert capsys.readouterr().err == "bootmatrix: no guest to attach to\n"
    assert not places[0].exists()
