"""``bootmatrix bisect``: which build broke this cell?

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootmatrix.cli.options import Commands, add_cell, add_engine, cell_of
from bootmatrix.errors import HarnessError, ImageError, Status, UserError
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.builds.repository import Repository
    from bootmatrix.builds.source import BuildFailed
    from bootmatrix.cell import Cell
    from bootmatrix.diagnose.bisect import BisectResult, Over
    from bootmatrix.diagnose.tried import Answer, Tried
    from bootmatrix.model import Arch, FirmwareSource, GitSource, HostSpec
    from bootmatrix.records.model import Record

SKIPS = 10
SHOWN = 12
NOTES = """\
The ends are run first; a candidate with the good one's verdict is good, any other failure is bad
(or skipped, with --same-failure). What is no build, or does not build, is skipped. The two that
decide are run once more. What was tried is remembered: the same command goes on where it was
interrupted, and tries again what broke.

examples:
  bootmatrix bisect --cell bullseye-to-bookworm,pc-q35-5.2,stock,migrate-reset,ahci --over firmware \\
      --good seabios-1.17.0 --bad seabios-1.14.0 --reverse
  bootmatrix bisect matrices/uefi.yaml CELL --over source --good debian-sid --bad debian-trixie
  bootmatrix bisect --cell CELL --over firmware --candidates ../seabios-builds --good a.bin --bad z.bin
  bootmatrix bisect --cell CELL --source ../seabios --good rel-1.16.2 --bad master
  bootmatrix bisect --cell CELL --over destination --build './build-qemu {}' --good v10.0.0 --bad master

