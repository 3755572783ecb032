"""Find the first bad one in an ordered list of builds, by running one cell with each.

The search is told of candidates and asks a function what each is; it knows no QEMU.
docs/bisect.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from bootmatrix.builds.repository import Repository
from bootmatrix.cell import Cell
from bootmatrix.diagnose import supervised
from bootmatrix.diagnose.tried import Answer, fingerprint
from bootmatrix.errors import HarnessError, UserError
from bootmatrix.files import given_file
from bootmatrix.firmware.names import kind_of, means
from bootmatrix.matrix.sources import natural, safe_name
from bootmatrix.model import (
    FirmwareSource,
    GitSource,
    Host,
    HostSpec,
    QemuSource,
    Verdict,
    role_index,
    role_name,
)

SKIP_STATUS = 125
"""The exit status by which a build command says: not this one (as in git bisect)."""

STOP_STATUS = 128
"""From this one on a build command says: stop (as in git bisect); so a shell tells a signal."""

_NAME_LENGTH = 40
_SCRIPT_BYTES = 1 << 20
_LONGEST_LIST = 1 << 20
_NOT_JUDGED = (Verdict.ERROR, Verdict.UNSUPPORTED)


class Over(StrEnum):
    """What the candidates are put in the place of."""

    QEMU = "qemu"
    FIRMWARE = "firmware"
    SOURCE = "source"
    DESTINATION = "destination"


class Skip(Exception):
    """A candidate cannot be tried; the text says why. ``lasting``: nor can it tomorrow."""

    def __init__(self, why: str, *, lasting: bool = False) -> None:
        super().__init__(why)
        self.lasting = lasting


class Flaky(Exception):
    """One and the same candidate ended in two verdicts: nothing follows from either."""


# ---- the list ---------------------------------------------------------------------------------


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
                     for line in given_file.read(path, _LONGEST_LIST).decode().splitlines())
            names = [line for line in lines if line]
    except given_file.Missing:
        raise UserError("no such file or directory of candidates", file=path) from None
    except (given_file.Unreadable, OSError, UnicodeDecodeError) as error:
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
    kind = kind_of(name, kinds)
    return tuple(one for one in names if kind_of(one, kinds) == kind) or tuple(names)


def ends(candidates: Sequence[str], good: str, bad: str) -> tuple[int, int]:
    """Where the ends are in the list. Raises UserError if they are no ends of a search."""
    places = []
    for option, name in (("--good", good), ("--bad", bad)):
        meant = [name] if name in candidates else [one for one in candidates if means(name, one)]
        if len(meant) > 1:
            raise UserError(f"{option} {name}: could be {' or '.join(meant)}")
        if not meant:
            hint = "in order: " + ", ".join(candidates[:12]) + ", ..." * (len(candidates) > 12)
            if "/" in name and not any("/" in one for one in candidates):
                hint = "files are candidates with --candidates DIR, by their names"
            raise UserError(f"{option} {name}: no such candidate", hint=hint)
        places.append(candidates.index(meant[0]))
    if places[0] == places[1]:
        raise UserError(f"--good and --bad are both {good}")
    if places[0] > places[1]:
        raise UserError(f"the good one, {good}, comes after the bad one, {bad}, in the list",
                        hint="--reverse: the good one is the newer")
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
    cell: Cell, over: Over, where: Sequence[int], name: str, build: str | Path | GitSource,
    beside: Callable[[HostSpec], str | FirmwareSource],
) -> Cell:
    """The cell with a candidate in it: a name of the catalogue, a path, or a commit to be built.

    Over ``qemu`` a host keeps the firmware that is ``beside`` its QEMU of before. A path's build
    has the candidate's name, so that it is not taken for what another found under that path.
    """
    called = _short(safe_name(name).replace("-to-", "_to_"))

    def host(old: HostSpec) -> HostSpec:
        new = replace(old, name=called)
        if over is Over.FIRMWARE:
            if isinstance(build, GitSource):
                return replace(new, firmware=FirmwareSource(build.repository, name=called,
                                                            git=build))
            return replace(new, firmware=FirmwareSource(build, name=called)
                           if isinstance(build, Path) else build)
        qemu: str | QemuSource
        if isinstance(build, GitSource):
            qemu = QemuSource(name=called, git=build)
        else:
            qemu = QemuSource(path=build, name=called) if isinstance(build, Path) else build
        firmware = old.firmware or beside(old) if over is Over.QEMU else old.firmware
        return replace(new, qemu=qemu, firmware=firmware)

    return replace(cell, hosts=tuple(
        host(old) if index in where else old for index, old in enumerate(cell.hosts)))


def _short(name: str) -> str:
    """A name that a file's name has room for several times."""
    return name if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH - 13]}-{fingerprint(name)}"


