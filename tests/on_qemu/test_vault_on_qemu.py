"""Guests of one QEMU, saved into a vault by the command, restored in another by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootmatrix.cli.main import main

MATRIX = """
schema: 1
hosts:
  old: {qemu: debian-bookworm}
  new: {qemu: debian-sid}
axes:
  source: old
  destination: new
  machine: pc-i440fx-5.2
  policy: [stock, guest-owned, machine-owned]
  scenario: migrate-reset
  disk: virtio
"""


def test_last_year_s_guests_are_restored_in_a_newer_qemu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text(MATRIX)
    assert main(["vault", "add", "vault", "m.yaml"]) == 0
    assert "2 guests saved" in capsys.readouterr().out
    assert main(["vault", "add", "vault", "m.yaml"]) == 0
    assert capsys.readouterr().out.count("there already: ") == 2
    files = [*(tmp_path / "vault").glob("objects/*")]
    assert sum(file.stat().st_size for file in files) < 3_000_000
    assert main(["vault", "list", "vault"]) == 0
    assert capsys.readouterr().out.count("seabios-1.16.2") == 2
    words = ["vault", "run", "vault", "--host", "debian-sid", "-n", "1", "--run-dir", "run"]
    assert main([*words, "--json", "r.jsonl"]) == 0, capsys.readouterr().out
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    ran = {record["cell"]["policy"]: record["boots"][-1]["console"] for record in records}
    assert {record["verdict"] for record in records} == {"pass"}
    old, new = (records[0]["cell"][role]["firmware"] for role in ("source", "destination"))
    assert ran == {"stock": old, "guest-owned": old, "machine-owned": new}


def test_a_qemu_that_has_dropped_its_machine_type_is_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text(MATRIX.replace("debian-bookworm", "debian-bullseye").replace(
        "pc-i440fx-5.2", "pc-i440fx-5.1").replace("new: {qemu: debian-sid}",
                                                  "new: {qemu: debian-bullseye}"))
    assert main(["vault", "add", "vault", "m.yaml", "-k", "stock"]) == 0
    words = ["vault", "run", "vault", "--host", "debian-sid", "-n", "1", "--json", "r.jsonl"]
    assert main(words) == 1
    (record,) = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert record["verdict"] == "blocked"
    assert "machine-type" in record["reason"]


@pytest.mark.slow
def test_a_uefi_guest_comes_back_with_what_it_had_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its flash and its store are the vault's; under machine-owned the code is the new host's."""
    monkeypatch.chdir(tmp_path)
    text = MATRIX.replace("debian-bookworm", "debian-bookworm, firmware: ovmf-4m").replace(
        "debian-sid", "debian-sid, firmware: ovmf-4m").replace(
        "migrate-reset", "variables-migrate-reset").replace("pc-i440fx-5.2", "pc-q35-5.2")
    (tmp_path / "m.yaml").write_text(text + "boot-timeout: 60\n")
    assert main(["vault", "add", "vault", "m.yaml", "-k", "machine-owned"]) == 0
    (file,) = (tmp_path / "vault").glob("*.yaml")
    assert "--host debian-sid/ovmf-4m\n" in file.read_text()
    words = ["vault", "run", "vault", "-n", "1", "-k", "machine-owned", "--json", "r.jsonl"]
    assert main([*words, "--host", "debian-sid/ovmf-4m"]) == 0, capsys.readouterr().out
    (record,) = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert record["verdict"] == "pass"
    began, reset = record["boots"]
    assert (began["rom"], reset["rom"]) == (
        record["cell"]["source"]["firmware"], record["cell"]["destination"]["firmware"])
    assert began["rom"] != reset["rom"]
    written = reset["variables"]
    assert (written["boots"], written["value"], written["entry"]) == (
        2, "boot-1", "bootmatrix boot-1")
    assert main([*words, "--host", "debian-sid"]) == 2, "a BIOS takes it nowhere"