exit status: 0 the first bad one (with --reverse: the first good one) was found; 1 it is one of
several, as nothing is known of the others, or one of the two that decide is flaky; 2 a mistake in
what was given, such as ends that agree; 3 the rig broke, or the build command stopped the search;
130 interrupted
"""  # noqa: E501


def add(commands: Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "bisect", help="which QEMU or firmware build broke a cell?", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=NOTES)
    parser.set_defaults(command=_bisect)
    add_cell(parser, positional=False)
    parser.add_argument("--over", choices=("qemu", "firmware", "source", "destination"),
                        help="what a candidate replaces: the QEMU of every host (its firmware "
                             "stays), the firmware of every host, or one host with both (default, "
                             "with --source: what that is of)")
    parser.add_argument("--at", metavar="ROLE",
                        help="with --over qemu or firmware: on this host only, such as source")
    parser.add_argument("--good", metavar="X", required=True, help="the candidate known as good")
    parser.add_argument("--bad", metavar="Y", required=True, help="the candidate known as bad")
    parser.add_argument("--candidates", metavar="FILE|DIR", type=Path,
                        help="names, paths or revisions, one a line; or a directory of builds "
                             "(default: the catalogue's; with --build, git's revisions)")
    parser.add_argument("--source", metavar="DIR", type=Path,
                        help="a git repository of QEMU's or SeaBIOS', whose revisions from --good "
                             "to --bad are built in a sandbox, as they are needed")
    parser.add_argument("--option", metavar="TEXT", action="append", default=[],
                        help="with --source: an argument of QEMU's configure (--option=--...), a "
                             "line of SeaBIOS' configuration (repeatable)")
    parser.add_argument("--build", metavar="COMMAND",
                        help="makes the build of a revision ({} or its last argument) and prints "
                             "its path; exit status 125 or a failure skips it, 128 and above "
                             "stop the search")
    parser.add_argument("--reverse", action="store_true",
                        help="look for what mended it: the good one is the newer, and the first "
                             "good one is found")
    parser.add_argument("--same-failure", action="store_true",
                        help="skip a candidate that fails otherwise than the bad one")
    parser.add_argument("--skips", metavar="N", type=_number, default=SKIPS,
                        help="with --build: stop after N revisions in a row that tell nothing "
                             f"(default: {SKIPS})")
    parser.add_argument("--state", metavar="FILE", type=Path,
                        help="where to remember what was tried (default: in a directory of this "
                             "bisection's own, in ~/.local/state/bootmatrix)")
    parser.add_argument("--fresh", action="store_true", help="forget what was tried")
    add_engine(parser, "where QEMUs run (default: docker if an engine answers)")
    parser.add_argument("--json", action="store_true", help="the end as JSON, with both records")


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000000")
    return int(text)


def _bisect(options: argparse.Namespace) -> int:
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.builds.source import BuildFailed
    from bootmatrix.diagnose import bisect
    from bootmatrix.diagnose.tried import alone
    from bootmatrix.engines import choose
    from bootmatrix.run.directory import sweep
    from bootmatrix.run.runner import Runner

    store = ImageStore()
    with Builds(store) as builds, contextlib.ExitStack() as stack:
        over = _over(options, builds)
        cell = cell_of(options, builds)
        where = bisect.roles(cell, over, options.at)
        question = _question(options, over, cell, bisect.stays(cell, over, where, builds.host))
        work = _home(question)
        with alone(work):
            tried = _state(options, question, work)
            candidates, good, bad = _candidates(options, over, store, cell.arch, tried)
            sweep(work)  # what a killed one has left
            next_ = stack.enter_context(Ahead(builds, {
                name: _build_of(options, exact, work) for name, exact in candidates.items()
                if exact not in tried.answers} if options.source is not None else {}))
            with choose(options.engine) as engine, \
                    Runner(builds, engine, work, "bisect") as runner:

                def run(new: Cell) -> Record:
                    next_.begin()
                    return runner.run(new)

                def make(name: str) -> Cell:
                    given, called = _called(options, name, candidates[name])
                    build = _build_of(options, given, work)
                    new = bisect.substituted(cell, over, where, called, build,
                                             lambda host: _beside(builds, host))
                    builds.check(new.hosts)
                    try:
                        next_.wait(name)
                        builds.prepare(new.hosts)
                    except BuildFailed as error:
                        raise bisect.Skip(f"{error.message}: {error.complaint}") from None
                    return new

                trial = Trial(make, lambda new: bisect.content([*map(builds.host, new.hosts)]),
                              run, tried, candidates, _is_built(options))

                def ask(name: str, left: int) -> Answer:
                    answer, known = trial.ask(name)
                    if not options.json:
                        _show_answer(name, answer, left, known)
                    return answer

                skips = options.skips if _is_built(options) else None
                try:
                    found = bisect.search(tuple(candidates), good, bad, ask, trial.again,
                                          options.same_failure, skips, next_.after)
                except bisect.Flaky as flaky:
                    tried.ended()
                    echo(f"bootmatrix: {flaky}: nothing follows from that", file=sys.stderr)
                    return Status.RED
                except UserError:
                    tried.ended()
                    raise
            tried.ended()
            return _report(options, found, trial, work, tuple(candidates)[bad], candidates)


def _is_built(options: argparse.Namespace) -> bool:
    """Whether candidates are revisions, which are built."""
    return options.build is not None or options.source is not None


def _over(options: argparse.Namespace, builds: Builds) -> Over:
    """What a candidate replaces. Raises UserError for options that do not go together."""
    from bootmatrix.builds.source import FIRMWARE, QEMU
    from bootmatrix.diagnose.bisect import Over
    from bootmatrix.model import GitSource

    if options.source is None:
        if options.option:
            raise UserError("--option is for --source")
        if options.over is None:
            raise UserError("--over is missing: what a candidate replaces",
                            hint="qemu, firmware, source or destination")
        return Over(options.over)
    for name in ("build", "candidates"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name} and --source both say what the candidates are")
    git = GitSource(options.source.absolute(), options.good)
    if options.over is None:
        over = Over.QEMU if builds.sources.is_of(git, QEMU) else Over.FIRMWARE
    else:
        over = Over(options.over)
    builds.sources.recipe(git, FIRMWARE if over is Over.FIRMWARE else (QEMU,))
    return over


class Ahead:
    """Builds what may be asked next, while something else runs.

    ``what`` are the commits by their candidates' names; of others nothing is built.
    """

    def __init__(self, builds: Builds, what: Mapping[str, Any]) -> None:
        self._builds = builds
        self._what = what
        self._next: Sequence[str] = ()
        self._going: dict[str, tuple[threading.Event, threading.Thread]] = {}
        self._failed: dict[str, BuildFailed] = {}

    def after(self, names: Sequence[str]) -> None:
        """Those that may be asked once the next one has been."""
        self._next = [name for name in names if name in self._what]

    def begin(self) -> None:
        """Something runs now: build them, and no others any more."""
        self._end([name for name in self._going if name not in self._next])
        for name in self._next:
            if name not in self._going and name not in self._failed:
                stop = threading.Event()
                thread = threading.Thread(target=self._build, args=(name, stop),
                                          name=f"builds {name}")
                self._going[name] = stop, thread
                thread.start()

    def wait(self, name: str) -> None:
        """Wait for the build of a candidate that is on its way. Raises BuildFailed if it has."""
        if name in self._going:
            self._going.pop(name)[1].join()
        if name in self._failed:
            raise self._failed[name]

    def _build(self, name: str, stop: threading.Event) -> None:
        from bootmatrix.builds.source import BuildFailed

        try:
            self._builds.build_ahead(self._what[name], stop)
        except BuildFailed as error:
            self._failed[name] = error
        except (HarnessError, UserError, OSError):
            pass  # whoever asks for it is told what keeps it from being built

    def _end(self, names: Sequence[str]) -> None:
        for name in names:
            self._going[name][0].set()
        for name in names:
            self._going.pop(name)[1].join()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *exc: object) -> None:
        self._end([*self._going])


class Trial:
    """What is done to a candidate: made, run, remembered.

    ``make`` gives the cell with a candidate in it, ``content`` the digest of its builds, and
    ``run`` its record. ``names`` are what candidates are remembered by. Where they are ``built``,
    an answer is the revision's, and serves without building it again; else what stands under a
    name is looked at each time.
    """

    def __init__(
        self, make: Callable[[str], Cell], content: Callable[[Cell], str],
        run: Callable[[Cell], Record], tried: Tried, names: Mapping[str, str], built: bool,
    ) -> None:
        self._make = make
        self._content = content
        self._run = run
        self._tried = tried
        self._names = names
        self._built = built
        self._before = dict(tried.answers)
        self._made: dict[str, tuple[Cell, str]] = {}
        self.answers: dict[str, Answer] = {}

    def ask(self, name: str) -> tuple[Answer, bool]:
        """A candidate's answer, and whether it was known from before."""
        from bootmatrix.diagnose.bisect import Skip
        from bootmatrix.diagnose.tried import Answer

        key = self._names[name]
        answer = self._before.get(key)
        if answer is None or not self._built:
            try:
                new, content = self._ready(name)
            except Skip as skip:
                answer = Answer(None, str(skip), lasting=skip.lasting)
            except UserError as error:
                answer = Answer(None, str(error), lasting=False)
            except ImageError as error:
                answer = Answer(None, error.message, lasting=False)
            else:
                answer = self._tried.like(content) or self._judge(new, content)
            self._tried.keep(key, answer)
        self.answers[name] = answer
        return answer, answer in self._before.values()

    def again(self, name: str) -> Answer:
        """Run a candidate once more, to be sure; made anew, if it was known from before."""
        from bootmatrix.diagnose.bisect import Skip

        first = self.answers[name]
        try:
            new, content = self._ready(name)
        except (Skip, UserError) as error:
            raise HarnessError(f"{name} was {first.verdict}, and cannot be made again, to be "
                               f"sure: {error}") from None
        second = self._judge(new, content)
        if second.verdict == first.verdict:
            self._tried.keep(self._names[name], replace(first, confirmed=True))
        return second

    def _ready(self, name: str) -> tuple[Cell, str]:
        if name not in self._made:
            new = self._make(name)
            self._made[name] = new, self._content(new)
        return self._made[name]

    def _judge(self, new: Cell, content: str) -> Answer:
        from bootmatrix.diagnose.bisect import judged

        return judged(self._run(new), content)


