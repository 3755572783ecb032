"""The search alone, and real bisections of the firmware that hangs on q35 with AHCI."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bisect import (
    Answer,
    Found,
    Skip,
    Tried,
    built,
    ends,
    listed,
    of_one_kind,
    revisions,
    search,
)
from harness.cli import main
from harness.errors import UserError
from harness.images import ImageStore

MATRIX = str(Path(__file__).parent.parent / "matrices" / "quickstart.yaml")
CELL = "bookworm-to-sid,pc-q35-5.2,stock,migrate-reset,ahci"
OLD_TO_NEW = ["seabios-1.14.0-2", "seabios-1.16.2-1", "seabios-1.16.3-2", "seabios-1.17.0-1"]


# ---- the search ---------------------------------------------------------------------------------


def asker(kinds: str, asked: list[str]) -> Callable[[str, int], Answer]:
    def ask(name: str, left: int) -> Answer:
        asked.append(name)
        kind = {"g": "pass", "b": "silent", "o": "no-boot"}.get(kinds[int(name)])
        return Answer(kind, "planted")

    return ask


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_the_first_bad_one_is_found_in_few_steps(good: int, bad: int, data: st.DataObject) -> None:
    kinds = "g" * good + "b" * bad
    skipped = data.draw(st.sets(st.integers(1, max(1, good + bad - 2)), max_size=5))
    kinds = "".join("s" if n in skipped and 0 < n < good + bad - 1 else kind
                    for n, kind in enumerate(kinds))
    asked: list[str] = []
    found = search([str(n) for n in range(len(kinds))], 0, len(kinds) - 1, asker(kinds, asked))
    assert kinds[int(found.good)] == "g"
    assert kinds[int(found.bad)] == "b"
    between = kinds[int(found.good) + 1 : int(found.bad)]
    assert set(between) <= {"s"}
    assert [int(name) for name in found.between] == list(
        range(int(found.good) + 1, int(found.bad)))
    assert len(asked) == len(set(asked))
    assert len(asked) <= 2 + (len(kinds) - 1).bit_length() + kinds.count("s")


def test_another_failure_is_bad_unless_the_same_is_asked_for() -> None:
    names = [str(n) for n in range(4)]
    assert search(names, 0, 3, asker("goob", [])) == Found("0", "1", ())
    assert search(names, 0, 3, asker("goob", []), same=True) == Found("0", "3", ("1", "2"))


def test_ends_that_tell_nothing() -> None:
    with pytest.raises(UserError, match="the ends agree: both 0 and 1 end in silent"):
        search(["0", "1"], 0, 1, asker("bb", []))
    with pytest.raises(UserError, match="--bad 1 tells nothing: planted"):
        search(["0", "1"], 0, 1, asker("gs", []))


def test_lists(tmp_path: Path) -> None:
    for name in ("seabios-1.16.bin", "seabios-1.9.bin", ".hidden"):
        (tmp_path / name).touch()
    assert listed(tmp_path) == ("seabios-1.9.bin", "seabios-1.16.bin")
    file = tmp_path / "list"
    file.write_text("# from old to new\na\n\nb  # newer\n")
    assert listed(file) == ("a", "b")
    for text, wanted in (("# none\n", "no candidates: it is empty"), ("a\na\n", "a is listed tw")):
        file.write_text(text)
        with pytest.raises(UserError, match=f"list: {wanted}"):
            listed(file)
    with pytest.raises(UserError, match="no such file or directory of candidates"):
        listed(tmp_path / "nothing")


def test_ends_of_a_list() -> None:
    assert ends(OLD_TO_NEW, OLD_TO_NEW[0], OLD_TO_NEW[3]) == (0, 3)
    with pytest.raises(UserError, match=r"comes after the bad one.*--reverse"):
        ends(OLD_TO_NEW, OLD_TO_NEW[3], OLD_TO_NEW[0])
    with pytest.raises(UserError, match=r"--bad seabios-2: no such .*in order: seabios-1"):
        ends(OLD_TO_NEW, OLD_TO_NEW[0], "seabios-2")
    with pytest.raises(UserError, match="--good and --bad are both"):
        ends(OLD_TO_NEW, OLD_TO_NEW[0], OLD_TO_NEW[0])


def test_versions_of_one_kind_are_candidates() -> None:
    names = ["seabios-1.14.0-2", "ovmf-4m-2020.11-2", "ovmf-4m-secure-2020.11-2", "mine-12345678",
             "ovmf-4m-2022.11-6"]  # fmt: skip
    kinds = ["seabios", "ovmf-4m", "ovmf-4m-secure"]
    assert of_one_kind(names, "seabios-1.17.0-1", kinds) == ("seabios-1.14.0-2",)
    assert of_one_kind(names, "ovmf-4m-2022.11-6", kinds) == (names[1], names[4])
    assert of_one_kind(names, "mine-9", kinds) == ("mine-12345678",)
    assert of_one_kind(names[:2], "none", kinds) == tuple(names[:2])


def test_build_commands(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "out-v1").touch()
    assert built(f"echo {tmp_path}/out-{{}}", "v1", log) == tmp_path / "out-v1"
    for command, wanted in (("sh -c 'exit 125'", "says skip"), ("false", "failed, exit status 1"),
                            ("true", "named no file: no output"), ("echo", "named no file: v1")):
        with pytest.raises(Skip, match=wanted):
            built(command, "v1", log)
    with pytest.raises(UserError, match="--build no-such-program"):
        built("no-such-program", "v1", log)


def test_revisions_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run([*git, "init", "-q"], check=True)
    for n in range(4):
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", str(n)], check=True)
    assert len(revisions("HEAD~3", "HEAD")) == 4
    with pytest.raises(UserError, match="does not come after"):
        revisions("HEAD", "HEAD~3")
    with pytest.raises(UserError, match="no revisions nowhere to HEAD"):
        revisions("nowhere", "HEAD")


def test_a_damaged_or_foreign_state(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    Tried(path, {"n": 1}).keep("a", Answer("pass", ""))
    assert Tried(path, {"n": 1}).answers == {"a": Answer("pass", "")}
    with pytest.raises(UserError, match="the state of another bisection"):
        Tried(path, {"n": 2})
    path.write_text(path.read_text()[:20])
    with pytest.raises(UserError, match=r"no state of a bisection.*--fresh"):
        Tried(path, {"n": 1})


# ---- for real -----------------------------------------------------------------------------------


def bisect(*arguments: str) -> int:
    return main(["bisect", "--engine", "bubblewrap", "--matrix", MATRIX, "--cell", CELL,
                 *arguments])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: ImageStore) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_catalogue_and_going_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--over", "firmware", "--good", OLD_TO_NEW[3], "--bad", OLD_TO_NEW[0],
                 "--reverse"]
    assert bisect(*arguments) == 0
    said = capsys.readouterr().out
    assert "first bad: seabios-1.16.2-1\n" in said
    assert "seabios-1.17.0-1: pass; about " in said
    record, other = map(json.loads, next(here.glob("runs/*/records.jsonl")).read_text()
                        .splitlines())
    assert (record["verdict"], other["verdict"]) == ("pass", "no-boot")
    assert other["cell"]["source"]["firmware"] == "seabios-1.16.2-1"
    # As if it had been interrupted: what is known is not run again, what is not, is.
    state = next(here.glob("runs/*/state.json"))
    known = json.loads(state.read_text())
    del known["answers"]["seabios-1.16.2-1"]
    state.write_text(json.dumps(known))
    assert bisect(*arguments) == 0
    said = capsys.readouterr().out
    assert "seabios-1.17.0-1: pass (known from before)" in said
    assert "seabios-1.16.2-1: no-boot\n" in said


def copies(store: ImageStore, directory: Path) -> None:
    """From new to old: 10-..., 20-..., with what is no firmware between."""
    directory.mkdir()
    for number, name in enumerate(reversed(OLD_TO_NEW), 1):
        shutil.copyfile(store.firmware(name).path, directory / f"{number}0-{name}.bin")
    (directory / "15-readme.txt").write_text("no firmware")
    (directory / "25-zeros.bin").write_bytes(bytes(1 << 18))
    (directory / "35-empty.bin").touch()


def test_a_directory_with_what_is_no_firmware(
    here: Path, store: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    copies(store, here / "builds")
    status = bisect("--over", "firmware", "--at", "source", "--candidates", "builds",
                    "--good", "10-seabios-1.17.0-1.bin", "--bad", "40-seabios-1.14.0-2.bin")
    said = capsys.readouterr().out
    assert status == 1, said
    assert "25-zeros.bin: skipped (" in said
    assert "no firmware: it has no jump at the reset vector" in said
    assert "the first bad one is 25-zeros.bin or 30-seabios-1.16.2-1.bin" in said


def test_a_build_command(
    here: Path, store: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    copies(store, here / "builds")
    (here / "list").write_text("10\nbroken\n20\n30\nskip\n40\n")
    command = ("sh -c 'case {} in broken) exit 1;; skip) exit 125;; esac; "
               "echo building >&2; ls builds/{}-*'")
    assert bisect("--over", "firmware", "--at", "source", "--candidates", "list",
                  "--build", command, "--good", "10", "--bad", "40", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["good"], found["first_bad"]) == ("20", "30")
    assert [record["verdict"] for record in found["records"]] == ["pass", "no-boot"]


def test_a_qemu_that_broke_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other way round: the firmware stays, and the QEMU that it hangs on is found."""
    assert bisect("--over", "destination", "--good", "debian-bookworm", "--bad",
                  "debian-sid") == 0
    assert "first bad: debian-trixie\n" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "wanted"), [
    (["--good", OLD_TO_NEW[3], "--bad", OLD_TO_NEW[2], "--reverse"], "the ends agree"),
    (["--good", "x", "--bad", OLD_TO_NEW[2]], "--good x: no such candidate"),
    (["--good", OLD_TO_NEW[3], "--bad", OLD_TO_NEW[0]], "comes after the bad one"),
    (["--good", "a", "--bad", "b", "--candidates", "empty"], "no candidates: it is empty"),
    (["--good", "a", "--bad", "b", "--candidates", "gone"], "no such file or directory"),
    (["--good", OLD_TO_NEW[0], "--bad", OLD_TO_NEW[1], "--at", "host-3"], "has no host host-3"),
])
def test_mistakes_are_one_line(
    arguments: list[str], wanted: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").mkdir()
    assert bisect("--over", "firmware", *arguments) == 2
    said = capsys.readouterr().err
    assert wanted in said
    assert said.count("\n") == 1
