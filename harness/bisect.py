"""Find the first bad one in an ordered list of builds, by running one cell with each.

The search is told of candidates and asks a function what each is; it knows no QEMU. What was
tried is kept in a file, so that a search that was interrupted goes on. docs/bisect.md.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, UserError
from harness.model import (
    Cell,
    FirmwareSource,
    HostSpec,
    QemuSource,
    Verdict,
    role_index,
    role_name,
)
from harness.sources import safe_name

SKIP_STATUS = 125
"""The exit status by which a build command says: not this one (as in git bisect)."""

_NOT_JUDGED = (Verdict.ERROR, Verdict.UNSUPPORTED)


class Over(StrEnum):
    """What the candidates are put in the place of."""

    QEMU = "qemu"
    FIRMWARE = "firmware"
    SOURCE = "source"
    DESTINATION = "destination"


@dataclass(frozen=True)
class Answer:
    """What a candidate was found to be: a verdict with its record, or a reason to skip it."""

    verdict: str | None
    reason: str
    record: dict[str, Any] | None = None

    @property
    def skipped(self) -> bool:
        """Whether nothing was learnt of the claim."""
        return self.verdict is None


class Skip(Exception):
    """A candidate cannot be tried; the text says why."""


# ---- the list ---------------------------------------------------------------------------------


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key by which 1.9 comes before 1.16."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part)
            for part in re.split(r"(\d+)", text) if part]


def listed(path: Path) -> tuple[str, ...]:
    """The candidates of a file, one a line ("#" begins a comment), or of a directory: its entries.

    Those of a directory come in the order of the numbers in their names. Raises UserError.
    """
    try:
        if path.is_dir():
            names = sorted((entry.name for entry in path.iterdir()
                            if not entry.name.startswith(".")), key=natural)
        else:
            lines = (line.partition("#")[0].strip()
                     for line in path.read_text("utf-8").splitlines())
            names = [line for line in lines if line]
    except FileNotFoundError:
        raise UserError("no such file or directory of candidates", file=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"no list of candidates: {error}", file=path) from None
    if not names:
        raise UserError("no candidates: it is empty", file=path)
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name} is listed twice", file=path)
    return tuple(names)


def of_one_kind(names: Sequence[str], name: str, kinds: Sequence[str]) -> tuple[str, ...]:
    """Of firmware builds by ``names``, those of the kind of ``name``: its versions.

    ``kinds`` are names without a version; a build's kind is the longest that its name begins with.
    All of them where ``name`` is of no kind.
    """
    def kind(one: str) -> str:
        return max((kind for kind in kinds if one.startswith(f"{kind}-")), key=len, default="")

    return tuple(one for one in names if kind(one) == kind(name)) or tuple(names)


def revisions(good: str, bad: str) -> tuple[str, ...]:
    """The first-parent commits from ``good`` to ``bad`` in this directory's git repository."""
    def git(*words: str) -> list[str]:
        done = subprocess.run(["git", *words], capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["git failed"]
            raise UserError(f"no revisions {good} to {bad}: {said[0]}",
                            hint="list them in a file: --candidates FILE")
        return done.stdout.split()

    first = git("rev-parse", "--verify", "--end-of-options", f"{good}^{{commit}}")
    found = git("rev-list", "--reverse", "--first-parent", "--ancestry-path",
                "--end-of-options", f"{good}..{bad}")
    if not found:
        raise UserError(f"{bad} does not come after {good} in git's history")
    return (*first, *found)


def ends(candidates: Sequence[str], good: str, bad: str) -> tuple[int, int]:
    """Where the ends are in the list. Raises UserError if they are no ends of a search."""
    places = []
    for option, name in (("--good", good), ("--bad", bad)):
        if name not in candidates:
            raise UserError(f"{option} {name}: no such candidate",
                            hint="in order: " + ", ".join(candidates[:12])
                            + (", ..." if len(candidates) > 12 else ""))
        places.append(candidates.index(name))
    if places[0] == places[1]:
        raise UserError(f"--good and --bad are both {good}")
    if places[0] > places[1]:
        raise UserError(f"the good one, {good}, comes after the bad one, {bad}, in the list",
                        hint="--reverse reads the list from its end")
    return places[0], places[1]


# ---- a candidate in the cell ------------------------------------------------------------------


def roles(cell: Cell, over: Over, at: str | None) -> tuple[int, ...]:
    """The hosts of the cell that a candidate is put into. Raises UserError."""
    if over in (Over.SOURCE, Over.DESTINATION):
        if at is not None:
            raise UserError(f"--at {at} is for --over qemu and firmware", hint=f"{over} is one")
        at = over.value
    if at is None:
        return tuple(range(len(cell.hosts)))
    try:
        index = role_index(at)
    except ValueError:
        index = len(cell.hosts)
    if index >= len(cell.hosts):
        there = ", ".join(role_name(n) for n in range(len(cell.hosts)))
        raise UserError(f"this cell has no host {at}", hint=f"it has {there}")
    return (index,)


def substituted(
    cell: Cell, over: Over, where: Sequence[int], name: str, build: str | Path,
    beside: Callable[[HostSpec], str | FirmwareSource],
) -> Cell:
    """The cell with a candidate in it: ``build`` is a name of the catalogue, or a path.

    Over ``qemu`` a host keeps the firmware that is ``beside`` its QEMU of before.
    """
    def host(old: HostSpec) -> HostSpec:
        new = replace(old, name=safe_name(name).replace("-to-", "_to_"))
        if over is Over.FIRMWARE:
            return replace(
                new, firmware=FirmwareSource(build) if isinstance(build, Path) else build)
        qemu = QemuSource(path=build) if isinstance(build, Path) else build
        kept = old.firmware or beside(old) if over is Over.QEMU else old.firmware
        return replace(new, qemu=qemu, firmware=kept)

    return replace(cell, hosts=tuple(
        host(old) if index in where else old for index, old in enumerate(cell.hosts)))


def built(command: str, revision: str, log: Path) -> Path:
    """Run a build command for a revision; the path that its last line of output names.

    ``{}`` in the command is the revision; without, it is its last argument. Its stderr goes to
    ``log``. Raises Skip if it fails, or names nothing that is there.
    """
    words = shlex.split(command)
    argv = [word.replace("{}", revision) for word in words] if "{}" in command \
        else [*words, revision]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as complaints:
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=complaints)
        except OSError as error:
            raise UserError(f"--build {argv[0]}: {error.strerror}") from None
    if done.returncode == SKIP_STATUS:
        raise Skip("the build command says skip (125)")
    if done.returncode:
        raise Skip(f"the build command failed, exit status {done.returncode}; see {log}")
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    if not lines or not Path(lines[-1]).exists():
        raise Skip(f"the build command named no file: {lines[-1] if lines else 'no output'}")
    return Path(lines[-1]).absolute()