def _show_answer(name: str, answer: Answer, left: int, known: bool) -> None:
    text = f"skipped ({answer.reason})" if answer.skipped else str(answer.verdict)
    steps = f"; about {left} more" if left > 0 else ""
    echo(f"{name}: {text}{' (known from before)' if known else ''}{steps}", flush=True)


# ---- what is asked ------------------------------------------------------------------------------


def _question(
    options: argparse.Namespace, over: Over, cell: Cell, stays: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """All that an answer holds for, but for the candidate itself."""
    from bootmatrix.diagnose import bisect
    from bootmatrix.diagnose.tried import fingerprint, judge

    question = {
        "judge": judge(), "cell": cell.id, "values": fingerprint(repr(cell)),
        "builds": fingerprint(stays), "over": over.value, "at": options.at,
    }
    if (disk := cell.guest.disk) is not None:  # an answer is that of the disk as it is now
        there = disk.path.stat()
        question["disk"] = [there.st_size, there.st_mtime_ns]
    if options.source is not None:
        question |= {"source": str(options.source.resolve()), "options": options.option}
    if options.build is not None:
        words = bisect.command_of(options.build)
        question |= {"build": options.build, "scripts": bisect.scripts(words),
                     "directory": str(Path.cwd())}
    return question


def _home(question: dict[str, Any]) -> Path:
    """Where a bisection works: outside the repository, whose owner may clean it at each build."""
    from bootmatrix.diagnose.tried import fingerprint, state_home

    return state_home() / f"bisect-{fingerprint(question)}"


def _state(options: argparse.Namespace, question: dict[str, Any], work: Path) -> Tried:
    from bootmatrix.diagnose.tried import Tried
    from bootmatrix.files.given_file import check_replaceable

    path = options.state or work / "state.json"
    check_replaceable(path)
    if options.fresh:
        path.unlink(missing_ok=True)
    return Tried(path, question)


def _candidates(
    options: argparse.Namespace, over: Over, store: ImageStore, arch: Arch, tried: Tried
) -> tuple[dict[str, str], int, int]:
    """The candidates as they are shown, each with what it is remembered by; where the ends are."""
    from bootmatrix.diagnose import bisect

    if _is_built(options) and options.candidates is None:
        return _revisions(options, tried, _repository(options))
    if options.candidates is not None:
        names = bisect.listed(options.candidates)
    elif over is bisect.Over.FIRMWARE:
        known = [firmware.name for firmware in store.firmwares()]
        names = bisect.of_one_kind(known, options.good, store.kinds())
    else:
        names = store.names(arch)
    if not names:
        raise UserError("no candidates", hint="no image of the catalogue is built: "
                                              "bootmatrix images build")
    if options.reverse:
        names = names[::-1]
    # A name that git knows, such as a branch's, is another revision tomorrow.
    exact = _repository(options).commits(names) if options.build is not None else {}
    good, bad = bisect.ends(names, options.good, options.bad)
    return {name: exact.get(name, name) for name in names}, good, bad


def _repository(options: argparse.Namespace) -> Repository:
    """The one that revisions are of."""
    from bootmatrix.builds.repository import Repository

    if options.source is not None:
        return Repository(options.source)
    return Repository(Path.cwd(), around=True)


def _revisions(
    options: argparse.Namespace, tried: Tried, repository: Repository
) -> tuple[dict[str, str], int, int]:
    from bootmatrix.diagnose import bisect

    ends = {"good": options.good, "bad": options.bad}
    began = [tried.ends.get(f"{end} {name}", name) for end, name in ends.items()]
    old, new = began[::-1] if options.reverse else began
    found = repository.between(old, new)
    tried.began({f"{end} {name}": repository.commit(at) or at
                 for (end, name), at in zip(ends.items(), began, strict=True)})
    for (end, name), at in zip(ends.items(), began, strict=True):
        if repository.commit(name) != repository.commit(at):
            echo(f"bootmatrix: --{end} {name} is taken for {found.get(at, at)}, which it was when "
                  "this bisection began (--fresh begins anew)", file=sys.stderr)
    candidates = {bisect.printable(text): name for name, text in found.items()}
    if options.reverse:
        candidates = dict(reversed(candidates.items()))
    return candidates, 0, len(candidates) - 1


def _called(options: argparse.Namespace, name: str, exact: str) -> tuple[str, str]:
    """What a candidate is called for a build command, and in a record."""
    if not _is_built(options) or options.candidates is not None:
        return name, name
    return exact, name.partition(" ")[0]


def _build_of(options: argparse.Namespace, name: str, work: Path) -> str | Path | GitSource:
    """The build that a candidate stands for. Raises bisect.Skip or UserError."""
    from bootmatrix.diagnose import bisect
    from bootmatrix.matrix.sources import safe_name
    from bootmatrix.model import GitSource

    if options.source is not None:
        return GitSource(options.source.absolute(), name, options=tuple(options.option))
    if options.build is not None:
        log = work / "builds" / f"{safe_name(name)[:100]}.log"
        return bisect.built(bisect.command_of(options.build), name, log)
    if options.candidates is None:
        return name
    if options.candidates.is_dir():
        return Path(options.candidates / name).absolute()
    near = options.candidates.parent / Path(name).expanduser()
    return near.absolute() if "/" in name or near.exists() else name


def _beside(builds: Builds, host: HostSpec) -> str | FirmwareSource:
    from bootmatrix.model import FirmwareSource

    firmware = builds.firmware(host)
    known: Callable[[str], bool] = {one.name for one in builds.firmwares()}.__contains__
    if known(firmware.name) and firmware.in_flash:
        return firmware.name
    return FirmwareSource(firmware.path, variables=firmware.variables, flash=firmware.in_flash)


# ---- what is said -------------------------------------------------------------------------------


def _report(
    options: argparse.Namespace, found: BisectResult, trial: Trial, work: Path, end: str,
    candidates: Mapping[str, str],
) -> int:
    from bootmatrix.records.jsonl import replace_records

    answers = {name: trial.answers[name] for name in (found.good, found.bad)}
    records: list[Any] = [answers[name].record for name in (found.good, found.bad)]
    path = work / "records.jsonl"
    replace_records(path, records)
    # In the order of time: what broke it comes after what was good, what mended it after the bad.
    word, last = ("good", found.good) if options.reverse else ("bad", found.bad)
    between = found.between[::-1] if options.reverse else found.between
    if options.json:
        echo(json.dumps({
            f"first_{word}": None if between else last, "good": found.good, "bad": found.bad,
            "skipped": list(between), "stopped": list(found.stopped), "records": records,
        }, indent=1))
        return Status.RED if between else Status.GREEN
    if found.stopped:
        echo(f"\nstopped: {len(found.stopped)} in a row told nothing (--skips): "
              + "; ".join(found.stopped))
    if not between:
        echo(f"\nfirst {word}: {last}")
    elif len(between) <= SHOWN:
        echo(f"\nthe first {word} one is {' or '.join((*between, last))}: "
              "nothing is known of those before the last")
    else:
        echo(f"\nthe first {word} one is one of {len(between) + 1}, from {between[0]} to {last}: "
              "nothing is known of those before the last")
    for which, name in (("good", found.good), ("bad", found.bad)):
        echo(f"  {which} {name}: {answers[name].verdict}: {answers[name].reason}")
    wanted = trial.answers[end].verdict
    if answers[found.bad].verdict != wanted:
        echo(f"  {end} ends otherwise, in {wanted}: --same-failure looks for that alone")
    echo(f"  both records: {path}")
    if options.source is not None and not between:
        echo("\n" + _repository(options).show(candidates[last]).strip())
    for line in _consoles(records, work, (found.good, found.bad)):
        echo(line)
    return Status.RED if between else Status.GREEN


def _consoles(records: Sequence[Mapping[str, Any]], work: Path, names: Sequence[str]) -> list[str]:
    """What the guests of both ends said last, side by side; nothing where it is not kept."""
    from bootmatrix.plugin.console_tail import console_tail
    from bootmatrix.report.consoles import side_by_side

    said = [console_tail(work / record["artifacts"], work) if record.get("artifacts") else []
            for record in records]
    if not any(said):
        return []
    width = shutil.get_terminal_size((120, 24)).columns
    one, other = (lines or ["(nothing)"] for lines in said)
    return ["", *side_by_side(one, other, (f"good {names[0]}", f"bad {names[1]}"), width)]
