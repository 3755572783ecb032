"""The corpus of known breakages, a part of it: run, accepted as a baseline, and judged by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootmatrix.cli.main import main
from bootmatrix.files.shipped import IMAGES

CORPUS = IMAGES.parent / "matrices" / "regressions.yaml"
# Of those that are declared, and of their sound neighbours.
FEW = "mapped-ram or multifd or cpr-transfer"


def test_a_part_of_the_corpus_passes_its_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(CORPUS), "-k", FEW, "--json", "new.jsonl", "-n", "1"]) == 0
    records = [json.loads(line) for line in Path("new.jsonl").read_text().splitlines()]
    assert {record["known"] is not None for record in records} == {True, False}
    assert main(["gate", "--baseline", "base.jsonl", "new.jsonl", "--accept"]) == 0
    assert main(["gate", "--baseline", "base.jsonl", "new.jsonl"]) == 0
    base = Path("base.jsonl")  # where what is broken here still went
    base.write_text(base.read_text().replace("wrong-firmware", "pass"))
    capsys.readouterr()
    main(["gate", "--baseline", "base.jsonl", "new.jsonl"])
    assert "mapped-ram" in capsys.readouterr().out
