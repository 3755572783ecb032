"""The search alone, bisections with a planted runner, and real ones on q35 with AHCI."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.builds.own_qemu import PROGRAM
from bootmatrix.cell import Cell
from bootmatrix.cli.main import main
from bootmatrix.diagnose.bisect import (
    BisectResult,
    Flaky,
    Skip,
    built,
    ends,
    judged,
    listed,
    of_one_kind,
    search,
)
from bootmatrix.diagnose.tried import Answer
from bootmatrix.errors import HarnessError, UserError
from bootmatrix.model import FirmwareBuild, Verdict
from bootmatrix.records import rows
from bootmatrix.records.model import CellRow, Record
from helpers.leavings import until, wait_for
from helpers.own_builds import build_tree
from helpers.source_trees import GitRepository, StandIn
from helpers.source_trees import image as bios

MATRIX = str(Path(__file__).parents[2] / "matrices" / "quickstart.yaml")
NEW = ("debian-trixie", "debian-sid")
CELL = "bookworm-to-sid,pc-q35-5.2,stock,migrate-reset,ahci"
OLD_TO_NEW = ["seabios-1.14.0-2", "seabios-1.16.2-1", "seabios-1.16.3-2", "seabios-1.17.0-1"]
# The catalogue's own, which take new packages; sid also newer versions.
REAL = ["seabios-1.14.0", "seabios-1.16.2", "seabios-1.16.3", "seabios-1.1[7-9].*"]


# ---- the search ---------------------------------------------------------------------------------

KINDS = {"g": "pass", "b": "silent", "o": "no-boot"}


def asker(kinds: str, asked: list[str]) -> Callable[[str, int], Answer]:
    def ask(name: str, left: int) -> Answer:
        asked.append(name)
        return Answer(KINDS.get(kinds[int(name)]), "planted")

    return ask


def searched(
    kinds: str, again: str = "", asked: list[str] | None = None, **how: Any
) -> BisectResult:
    """A search among candidates of these kinds; run once more they are those of ``again``."""
    def once_more(name: str) -> Answer:
        return Answer(KINDS.get((again or kinds)[int(name)]), "planted")

    return search([str(n) for n in range(len(kinds))], 0, len(kinds) - 1,
                  asker(kinds, [] if asked is None else asked), once_more, **how)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_the_first_bad_one_is_found_in_few_steps(good: int, bad: int, data: st.DataObject) -> None:
    kinds = "g" * good + "b" * bad
    skipped = data.draw(st.sets(st.integers(1, max(1, good + bad - 2)), max_size=30))
    kinds = "".join("s" if n in skipped and 0 < n < good + bad - 1 else kind
                    for n, kind in enumerate(kinds))
    asked: list[str] = []
    found = searched(kinds, asked=asked)
    assert kinds[int(found.good)] == "g"
    assert kinds[int(found.bad)] == "b"
    between = kinds[int(found.good) + 1 : int(found.bad)]
    assert set(between) <= {"s"}
    assert [int(name) for name in found.between] == list(
        range(int(found.good) + 1, int(found.bad)))
    assert found.stopped == ()
    assert len(asked) == len(set(asked))
    assert len(asked) <= 2 + 2 * (len(kinds) - 1).bit_length() + kinds.count("s")


def test_another_failure_is_bad_unless_the_same_is_asked_for() -> None:
    assert searched("goob") == BisectResult("0", "1", ())
    assert searched("goob", same=True) == BisectResult("0", "3", ("1", "2"))


def test_ends_that_tell_nothing() -> None:
    with pytest.raises(UserError, match="the ends agree: both 0 and 1 end in silent"):
        searched("bb")
    with pytest.raises(UserError, match="--bad 1 tells nothing: planted"):
        searched("gs")
    with pytest.raises(UserError, match=r"wrong way round: 0, the good .* silent, and 1, .*--rev"):
        searched("bg")
    broken = judged({"verdict": "error", "reason": "the rig broke"}, "0")
    with pytest.raises(HarnessError, match="--good 0 tells nothing: error: the rig broke"):
        search("01", 0, 1, lambda name, left: broken, lambda name: broken)
    same = Answer("pass", "", content="a digest")
    with pytest.raises(UserError, match="the ends do not differ: 0 and 1 are the same build, byte"):
        search("01", 0, 1, lambda name, left: same, lambda name: same)


@pytest.mark.parametrize("verdict", ["error", "unsupported"])
def test_what_was_not_judged_is_neither_good_nor_bad(verdict: str) -> None:
    answer = judged({"verdict": verdict, "reason": "why"}, "a digest")
    assert answer.skipped
    assert answer.lasting == (verdict == "unsupported")


def test_an_area_that_does_not_build_is_left_by_jumps() -> None:
    """One of 40 around the middle that do not build is not followed by its neighbours."""
    kinds = "g" * 30 + "s" * 40 + "b" * 30
    asked: list[str] = []
    found = searched(kinds, asked=asked, skips=10)
    assert found.stopped != ()
    assert kinds[int(found.good)] == "g"
    assert kinds[int(found.bad)] == "b"
    told = [kinds[int(name)] for name in asked]
    assert told.count("g") > 3
    assert told.count("b") > 3
    assert {"s"} == {kinds[int(name)] for name in found.stopped}
    assert len(found.stopped) == 10


def test_a_search_is_given_up_after_so_many_skipped_in_a_row() -> None:
    asked: list[str] = []
    found = searched("g" + "s" * 46 + "b", asked=asked, skips=5)
    assert found.stopped == tuple(asked[2:])
    assert len(found.stopped) == 5
    assert len(found.between) == 46


@pytest.mark.parametrize(("again", "wanted"), [
    ("gggbb", "2 is flaky: it ended in silent, and run once more in pass"),
    ("gbbbb", "1 is flaky: it ended in pass, and run once more in silent"),
])
def test_those_that_decide_are_run_once_more(again: str, wanted: str) -> None:
    """Whichever way a flaky one leads a search astray, it becomes one of the two that decide."""
    with pytest.raises(Flaky, match=wanted):
        searched("ggbbb", again)


def test_what_cannot_be_confirmed_is_not_found() -> None:
    with pytest.raises(HarnessError, match="2 ended in silent; run once more, to be sure, it told"):
        searched("ggbbb", "ggsbb")


# ---- the list -----------------------------------------------------------------------------------


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
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UserError, match="fifo: no list of candidates: is no regular file"):
        listed(tmp_path / "fifo")
    with pytest.raises(UserError, match="no such file or directory of candidates"):
        listed(tmp_path / "nothing")


def test_ends_of_a_list() -> None:
    assert ends(OLD_TO_NEW, OLD_TO_NEW[0], OLD_TO_NEW[3]) == (0, 3)
    assert ends(OLD_TO_NEW, "seabios-1.14.0", "seabios-1.17.*") == (0, 3)
    with pytest.raises(UserError, match=r"--bad seabios-1\.16\.\*: could be seabios-1.16.2-1 or "):
        ends(OLD_TO_NEW, OLD_TO_NEW[0], "seabios-1.16.*")
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
    assert built(["echo", f"{tmp_path}/out-{{}}"], "v1", log) == tmp_path / "out-v1"
    for command, wanted, lasting in (
        (["sh", "-c", "exit 125"], "says skip", True),
        (["sh", "-c", "echo no room >&2; exit 1"], "failed, exit status 1: no room; see", False),
        (["true"], "named no file: no output", False),
        (["echo"], "named no file: v1", False),
        (["printf", "\x1b[31m"], r"named no file: \?\[31m", False),
    ):
        with pytest.raises(Skip, match=wanted) as caught:
            built(command, "v1", log)
        assert caught.value.lasting == lasting
    for script in ("exit 130", "kill -9 $$"):
        with pytest.raises(HarnessError, match="128 and above stop the search"):
            built(["sh", "-c", script], "v1", log)


class Repository(GitRepository):
    """A git repository with one file, which a build command puts where builds are put."""

    def commit_bios(self, subject: str, content: bytes) -> str:
        return self.commit(subject, {"bios": content})


# ---- with a planted runner ----------------------------------------------------------------------


def bisect(*arguments: str) -> int:
    return main(["bisect", "--engine", "bubblewrap", "--matrix", MATRIX, "--cell", CELL,
                 *arguments])


def planted(cell: Cell, verdict: str, reason: str) -> Record:
    described = cast(CellRow, {"id": cell.id})
    return rows.record(described, Verdict(verdict), reason, scenario=cell.scenario,
                       engine="bubblewrap", seconds=0.1)


KINDS_OF = {"bad": "silent", "late": "late"}


class PlantedRunner:
    """Stands in for run.runner.Runner: what comes of a cell stands in its firmware, or QEMU.

    One that holds ``flaky`` ends otherwise every other time; ``error`` breaks while there is a
    file of that name in this directory.
    """

    runs: ClassVar[list[str]] = []

    def __init__(self, builds: Builds, engine: object, run_dir: Path, worker: str) -> None:
        self._builds = builds
        self._scratch = run_dir / f"scratch-{worker}"

    def __enter__(self) -> PlantedRunner:
        self._scratch.mkdir()
        return self

    def __exit__(self, *exc: object) -> None:
        self._scratch.rmdir()

    def run(self, cell: Cell) -> Record:
        host = self._builds.host(cell.hosts[0])
        text = host.firmware.path.read_bytes().partition(b"\0")[0].decode()
        if host.qemu.mounts:  # one of the user's own
            program = host.qemu.mounts[0][0] / PROGRAM
            text = program.read_bytes().rpartition(b"\0planted: ")[2].decode()
        self.runs.append(text)
        self._scratch.stat()
        verdict = next((verdict for word, verdict in KINDS_OF.items() if word in text), "pass")
        if "flaky" in text and self.runs.count(text) % 2:
            verdict = "silent" if verdict == "pass" else "pass"
        if "error" in text and Path("error").exists():
            verdict = "error"
        return planted(cell, verdict, f"it holds {text}")


@pytest.fixture
def there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: ImageStore
) -> Repository:
    """A repository, in which bisections find the planted runner."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    repository = Repository(tmp_path / "git")
    monkeypatch.chdir(repository.path)
    plant(monkeypatch)
    return repository


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    PlantedRunner.runs.clear()
    monkeypatch.setattr("bootmatrix.run.runner.Runner", PlantedRunner)
    monkeypatch.setattr("bootmatrix.engines.choose", lambda name: contextlib.nullcontext())