def stays(
    cell: Cell, over: Over, where: Sequence[int], host: Callable[[HostSpec], Host]
) -> list[list[str]]:
    """What tells the builds of a cell that no candidate replaces from others of their names."""
    found = []
    for index, spec in enumerate(cell.hosts):
        whole = host(spec)
        parts = [] if index in where and over is not Over.FIRMWARE else _qemu_parts(whole)
        # Beside a QEMU that is replaced there is another firmware, unless it is a file or a build.
        named = isinstance(spec.firmware, str) and means(spec.firmware, whole.firmware.name)
        if index not in where or over is Over.QEMU or (
                over is not Over.FIRMWARE and (named or isinstance(spec.firmware, FirmwareSource))):
            parts += _firmware_parts(whole)
        found.append(parts)
    return found


def content(hosts: Sequence[Host]) -> str:
    """A digest of all builds that a cell is run with, whatever they are called."""
    return fingerprint([_qemu_parts(host) + _firmware_parts(host) for host in hosts])


def _qemu_parts(host: Host) -> list[str]:
    qemu = host.qemu
    return [qemu.digest, qemu.root_digest, qemu.binary, *qemu.arguments]


def _firmware_parts(host: Host) -> list[str]:
    build = host.firmware
    files = [build.path, build.variables, build.payload]
    return [*(hashlib.sha256(file.read_bytes()).hexdigest() if file else "" for file in files),
            *build.machines, *build.features]


def command_of(text: str) -> list[str]:
    """The words of a build command. Raises UserError for one that cannot be run."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"--build {text}: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise UserError(f"--build {text}: there is no such program",
                        hint="a script of this directory is called ./script")
    return words


def scripts(words: Sequence[str]) -> dict[str, str]:
    """The files among the words of a command, as they are now: changed, it is another command.

    Those that git tracks are left out, as the command itself may check out others.
    """
    found, repo = {}, Repository(Path.cwd(), around=True)
    for word in words:
        path = Path(word)
        with contextlib.suppress(OSError, ValueError):
            if path.is_file() and path.stat().st_size <= _SCRIPT_BYTES and not repo.tracks(word):
                found[word] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def built(command: Sequence[str], revision: str, log: Path) -> Path:
    """Run a build command for a revision; the path that its last line of output names.

    ``{}`` in the command is the revision; without, it is its last argument. Its stderr goes to
    ``log``. Raises Skip if it fails, or names nothing that is there; HarnessError if it was
    killed, or asks to stop.
    """
    argv = [word.replace("{}", revision) for word in command]
    if argv == list(command):
        argv.append(revision)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w+b") as complaints:
        status, output = supervised.run(argv, complaints)
    if status == SKIP_STATUS:
        raise Skip(f"the build command says skip ({SKIP_STATUS})", lasting=True)
    if status >= STOP_STATUS:
        raise HarnessError(f"the build command for {revision} ended with status {status}: "
                           f"{STOP_STATUS} and above stop the search; see {log}")
    if status:
        said = log.read_text(errors="replace").strip().splitlines()
        last = printable(f": {said[-1][:100]}") if said else ""
        raise Skip(f"the build command failed, exit status {status}{last}; see {log}")
    lines = output.decode(errors="replace").strip().splitlines()
    named = Path(lines[-1]) if lines else None
    try:
        there = named is not None and named.exists()
    except (OSError, ValueError):
        there = False
    if named is None or not there:
        raise Skip("the build command named no file: "
                   f"{printable(lines[-1][:200]) if lines else 'no output'}")
    return named.absolute()


def printable(text: str) -> str:
    """The text as a terminal may have it: what others wrote could hold escape sequences."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


# ---- the search ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class BisectResult:
    """The end of a search: the last good and the first bad candidate.

    ``between`` are those of which nothing is known: with any, the first bad one is one of them or
    ``bad``. ``stopped`` are the last ones that were skipped, if the search was given up for them.
    """

    good: str
    bad: str
    between: tuple[str, ...]
    stopped: tuple[str, ...] = ()


