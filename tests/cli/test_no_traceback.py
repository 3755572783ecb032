"""Whatever is given, in whatever place: one line, and a status that is not a finding's."""

from __future__ import annotations

import json
import os
import pwd
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.builds import catalogue
from bootmatrix.builds.image_store import CATALOGUE, cache_home
from bootmatrix.cli import main, schema
from bootmatrix.errors import TRACEBACK, HarnessError, UserError, in_a_line
from bootmatrix.matrix import expansion
from helpers import forked
from helpers.records import record

MATRICES = sorted((Path(__file__).parents[2] / "matrices").glob("*.yaml"))
SMALL = """\
schema: 1
hosts: {old: {qemu: debian-bullseye}, new: {qemu: debian-sid}}
axes: {source: old, destination: new, machine: pc-q35-5.2, policy: stock, scenario: migrate-reset}
"""
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


COMMAND = str(Path(sys.executable).with_name("bootmatrix"))


def there() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return kept | {"B": COMMAND, "COLUMNS": "80"}


def run(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run([COMMAND, *arguments], cwd=here, env=there())


def one_line(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("bootmatrix: ")
    for word in words:
        assert word in done.stderr


# ---- matrix files -----------------------------------------------------------------------------


PRODUCT = SMALL.replace("machine: pc-q35-5.2", "machine: [{}], smp: [{}]".format(
    ", ".join(f"m{n}" for n in range(3000)), ", ".join(map(str, range(1, 401)))))
ENDLESS = {
    "brackets": ("[" * 1200, "is nested too deeply"),
    "containers": ("[" * 100 + "]" * 100, "is nested too deeply (at most 40"),
    "aliases": (SMALL + BOMB, "has more than 10000 values"),
    "values": (SMALL + "x: [" + "x, " * 30000 + "]\n", "has more than 10000 values"),
    "key": ("? [[a, b], c]\n: 1\n", "1:3: a key must be text"),
    "itself": ("a: &a [*a]\n", "1:4: an anchor refers to itself"),
    "bytes": (SMALL + "#" * (300 << 10), "at most 262144 are read"),
    "nul": (SMALL.replace("debian-sid", '{path: "a\\0b"}'), "a path cannot hold a NUL"),
    "lines": ('"two\\nlines": 1\n' + SMALL, "1:1: two\\nlines: no such field"),
    "nobody": (SMALL.replace("debian-sid", "{path: ~nosuchuser/q}"), "no home directory of this"),
    "product": (PRODUCT + "sample: 5\n",
                ":1: axes: there are 1200000 combinations of these values (at most 50000"),
}


@pytest.mark.parametrize("which", ENDLESS)
def test_a_matrix_that_would_take_for_ever(tmp_path: Path, which: str) -> None:
    text, words = ENDLESS[which]
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        expansion.load(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_fifo_is_no_matrix(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.yaml")
    with pytest.raises(UserError, match="is no regular file"):
        expansion.load(tmp_path / "m.yaml")
    assert not expansion.looks_like_matrix(tmp_path / "m.yaml", named=True)


def test_mutated_matrices(tmp_path: Path) -> None:
    """FUZZ=20000 for the long run."""
    choose = random.Random(os.environ.get("SEED", "1"))
    texts = [path.read_text() for path in (*MATRICES, CATALOGUE)]
    path = tmp_path / "m.yaml"
    told: list[str] = []
    number = int(os.environ.get("FUZZ", "150"))
    for _ in range(number):
        lines = choose.choice(texts).splitlines(keepends=True)
        text = mutated("".join(lines[: choose.randint(1, len(lines))]), choose)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            if choose.random() < 0.8:
                expansion.load(path).cells(lambda host: ("pc-q35-5.2", "pc-i440fx-5.2"))
            else:
                catalogue.load(path)
            expansion.looks_like_matrix(path, named=True)
        except UserError as error:
            told.append(str(error))
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{text!r}") from error
    assert len(told) > number // 3
    assert not [line for line in told if "\n" in line]


PIECES = ["[", "]", "{", "}", ":", ": ", "- ", "&a ", "*a", "<<: ", "? ", "|\n", ">", "'", '"', "%",
          "!!int ", "!x ", "~", "null", "\t", "\0", "\r", "\ufeff", "é", "\ud800", "1e999", "0x_",
          "2020-99-99", "-1", "999999999999999999999", "true", "#", "\n\n", "...", "---", "=", "@",
          "newest-common", "machine", "[[[[[[[[", "!!python/object:os.system x", "1:2:3"]


def mutated(text: str, choose: random.Random) -> str:
    for _ in range(choose.randint(1, 6)):
        at = choose.randrange(len(text) + 1)
        length = choose.choice((0, 1, 3, 10, 60))
        piece = choose.choice((choose.choice(PIECES), text[at : at + length], "",
                               chr(choose.randrange(0x110000))))
        text = text[:at] + piece + text[at + choose.choice((0, length)) :]
    return text


# ---- what the command line is given, and where ------------------------------------------------


@pytest.mark.parametrize(("arguments", "words"), [
    ("list LONG.yaml", "File name too long"),
    ("list m.yaml --firmware f=/dev/zero --host debian-sid/f", "/dev/zero is no regular file"),
    ("list m.yaml --firmware f=fifo --host debian-sid/f", "fifo is no regular file"),
    ("list m.yaml --firmware f=sparse --host debian-sid/f", "at most 16777216 are read"),
    ("list m.yaml --qemu q=fifo --host q", "fifo is no regular file"),
    ("list m.yaml --qemu q=~nosuchuser/q --host q", "no home directory of this user"),
    ("list m.yaml --firmware f=LONG --host debian-sid/f", "name too long"),
    ("list m.txt", "m.txt: is no name of a matrix file (it ends in .yaml, .yml, .json)"),
    ("list fifo.yaml", "fifo.yaml: is no regular file"),
    ("list a::b.yaml", "begin the name of a test"),
    ("run 'a[x].yaml'", "begin the name of a test"),
    ("run m.yaml -k '('", "Wrong expression passed to '-k'"),
    ("run m.yaml -m 'machine(name='", "Wrong expression passed to '-m'"),
    ("list m.yaml -k 'not'", "Wrong expression passed to '-k'"),
])
def test_what_is_given_is_refused_in_one_line(tmp_path: Path, arguments: str, words: str) -> None:
    for name in ("m.yaml", "m.txt", "a::b.yaml", "a[x].yaml"):
        (tmp_path / name).write_text(SMALL)
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / "fifo.yaml")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 << 30)
    given = arguments.replace("LONG", "a" * 5000)
    one_line(run(tmp_path, *shlex.split(given)), 2, words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arguments", [
    "report sparse", "gate --baseline sparse r.jsonl", "history add sparse", "fwcfg check sparse",
    "nvram show sparse", "nvram verify sparse",
])
def test_a_file_that_is_larger_than_all_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: str,
) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps(record()) + "\n")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 << 30)
    monkeypatch.chdir(tmp_path)
    assert main.main(arguments.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("bootmatrix: sparse: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("arguments", [
    "report {}", "report {} -o out", "gate --baseline r.jsonl {}", "gate --baseline {} r.jsonl",
    "gate --baseline {} --accept r.jsonl", "history add {}", "history add r.jsonl --db {}",
    "history show --db {}", "repro CELL --records {}", "repro CELL --matrix {}", "run {}",
    "bisect --cell CELL --records {} --over qemu --good a --bad b", "run m.yaml --run-dir {}",
    "run m.yaml --resume {}", "run m.yaml --shard 1/2 --shard-times {}", "nvram verify {}",
    "fwcfg check {}", "run m.yaml --json {}", "run m.yaml --junit-xml {}",
])
def test_a_path_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: str,
) -> None:
    (tmp_path / "m.yaml").write_text(SMALL)
    (tmp_path / "r.jsonl").write_text(json.dumps(record()) + "\n")
    monkeypatch.chdir(tmp_path)
    for path in ("a" * 300, "a" * 5000, "a\0b"):
        assert main.main([word.replace("{}", path) for word in arguments.split()]) == 2, path
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert said.err.startswith("bootmatrix: ")


