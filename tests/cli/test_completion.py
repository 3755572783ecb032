"""What a shell is told at a Tab, in bash itself and as zsh and fish ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cli.main import main
from bootmatrix.errors import Status
from helpers import forked
from helpers.planting import MATRIX, Q35_STOCK
from helpers.records import record

PROGRAM = Path(sys.executable).with_name("bootmatrix")
ASKING = """\
PATH=$(dirname $PROGRAM):$PATH
eval "$(bootmatrix completion bash)"
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9
COMP_WORDS=($LINE) COMP_CWORD=$((${#COMP_WORDS[@]}-1))
_python_argcomplete bootmatrix
printf '%s\\n' "${COMPREPLY[@]}"
"""


CELL = record()["cell"]["id"]
SUITES_S = [name for name in ImageStore().names(None) if name.startswith("debian-s")]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "matrices").mkdir()
    (tmp_path / "matrices" / "m.yaml").write_text(MATRIX)
    (tmp_path / "matrices" / "notes.txt").touch()
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "records.jsonl").write_text(json.dumps(record()) + "\n")
    main(["history", "add", str(run), "--db", str(tmp_path / "h.sqlite")])
    return tmp_path


def in_bash(here: Path, line: str) -> list[str]:
    done = subprocess.run(["bash", "-c", ASKING], cwd=here, capture_output=True, text=True,
                          env=os.environ | {"LINE": line, "PROGRAM": str(PROGRAM)})
    assert done.returncode == 0, done.stderr
    return [word.strip() for word in done.stdout.splitlines()]


def test_bash(here: Path) -> None:
    assert {"run", "list", "images"} <= {*in_bash(here, "bootmatrix ")}
    assert in_bash(here, "bootmatrix run matrices/") == ["matrices/m.yaml"]
    assert "--strict-known" in in_bash(here, "bootmatrix run matrices/m.yaml --s")
    assert in_bash(here, "bootmatrix run matrices/m.yaml --cell bullseye-to-sid,pc-q35-5.2,st") == [
        Q35_STOCK]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
@pytest.mark.parametrize(("line", "names"), [
    ("bootmatrix repro --matrix matrices/m.yaml bullseye-to-sid,pc-q35-5.2,st", [Q35_STOCK]),
    ("bootmatrix run none.yaml --cell x", []),
    ("bootmatrix images build debian-s", SUITES_S),
    ("bootmatrix fwcfg show --qemu debian-t", [n for n in ImageStore().names(None) if "-t" in n]),
    ("bootmatrix matrix quick", ["quickstart"]),
    ("bootmatrix doctor --engine bub", ["bubblewrap"]),
    ("bootmatrix repro matrices/m.yaml bullseye-to-sid,pc-q35-5.2,st", [Q35_STOCK]),
    ("bootmatrix bisect matrices/m.yaml bullseye-to-sid,pc-q35-5.2,st", [Q35_STOCK]),
    (f"bootmatrix repro runs/one/records.jsonl {CELL[:-2]}", [CELL]),
    (f"bootmatrix repro --records runs/one {CELL[:-2]}", [CELL]),
    ("bootmatrix repro --records runs/none a-to", []),
    (f"bootmatrix history show --db h.sqlite --cell {CELL[:-2]}", [CELL]),
    ("bootmatrix repro lat", ["latest"]),
    ("bootmatrix report lat", ["latest"]),
    ("bootmatrix gate --baseline lat", ["latest"]),
    ("bootmatrix run --resume lat", ["latest"]),
    ("bootmatrix run matrices/m.yaml --host debian-s", SUITES_S),
    ("bootmatrix run matrices/m.yaml --host sid", ["sid"]),
    ("bootmatrix preflight --source debian-s", SUITES_S),
    ("bootmatrix bisect --over source --good debian-s", SUITES_S),
    (f"bootmatrix repro matrices/m.yaml {Q35_STOCK} --until ", ["start", "migrate", "reset"]),
    (f"bootmatrix repro --matrix matrices/m.yaml --attach {Q35_STOCK} --until ",
     ["start", "migrate", "reset"]),
    ("bootmatrix repro --until sh", ["shutdown"]),
    ("bootmatrix images rm o", ["own"]),
    ("bootmatrix nvram upgrade guest.nvram ovmf-4m-sn", ["ovmf-4m-snakeoil", "NAMES"]),
    ("bootmatrix nvram init x --firmware ovmf-4m-sn", ["ovmf-4m-snakeoil", "NAMES"]),
    ("bootmatrix nvram init x --firmware matrices/n", ["matrices/notes.txt"]),
])  # fmt: skip
def test_as_other_shells_ask(here: Path, shell: str, line: str, names: list[str]) -> None:
    forked.run([PROGRAM], cwd=here, env=os.environ | {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": shell, "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(here / "told"),
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))})
    told = [word.partition("\t")[0].partition(":")[0].strip()
            for word in (here / "told").read_text().splitlines()]
    told = [word for word in told if word and not word.startswith("-")]
    if names[-1:] == ["NAMES"]:  # and those with versions, of the images that are built
        assert told[:1] == names[:1]
        assert all(word.startswith(names[0]) for word in told)
    else:
        assert told == names


@pytest.mark.parametrize(("shell", "there"), [
    ("bash", "complete "), ("zsh", "compdef "), ("fish", "complete --command bootmatrix")])
def test_each_shell_gets_its_own(
    shell: str, there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == Status.GREEN
    assert there in capsys.readouterr().out


def test_without_the_library_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    assert main(["completion", "bash"]) == Status.USER_ERROR
    assert "pip install 'bootmatrix[completion]'" in capsys.readouterr().err