# ---- what was tried -----------------------------------------------------------------------------


@dataclass
class Tried:
    """The answers so far, kept in a file of their own question. Raises UserError if it is none."""

    path: Path
    question: dict[str, Any]
    answers: dict[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.exists():
            return
        try:
            known = json.loads(self.path.read_text("utf-8"))
            same = known["question"] == self.question
            answers = {name: Answer(**answer) for name, answer in known["answers"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise UserError(f"no state of a bisection ({error})", file=self.path,
                            hint="--fresh begins anew") from None
        if not same:
            raise UserError("this is the state of another bisection", file=self.path,
                            hint="--fresh begins anew; or give another --state")
        self.answers = answers

    def keep(self, name: str, answer: Answer) -> None:
        """Remember an answer, in one step."""
        self.answers[name] = answer
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps({
            "question": self.question,
            "answers": {name: vars(answer) for name, answer in self.answers.items()},
        }, indent=1) + "\n")
        beside.replace(self.path)


def fingerprint(value: object) -> str:
    """Twelve hex digits that tell a question from others."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()[:12]


# ---- the search ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """The end of a search: the last good and the first bad candidate.

    ``between`` are those of which nothing could be learnt: with any, the first bad one is one of
    them or ``bad``.
    """

    good: str
    bad: str
    between: tuple[str, ...]


def search(
    candidates: Sequence[str],
    good: int,
    bad: int,
    ask: Callable[[str, int], Answer],
    same: bool = False,
) -> Found:
    """Find the first bad candidate after ``good`` and up to ``bad``.

    ``ask`` is given a name and about how many more will have to be asked after it. A candidate
    with the good end's verdict is good. One that ends otherwise is bad, or, if ``same`` failure
    is asked for and it is not the bad end's, tells nothing, as one that cannot be tried. Raises
    UserError if the ends agree, or if one of them tells nothing.
    """
    steps = _steps_for(bad - good - 1)
    told = {index: ask(candidates[index], steps + 1 - n) for n, index in enumerate((good, bad))}
    for index, option in ((good, "--good"), (bad, "--bad")):
        if told[index].skipped:
            raise UserError(f"{option} {candidates[index]} tells nothing: {told[index].reason}")
    if told[good].verdict == told[bad].verdict:
        raise UserError(f"the ends agree: both {candidates[good]} and {candidates[bad]} end in "
                        f"{told[good].verdict}", hint="nothing to search between them")
    well, ill = told[good].verdict, told[bad].verdict
    unknown: set[int] = set()
    while open_ := [index for index in range(good + 1, bad) if index not in unknown]:
        middle = (good + bad) / 2
        index = min(open_, key=lambda at: (abs(at - middle), at))
        answer = ask(candidates[index], _steps_for(len(open_)) - 1)
        if answer.skipped or (same and answer.verdict not in (well, ill)):
            unknown.add(index)
        elif answer.verdict == well:
            good = index
        else:
            bad = index
    return Found(candidates[good], candidates[bad],
                 tuple(candidates[index] for index in range(good + 1, bad)))


def _steps_for(count: int) -> int:
    return math.ceil(math.log2(count + 1))


def judged(record: dict[str, Any]) -> Answer:
    """The answer that a run record gives."""
    if record["verdict"] in _NOT_JUDGED:
        return Answer(None, f"{record['verdict']}: {record['reason']}", record)
    return Answer(record["verdict"], record["reason"], record)


def attempt(make: Callable[[], Cell], run: Callable[[Cell], dict[str, Any]]) -> Answer:
    """Run a candidate; one that is no build, or that the rig cannot run, is skipped."""
    try:
        return judged(run(make()))
    except Skip as skip:
        return Answer(None, str(skip))
    except UserError as error:
        return Answer(None, str(error))
    except HarnessError as error:
        return Answer(None, error.message)