@pytest.mark.parametrize(("script", "environment", "status", "words"), [
    ("mkdir d && cd d && rmdir ../d && $B images list", {}, 2, "current directory is gone"),
    ("$B images build debian-sid", {"HOME": "/proc", "XDG_CACHE_HOME": ""}, 3, "/proc/.cache"),
])
def test_places_that_are_none(
    tmp_path: Path, script: str, environment: dict[str, str], status: int, words: str
) -> None:
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True,
                          timeout=300, env=there() | environment)
    one_line(done, status, words)


def test_a_user_whom_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(UserError, match=r"no home directory.*set XDG_CACHE_HOME"):
        cache_home()


# ---- what nobody has foreseen -------------------------------------------------------------------


@pytest.mark.parametrize(("error", "status", "words"), [
    (UserError("m.yaml: wrong"), 2, "m.yaml: wrong"),
    (HarnessError("broken"), 3, "broken"),
    (OSError(28, "No space left on device", "/a/b"), 3, "/a/b: No space left on device"),
    (OSError(36, "File name too long", "aaa"), 2, "aaa: File name too long"),
    (MemoryError(), 3, "out of memory"),
    (KeyError("cell"), 3, "a fault of bootmatrix's own, please report it: KeyError: 'cell' ("),
    (ValueError("two\nlines"), 3, "ValueError: two lines"),
    (RecursionError("deep"), 3, "RecursionError: deep"),
])
def test_an_error_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception,
    status: int, words: str,
) -> None:
    def broken(options: object) -> int:
        raise error

    assert in_a_line(error)[1] == status
    monkeypatch.setattr(schema, "_schema", broken)
    assert main.main(["schema"]) == status
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    monkeypatch.setenv(TRACEBACK, "1")
    main.main(["schema"])
    foreseen = isinstance(error, UserError | HarnessError)
    assert ("Traceback (most recent call last)" in capsys.readouterr().err) != foreseen


# ---- what list and run take ---------------------------------------------------------------------


FLOW = """\
{schema: 1, hosts: {old: {qemu: debian-bullseye}, new: {qemu: debian-sid}}, axes: {source: old,
 destination: new, machine: pc-q35-5.2, policy: stock, scenario: migrate-reset}}
"""
JSON = re.sub(r"[a-z][a-z0-9.-]*", lambda word: f'"{word[0]}"', FLOW)


@pytest.mark.parametrize(("name", "content"), [
    ("m.YAML", SMALL.encode()),
    ("m.json", JSON.encode()),
    ("m.yml", b"\xef\xbb\xbf" + SMALL.encode()),
    ("m.yaml", SMALL.replace("\n", "\r").encode()),
    ("m.yaml", SMALL.replace("\n", "\r\n").encode()),
    ("m.yaml", FLOW.encode()),
])
def test_list_and_run_take_the_same_files(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert expansion.looks_like_matrix(path, named=True)
    done = run(tmp_path, "list", name, "-k", "old")  # pytest itself has collected it
    assert "\n1 cell\n" in done.stdout, done.stdout + done.stderr
