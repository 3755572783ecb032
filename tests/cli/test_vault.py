"""bootmatrix vault: what its actions say and how they end; nothing is started.

Guests are saved and restored on fakes in tests/run/test_saved.py, and on real QEMUs in
tests/on_qemu/test_vault_on_qemu.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix import engines
from bootmatrix.cli import vault
from bootmatrix.cli.main import main
from bootmatrix.errors import HarnessError, UserError
from bootmatrix.files import given_file
from bootmatrix.run import keeping, runner
from helpers.commands import bootmatrix
from helpers.planting import plant
from helpers.vaults import add_guest


def test_list_names_what_is_damaged_and_has_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = add_guest(tmp_path, "good"), add_guest(tmp_path, "bad", disk=b"another")
    stream = tmp_path / "objects" / f"{bad.said.files['disk.img'].sha256}.xz"
    stream.write_bytes(stream.read_bytes()[:-1])
    (tmp_path / "foreign.yaml").write_text(good.path.read_text().replace(
        '"saved": {', '"qemu": {"path": "/etc/passwd"}, "saved": {'))
    assert main(["vault", "list", str(tmp_path), "--json"]) == 2
    told = capsys.readouterr()
    (row,) = json.loads(told.out)
    assert (Path(row["file"]).name, row["qemu"], row["machine"]) == (
        "good.yaml", "7.2.22", "pc-i440fx-5.2")
    lines = told.err.splitlines()
    assert lines[0].startswith(f"bootmatrix: {bad.path}: {stream}: is damaged")
    assert "foreign.yaml:3:" in lines[1]
    assert "a host is a guest that it holds" in lines[1]
    assert main(["vault", "list", str(tmp_path)]) == 2
    assert "good.yaml  2026-11-27  7.2.22  seabios-1.16.2-1" in capsys.readouterr().out


def test_a_name_of_two_lines_is_a_row_as_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guest = add_guest(tmp_path, "one")
    guest.path.rename(tmp_path / "a\nforged.yaml")
    assert main(["vault", "list", str(tmp_path)]) == 0
    assert r"a\nforged.yaml  2026-11-27" in capsys.readouterr().out


def test_what_is_no_vault_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["list"], ["run"]):
        assert main(["vault", *words, str(tmp_path / "none")]) == 2
        assert "`bootmatrix vault add` makes a vault" in capsys.readouterr().err
    assert main(["vault", "run", str(tmp_path), "--host", "debian-sid"]) == 2
    assert "no guest is there that could be restored" in capsys.readouterr().err


def test_run_runs_the_others_and_is_red_for_a_failed_cell_alone(here: Path) -> None:
    plant(here)
    vault = here / "vault"
    good, bad = add_guest(vault, "good"), add_guest(vault, "bad", disk=b"another")
    done = bootmatrix(here, "vault", "run", "vault", "-n", "1")
    assert done.returncode == 2
    assert "no QEMU is to take the saved guest (--host debian-sid" in done.stderr
    (vault / "objects" / f"{bad.said.files['disk.img'].sha256}.xz").unlink()
    done = bootmatrix(here, "vault", "run", "vault", "--host", "debian-sid", "-n", "1")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"bootmatrix: vault/{bad.path.name}: " in done.stderr
    assert "1 guest of vault damaged, see above: not restored" in done.stderr
    assert "2 cells: 2 passed" in done.stdout
    ids = [f"old-to-debian-sid,pc-i440fx-5.2,{policy},restored,virtio"
           for policy in ("stock", "reread")]
    (here / "plan.json").write_text(json.dumps({"verdicts": {ids[0]: {
        "verdict": "blocked", "reason": "migrate: machine-type: it is gone"}}}))
    done = bootmatrix(here, "vault", "run", "vault", "--host", "debian-sid", "-n", "1",
                      "--json", "r.jsonl")
    assert done.returncode == 1
    records = [json.loads(line) for line in (here / "r.jsonl").read_text().splitlines()]
    assert [record["cell"]["id"] for record in records] == ids
    assert records[0]["matrix"] == f"vault/{good.path.name}"


def test_add_says_what_it_leaves_out(here: Path) -> None:
    plant(here, matrix="""
schema: 1
hosts: {sid: {qemu: debian-sid}}
axes: {source: sid, destination: sid, machine: pc-q35-5.2, policy: stock, scenario: move}
""")
    done = bootmatrix(here, "vault", "add", "vault", "matrices/m.yaml")
    assert done.returncode == 2
    assert "left out: sid-to-sid,pc-q35-5.2,stock,move,ahci: move has no beginning" in done.stderr
    assert "no cell has a guest to be saved" in done.stderr
    assert not (here / "vault").exists()


@pytest.mark.parametrize(("file", "raised", "words"), [
    pytest.param("/proc/none/x", HarnessError,
                 r"not saved: g\.yaml: /proc/none/x: cannot be written: .* \(saved before: 0\)",
                 id="disk"),
    pytest.param("/proc", UserError, "is a directory", id="mistake"),
])
def test_a_disk_that_takes_nothing_is_nobodys_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    file: str, raised: type[Exception], words: str,
) -> None:
    """As in a run, which ends with 3 then."""
    def fake(value: Any) -> Callable[..., Any]:
        return lambda *_: value

    running = SimpleNamespace(beginning=fake(object()), setup=fake(None))
    monkeypatch.setattr(engines, "choose", fake(nullcontext()))
    monkeypatch.setattr(runner, "Runner", fake(nullcontext(running)))
    monkeypatch.setattr(keeping, "name_of", fake("g.yaml"))
    monkeypatch.setattr(keeping, "keep", lambda *_: given_file.replace(Path(file), b""))
    guests = {"key": SimpleNamespace(cell=SimpleNamespace(hosts=[None]))}
    options = argparse.Namespace(vault=tmp_path, engine=None)
    with pytest.raises(raised, match=words):
        vault._save(options, SimpleNamespace(host=fake(None)), guests)


def test_two_that_save_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    """Of two that save one guest, one file would be lost, and its objects never named."""
    directory = tmp_path / "vault"
    held = pytest.raises(UserError, match="another `bootmatrix vault add` saves guests there")
    with vault._alone(directory), held, vault._alone(directory):
        raise AssertionError("it is held")
    assert not directory.exists(), "nothing was saved"
    with vault._alone(directory):
        (directory / "g.yaml").touch()
    assert directory.exists()
    no_directory = pytest.raises(UserError, match=r"g\.yaml: cannot be used: File exists")
    with no_directory, vault._alone(directory / "g.yaml"):
        raise AssertionError("it is no directory")