def search(
    candidates: Sequence[str],
    good: int,
    bad: int,
    ask: Callable[[str, int], Answer],
    again: Callable[[str], Answer],
    same: bool = False,
    skips: int | None = None,
    ahead: Callable[[Sequence[str]], None] = lambda names: None,
) -> BisectResult:
    """Find the first bad candidate after ``good`` and up to ``bad``.

    ``ask`` is given a name and about how many more will have to be asked after it; ``again`` runs
    one that was asked once more. A candidate with the good end's verdict is good. One that ends
    otherwise is bad, or, if ``same`` failure is asked for and it is not the bad end's, tells
    nothing, as one that cannot be tried. After so many ``skips`` in a row the search is given up.
    Before a candidate is asked, ``ahead`` is told which may be asked after it.

    Raises UserError if the ends agree, one tells nothing, or the bad one passes; HarnessError if
    the rig broke at one; Flaky if one of the two that decide ends otherwise when it is run again.
    """
    steps = _steps_for(bad - good - 1)
    answers = {}
    between = range(good + 1, bad)
    middle = [_next(between, 0)] if between else []
    for n, (index, then) in enumerate(((good, [bad, *middle]), (bad, middle))):
        ahead([candidates[next_] for next_ in then])
        answers[index] = ask(candidates[index], steps + 1 - n)
    for index, option in ((good, "--good"), (bad, "--bad")):
        if answers[index].skipped:
            why = f"{option} {candidates[index]} tells nothing: {answers[index].reason}"
            raise HarnessError(why) if _broke(answers[index]) else UserError(why)
    if answers[good].content and answers[good].content == answers[bad].content:
        raise UserError(f"the ends do not differ: {candidates[good]} and {candidates[bad]} are the "
                        "same build, byte for byte", hint="nothing to search between them")
    if answers[good].verdict == answers[bad].verdict:
        raise UserError(f"the ends agree: both {candidates[good]} and {candidates[bad]} end in "
                        f"{answers[good].verdict}", hint="nothing to search between them")
    if answers[bad].verdict == Verdict.PASS:
        raise UserError(f"the ends are the wrong way round: {candidates[good]}, the good one, ends "
                        f"in {answers[good].verdict}, and {candidates[bad]}, the bad one, passes",
                        hint="--reverse: the good one is the newer")
    well, ill = answers[good].verdict, answers[bad].verdict
    unknown: set[int] = set()
    row: list[str] = []
    while open_ := [index for index in range(good + 1, bad) if index not in unknown]:
        skipped = sum(good < index < bad for index in unknown)
        index = _next(open_, skipped)
        halves = ([one for one in open_ if one > index], [one for one in open_ if one < index])
        ahead([candidates[_next(half, 0)] for half in halves if half])
        answer = answers[index] = ask(candidates[index], _steps_for(len(open_)) - 1)
        if answer.skipped or (same and answer.verdict not in (well, ill)):
            unknown.add(index)
            row.append(candidates[index])
            if skips is not None and len(row) >= skips:
                break
            continue
        row.clear()
        if answer.verdict == well:
            good = index
        else:
            bad = index
    for index in (good, bad):
        _confirm(candidates[index], answers[index], again)
    return BisectResult(candidates[good], candidates[bad],
                        tuple(candidates[index] for index in range(good + 1, bad)),
                        tuple(row) if open_ else ())


def _next(open_: Sequence[int], skipped: int) -> int:
    """Which one to ask: the middle one, and away from it when it and others could not be tried.

    Those that do not build stand together, so the next to the middle would hardly do: 1/2, then
    1/4, 3/4, 1/8, 5/8, ... of the way (van der Corput's sequence).
    """
    part, step, number = 0.0, 0.5, skipped + 1
    while number:
        part, step, number = part + step * (number & 1), step / 2, number >> 1
    return open_[min(int(part * len(open_)), len(open_) - 1)]


def _confirm(name: str, first: Answer, again: Callable[[str], Answer]) -> None:
    if first.confirmed:
        return
    second = again(name)
    if second.skipped:
        raise HarnessError(f"{name} ended in {first.verdict}; run once more, to be sure, it "
                           f"told nothing: {second.reason}")
    if second.verdict != first.verdict:
        raise Flaky(f"{name} is flaky: it ended in {first.verdict}, and run once more in "
                    f"{second.verdict}")


def _steps_for(count: int) -> int:
    return math.ceil(math.log2(count + 1))


def judged(record: Mapping[str, Any], content: str) -> Answer:
    """The answer that a run record gives."""
    if record["verdict"] in _NOT_JUDGED:
        return Answer(None, f"{record['verdict']}: {record['reason']}", dict(record), content,
                      lasting=record["verdict"] != Verdict.ERROR)
    return Answer(record["verdict"], record["reason"], dict(record), content)


def _broke(answer: Answer) -> bool:
    return answer.record is not None and answer.record["verdict"] == Verdict.ERROR