BUILD = """#!/bin/sh
# As every Makefile does: the same path each time.
set -e
mkdir -p out
echo "$1" >>built
git show "$1:bios" >out/bios.bin
if grep -q broken out/bios.bin; then echo "cc: no such header" >&2; exit 1; fi
if grep -q skip out/bios.bin; then exit 125; fi
if grep -q clean out/bios.bin; then git clean -qfdx -e build.sh -e out -e built; fi
if grep -q checkout out/bios.bin; then git checkout -q "$1"; fi
echo out/bios.bin
"""


def history(there: Repository, *texts: str) -> list[str]:
    (there.path / "build.sh").write_text(BUILD)
    (there.path / "build.sh").chmod(0o755)
    return [there.commit_bios(f"makes it {text}", bios(text)) for text in texts]


def builds_of(good: str, bad: str, *more: str) -> int:
    return bisect("--over", "firmware", "--at", "source", "--build", "./build.sh", "--good", good,
                  "--bad", bad, *more)


def labels(there: GitRepository, *names: str) -> list[str]:
    return [there.git("log", "-1", "--format=%h %s", name) for name in names]


def test_a_build_command_that_prints_one_path(
    there: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    made = history(there, "good 1", "good 2", "good 3", "bad 4", "bad 5", "bad 6")
    assert builds_of(made[0], "main") == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    third, fourth = labels(there, made[2], made[3])
    assert f"\nfirst bad: {fourth}\n  good {third}: pass: it holds good 3\n" in said
    assert f"{third}: pass" in said
    # All is known the second time, and nothing is built.
    (there.path / "built").unlink()
    assert builds_of(made[0], "main") == 0
    assert f"\nfirst bad: {fourth}\n" in capsys.readouterr().out
    assert not (there.path / "built").exists()


@pytest.mark.parametrize("over", [pytest.param("qemu", marks=pytest.mark.thorough), "source"])
def test_a_qemu_that_is_built_in_one_tree(
    over: str, there: Repository, store: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """The build command prints the directory; only a program's bytes tell its builds apart."""
    build_tree(store, there.path / "tree")
    shutil.copy(there.path / "tree" / PROGRAM, there.path / "base")
    made = history(there, "good 1", "good 2", "bad 3", "bad 4")
    (there.path / "build.sh").write_text(f"""#!/bin/sh
        {{ cat base; printf '\\0planted: '; git show $1:bios | tr -d '\\0\\352'; }} >tree/new
        chmod 755 tree/new && mv tree/new tree/{PROGRAM} && echo tree""")
    arguments = ["--over", over, "--build", "./build.sh", "--good", made[0], "--bad", made[3]]
    assert bisect(*arguments) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    second, third = labels(there, made[1], made[2])
    assert f"first bad: {third}\n  good {second}: pass: it holds good 2\n" in said


def test_it_goes_on_after_an_interruption_with_one_path(
    there: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    """The build command stopped the search; HEAD, too, is another one then."""
    made = history(there, "good 1", "good 2 checkout", "bad 3", "bad 4", "bad 5 checkout")
    script = there.path / "build.sh"
    stop = there.path.parent / "stop"
    script.write_text(BUILD.replace("mkdir", f"if [ -e {stop} ] && [ $1 = {made[2]} ]; then "
                                             "exit 130; fi; mkdir"))
    stop.touch()
    there.git("checkout", "-q", made[4])
    assert builds_of(made[0], "HEAD") == 3
    assert "ended with status 130" in capsys.readouterr().err
    stop.unlink()
    there.git("checkout", "-q", made[1])
    assert builds_of(made[0], "HEAD") == 0
    captured = capsys.readouterr()
    second, third, fifth = labels(there, made[1], made[2], made[4])
    assert f"first bad: {third}\n  good {second}:" in captured.out
    assert f"{fifth}: silent (known from before)" in captured.out
    assert f"--bad HEAD is taken for {fifth}, which it was when" in captured.err
    # Now it has ended, and HEAD is what it is.
    there.git("checkout", "-q", made[1])
    assert builds_of(made[0], "HEAD") == 2
    assert "the ends agree" in capsys.readouterr().err


def test_a_fix_is_found_backwards(
    there: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    made = history(there, "bad 1", "bad 2", "broken", "good 4", "good 5")
    assert builds_of(made[4], made[0]) == 2
    assert "--reverse: the good one is the newer" in capsys.readouterr().err
    assert builds_of(made[4], made[0], "--reverse") == 1
    third, fourth = labels(there, made[2], made[3])
    said = capsys.readouterr().out
    assert f"the first good one is {third} or {fourth}: nothing is known of those before" in said
    assert "failed, exit status 1: cc: no such header; see" in said
    there.git("checkout", "-q", "-b", "other", made[1])
    fixed = history(there, "good 3", "good 4")
    assert builds_of(fixed[1], made[0], "--reverse", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["first_good"] == labels(there, fixed[0])[0]
    assert "first_bad" not in found


def test_a_build_script_that_cleans_the_repository(
    there: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    made = history(there, *(f"good {n} clean" for n in range(4)), *(f"bad {n}" for n in range(4)))
    assert builds_of(made[0], made[7]) == 0
    assert f"first bad: {labels(there, made[4])[0]}\n" in capsys.readouterr().out
    PlantedRunner.runs.clear()
    assert builds_of(made[0], made[7]) == 0
    assert PlantedRunner.runs == []


def test_unbuildable_revisions_in_a_row(
    there: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    made = history(there, "good 1", *(f"broken {n}" for n in range(20)), "bad 1")
    assert builds_of(made[0], made[21], "--skips", "4") == 1
    said = capsys.readouterr().out
    assert (there.path / "built").read_text().count("\n") == 6
    assert "stopped: 4 in a row told nothing (--skips): " in said
    stopped = said.partition("stopped: ")[2].splitlines()[0]
    assert stopped.count("makes it broken ") == 4
    first, last = labels(there, made[1], made[21])
    assert f"the first bad one is one of 21, from {first} to {last}" in said


def test_what_failed_is_tried_again_and_what_says_skip_is_not(
    there: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    made = history(there, "good 1", "skip 2", "bad 3 error", "bad 4")
    (there.path / "error").touch()
    assert builds_of(made[0], made[3]) == 1
    said = capsys.readouterr().out
    second, third = labels(there, made[1], made[2])
    assert f"{third}: skipped (error: it holds bad 3 error)" in said
    (there.path / "error").unlink()
    assert builds_of(made[0], made[3]) == 1
    said = capsys.readouterr().out
    assert f"{third}: silent\n" in said or f"{third}: silent;" in said
    assert f"{second}: skipped (the build command says skip (125)) (known from before)" in said
    assert f"the first bad one is {second} or {third}" in said


def test_flaky_builds_and_ends_that_do_not_differ(
    there: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    made = history(there, "good 1", "good 2 flaky", "bad 3")
    assert builds_of(made[0], made[2]) == 1
    second = labels(there, made[1])[0]
    assert capsys.readouterr().err == (
        f"bootmatrix: {second} is flaky: it ended in silent, and run once more in pass: "
        "nothing follows from that\n")
    (there.path / "build.sh").write_text("#!/bin/sh\necho out/bios.bin\n")
    assert builds_of(made[0], made[2]) == 2
    assert "are the same build, byte for byte" in capsys.readouterr().err


def test_late_is_a_verdict_of_its_own(
    there: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the silence that is searched for, nor what the good end does; never mixed up."""
    made = history(there, "good 1", "good 2", "late 3", "bad 4", "bad 5")
    assert builds_of(made[0], made[4]) == 0
    said = capsys.readouterr().out
    second, third, fourth, fifth = labels(there, *made[1:])
    assert f"first bad: {third}\n" in said
    assert f"{fifth} ends otherwise, in silent: --same-failure looks for that alone" in said
    assert builds_of(made[0], made[4], "--same-failure") == 1
    said = capsys.readouterr().out
    assert f"the first bad one is {third} or {fourth}: nothing is known" in said
    assert "ends otherwise" not in said
    assert builds_of(made[0], made[2]) == 0
    assert f"first bad: {third}\n  good {second}: " in capsys.readouterr().out


def test_candidates_that_change_under_their_name(
    there: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = there.path / "builds"
    directory.mkdir()
    for number, text in enumerate(("good 1", "good 2", "bad 3", "bad 4"), 1):
        (directory / f"{number}.bin").write_bytes(bios(text))
    arguments = ("--over", "firmware", "--at", "source", "--candidates", "builds",
                 "--good", "1.bin", "--bad", "4.bin")
    assert bisect(*arguments) == 0
    assert "first bad: 3.bin" in capsys.readouterr().out
    (directory / "2.bin").write_bytes(bios("bad 2"))
    assert bisect(*arguments) == 0
    said = capsys.readouterr().out
    assert "2.bin: silent\n" in said
    assert "4.bin: silent (known from before)" in said
    assert "first bad: 2.bin" in said


def test_a_name_that_git_moves(there: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    """A list for a build command may name branches: another commit is another candidate."""
    made = history(there, "good 1", "good 2", "bad 3", "bad 4")
    for name, at in (("one", 0), ("two", 1), ("three", 2), ("four", 3)):
        there.git("branch", name, made[at])
    (there.path / "list").write_text("one\ntwo\nthree\nfour\n")
    assert builds_of("one", "four", "--candidates", "list") == 0
    assert "first bad: three" in capsys.readouterr().out
    there.git("branch", "-f", "two", made[2])
    assert builds_of("one", "four", "--candidates", "list") == 0
    assert "first bad: two" in capsys.readouterr().out


def in_a_process(*arguments: str) -> subprocess.Popen[str]:
    """A bisection in a process of its own, with the planted runner."""
    code = ("import sys; sys.path.insert(0, sys.argv.pop(1)); import pytest; "
            "from bootmatrix.ending import end_tidily; end_tidily(); "
            "from diagnose import test_bisect as t; "
            "t.plant(pytest.MonkeyPatch()); sys.exit(t.bisect(*sys.argv[1:]))")
    tests = str(Path(__file__).parents[1])
    return subprocess.Popen([sys.executable, "-c", code, tests, *arguments],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            start_new_session=True)


def test_a_directory_with_what_is_no_firmware(
    there: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = there.path / "builds"
    directory.mkdir()
    for name, content in (("9-good", bios("good 1")), ("10-readme.txt", b"no firmware"),
                          ("20-good", bios("good 2")), ("25-zeros", bytes(1 << 18)),
                          ("30-bad", bios("bad 3")), ("35-empty", b""), ("40-bad", bios("bad 4"))):
        (directory / name).write_bytes(content)
    assert bisect("--over", "firmware", "--at", "source", "--candidates", "builds",
                  "--good", "9-good", "--bad", "40-bad") == 1
    said = capsys.readouterr().out
    assert "25-zeros: skipped (" in said
    assert "no firmware: it has no jump at the reset vector" in said
    assert "the first bad one is 25-zeros or 30-bad: nothing is known of those before" in said


def test_a_list_for_a_build_command(
    there: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("10", "good 1"), ("20", "good 2"), ("30", "bad 3"), ("40", "bad 4")):
        (there.path / f"{name}.bin").write_bytes(bios(text))
    (there.path / "list").write_text("10\nbroken\n20\n30\nskip\n40\n")
    command = ("sh -c 'case {} in broken) exit 1;; skip) exit 125;; esac; "
               "echo building >&2; ls {}.bin'")
    assert bisect("--over", "firmware", "--at", "source", "--candidates", "list",
                  "--build", command, "--good", "10", "--bad", "40", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["good"], found["first_bad"]) == ("20", "30")
    assert [record["verdict"] for record in found["records"]] == ["pass", "silent"]


@pytest.fixture
def sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: Repository, store: ImageStore
) -> StandIn:
    """A repository of what is built like SeaBIOS; what is built is cached for this test alone."""
    cached = tmp_path / "cached"
    monkeypatch.setattr("bootmatrix.builds.host.Builds", lambda store: Builds(store, cached))
    return StandIn(tmp_path / "seabios")


def of_source(there: StandIn, good: str, bad: str, *more: str) -> int:
    return bisect("--at", "source", "--source", str(there.path), "--good", good, "--bad", bad,
                  *more)


@pytest.mark.slow
def test_a_repository_without_a_build_command(
    sources: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = sources.git("rev-parse", "HEAD")
    sources.release("second", "good 2")
    broken = "echo 'cc: no such header' >&2; exit 1"
    third = sources.release("does not build", "good 3", build=broken)
    fourth = sources.release("breaks it", "bad 4")
    sources.release("last", "bad 5")
    assert of_source(sources, first, "main") == 1, capsys.readouterr()
    said = capsys.readouterr().out
    why = f"skipped ({sources.path} at {third} does not build: "
    assert f"{third[:7]} does not build: {why}" in said
    assert ".log: cc: no such header); about" in said
    wanted = " or ".join(labels(sources, third, fourth))
    assert f"the first bad one is {wanted}: nothing is known of" in said
    assert of_source(sources, third + "~1", "main", "--json") == 1
    # Repaired, the same question is another: its revisions are others.
    sources.git("reset", "-q", "--hard", first)
    good = sources.release("good again", "good 6")
    bad = sources.release("breaks it again", "bad 7")
    assert of_source(sources, first, "main") == 0, capsys.readouterr()
    said = capsys.readouterr().out
    assert f"first bad: {labels(sources, bad)[0]}" in said
    assert "breaks it again" in said.partition("both records")[2]
    assert "image |" in said.partition("both records")[2]  # the diffstat
    assert good[:7] in said


@pytest.mark.parametrize(("arguments", "says"), [
    (["--source", "{}", "--build", "make"], "--build and --source both say what the candidates"),
    (["--source", "{}", "--over", "qemu"], "is no QEMU: there is no configure"),
    (["--source", "/nowhere"], "/nowhere is not there"),
    (["--option", "CONFIG_X=y", "--over", "firmware"], "--option is for --source"),
    ([], "--over is missing"),
], ids=["two ways", "no QEMU", "nowhere", "option", "nothing"])
def test_mistakes_with_a_source(
    arguments: list[str], says: str, sources: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [word.format(sources.path) for word in arguments]
    assert bisect(*told, "--good", "HEAD", "--bad", "main") == 2
    assert says in capsys.readouterr().err


def test_a_qemu_that_broke_it(
    there: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue's QEMUs; the firmware that the source has does not move with them."""
    monkeypatch.setattr(PlantedRunner, "run", lambda runner, cell: planted(
        cell, Verdict.NO_BOOT if cell.hosts[1].qemu in NEW else Verdict.PASS, ""))
    assert bisect("--over", "destination", "--good", "debian-bookworm", "--bad", "debian-sid") == 0
    assert "first bad: debian-trixie\n" in capsys.readouterr().out


ARGUMENTS = ("--over", "firmware", "--at", "source", "--build", "./build.sh")


@pytest.mark.parametrize("number", [
    signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.thorough)])
def test_killed_while_it_builds(
    there: Repository, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """The build command dies with it, what it made a daemon too; a second one is refused."""
    made = history(there, "good 1", "good 2", "bad 3", "bad 4")
    script = there.path / "build.sh"
    script.write_text(BUILD.replace("mkdir", f"""if [ -e hang ] && [ $1 = {made[1]} ]; then
        setsid sh -c 'echo $$ >>pids; exec sleep 1000' &
        echo $$ >>pids; sleep 1000; fi; mkdir"""))
    (there.path / "hang").touch()
    ends = ("--good", made[0], "--bad", made[3])
    running = in_a_process(*ARGUMENTS, *ends)
    pids = there.path / "pids"
    try:
        wait_for(running, lambda: pids.exists() and len(pids.read_text().splitlines()) == 2)
        assert bisect(*ARGUMENTS, *ends) == 2
        said = capsys.readouterr().err
        assert f"this bisection is already running, as process {running.pid}" in said
        assert said.count("\n") == 1
        running.send_signal(number)
        output, _ = running.communicate(timeout=300)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == (130 if number is signal.SIGTERM else -signal.SIGKILL), output
    assert until(lambda: not any(Path("/proc", pid).exists()
                                 for pid in pids.read_text().split()))
    (there.path / "hang").unlink()
    assert builds_of(made[0], made[3]) == 0
    said = capsys.readouterr().out
    first, third = labels(there, made[0], made[2])
    assert f"{first}: pass (known from before)" in said
    assert f"first bad: {third}\n" in said


# ---- for real -----------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: ImageStore) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # Without patience: what a hang is, and what is late, is not the question here.
    impatient = tmp_path / "quickstart.yaml"
    shipped = Path(MATRIX).read_text()
    assert shipped.count("\nboot-timeout: 5 ") == 1
    impatient.write_text(shipped.replace("\nboot-timeout: 5 ", "\nboot-timeout: 1 ")
                         + "\npatience: 1\n")
    monkeypatch.setattr(sys.modules[__name__], "MATRIX", str(impatient))
    return tmp_path


@pytest.mark.thorough
def test_the_catalogue_killed_in_the_middle_of_a_cell_and_going_on(
    here: Path, seabios: dict[str, FirmwareBuild],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is known is not run again; what the kill has left breaks nothing."""
    _, middle, first, good = (seabios[suite].name for suite in seabios)
    arguments = ["--over", "firmware", "--good", REAL[3], "--bad", REAL[0], "--reverse"]
    running = subprocess.Popen(
        [Path(sys.executable).with_name("bootmatrix"), "bisect", "--engine", "bubblewrap",
         "--matrix", MATRIX, "--cell", CELL, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    home = "state/bootmatrix/bisect-*"
    scratch = f"{home}/scratch-bisect/cell"
    try:
        # The first cell's answer is remembered, and the second has its first QEMU.
        wait_for(running, lambda: any('"pass"' in state.read_text()
                                      for state in here.glob(f"{home}/state.json")))
        wait_for(running, lambda: any(here.glob(f"{scratch}/*/qemu.log")))
    finally:
        running.kill()
        running.communicate()
    assert any(here.glob(scratch))
    assert bisect(*arguments) == 0
    said = capsys.readouterr().out
    assert f"{good}: pass (known from before); about " in said
    assert "skipped" not in said
    assert f"first good: {first}\n" in said
    assert not any(here.glob(f"{home}/scratch-bisect"))
    record, other = map(json.loads, next(here.glob(f"{home}/records.jsonl")).read_text()
                        .splitlines())
    assert (record["verdict"], other["verdict"]) == ("pass", "no-boot")
    assert other["cell"]["source"]["firmware"] == middle


@pytest.mark.parametrize(("arguments", "wanted"), [
    (["--good", REAL[3], "--bad", REAL[2], "--reverse"], "the ends agree"),
    (["--good", "x", "--bad", REAL[2]], "--good x: no such candidate"),
    (["--good", "out/a.bin", "--bad", REAL[2]], "files are candidates with --candidates DIR"),
    (["--good", REAL[3], "--bad", REAL[0]], "comes after the bad one"),
    (["--good", "a", "--bad", "b", "--candidates", "empty"], "no candidates: it is empty"),
    (["--good", "a", "--bad", "b", "--candidates", "gone"], "no such file or directory"),
    (["--good", REAL[0], "--bad", REAL[1], "--at", "host-3"], "has no host host-3"),
])
def test_mistakes_are_one_line(
    arguments: list[str], wanted: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").mkdir()
    assert bisect("--over", "firmware", *arguments) == 2
    said = capsys.readouterr().err
    assert wanted in said
    assert said.count("\n") == 1
