"""The boards of a matrix or of an environment file: what is there, and whether it is in order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.builds.board_file import targets
from bootmatrix.deadline import Deadline
from bootmatrix.diagnose.doctor import Finding, Health
from bootmatrix.errors import BenchError, BoardTaken, HarnessError, PlaceTaken, UserError
from bootmatrix.firmware.identity import KnownFirmware, banner_version, sha256
from bootmatrix.machines.bench.seat import Seat
from bootmatrix.machines.board import Bench, BoardFacts, facts
from bootmatrix.matrix.expansion import load, looks_like_matrix
from bootmatrix.model import BoardSource, FirmwareBuild

SPEAK_SECONDS = 30.0
"""How long a board may be silent after its power-on."""
TAKEN_SECONDS = 5.0
"""How long somebody else is waited for."""


@dataclass(frozen=True)
class Listed:
    """A board, what its bench has, and who uses it, None: nobody.

    ``mark`` is what is wrong with it, ``pending`` what a killed run has left in its chip, "" for
    nothing.
    """

    source: BoardSource
    facts: BoardFacts
    user: str | None
    mark: str
    pending: str


def boards(files: Sequence[Path]) -> tuple[BoardSource, ...]:
    """Those of matrix files and of labgrid's environment files, each once. Raises UserError."""
    found: dict[tuple[Path, str], BoardSource] = {}
    for file in files:
        if looks_like_matrix(file, named=True):
            sources = [host.qemu for host in load(file).hosts
                       if isinstance(host.qemu, BoardSource)]
        else:
            sources = [BoardSource(env=file, target=target) for target in targets(file)]
        for source in sources:
            found.setdefault((source.env.resolve(), source.target), source)
    if not found:
        raise UserError("no board in " + ", ".join(map(str, files)))
    return tuple(found.values())


def named(name: str, files: Sequence[Path]) -> BoardSource:
    """The board of that name in them. Raises UserError."""
    there = boards(files)
    meant = [board for board in there if name in (str(board), board.target)]
    if len(meant) != 1:
        what = f"no board {name!r}" if not meant else f"{name!r} could be {len(meant)} boards"
        raise UserError(f"{what} in " + ", ".join(map(str, files)),
                        hint="there are: " + ", ".join(map(str, there)))
    return meant[0]


def listed(source: BoardSource, cache: Path) -> Listed:
    """What can be said of a board without touching it."""
    seat = Seat.of(source, cache)
    user, journal = seat.user, seat.journal
    pending = ""
    if user is None and journal is not None:
        state = "may be half-written" if not journal.done else \
            "was not restored" if journal.restore else ""
        if state:
            pending = f"its chip {state} by a killed or failed run: `bench doctor` sees to it"
    return Listed(source, facts(source), user, seat.mark, pending)


def examine(
    source: BoardSource, cache: Path, firmwares: Sequence[FirmwareBuild] = ()
) -> Iterator[Finding]:
    """Hold a board, switch it off and on, read its chip, and hear it; it is off at the end.

    A board in which nothing is wrong loses its mark.
    """
    try:
        bench = Bench(source, cache, TAKEN_SECONDS, f"bench doctor, process {os.getpid()}")
    except BoardTaken as error:
        yield Finding(str(source), Health.FAIL, error.message, "wait for its end")
        return
    except PlaceTaken as error:
        yield Finding("place", Health.FAIL, error.message, "ask who holds it")
        return
    except HarnessError as error:
        yield Finding(str(source), Health.FAIL, error.message, f"mend {source.env}")
        return
    with bench:
        found: list[Finding] = []
        for finding in _examined(bench, KnownFirmware(firmwares)):
            found.append(finding)
            yield finding
        if not any(finding.state is Health.FAIL for finding in found):
            bench.clear()


def _examined(bench: Bench, known: KnownFirmware) -> Iterator[Finding]:
    there = bench.facts
    if there.place:
        yield Finding("place", Health.OK, f"{there.place}, held now")
    yield Finding("console", Health.OK, there.console)
    if there.power:
        with _failures("power", "its cable, and the outlet's number") as failed:
            bench.off()
        yield failed[0] if failed else Finding("power", Health.OK, f"off by {there.power}")
    else:
        yield Finding("power", Health.WARN, "no power driver: no board is started",
                      "drivers: a power driver of labgrid's")
    if bench.chip is None:
        yield Finding("chip", Health.WARN, "no programmer: what is in it stays",
                      "drivers: FlashromDriver or DediprogFlashDriver")
    else:
        with _failures("chip", "the clip, its supply, and the programmer's name") as failed:
            recovered = bench.chip.recover()
            content = bench.chip.read()
        if failed:
            yield failed[0]
        else:
            if recovered is not None:
                yield Finding("chip", Health.WARN, recovered)
            digest = sha256(content)
            name = known.by_bytes(digest)
            yield Finding("chip", Health.OK, f"{len(content):#x} bytes, {name[:23]}")
    if there.power:
        yield from _heard(bench)
    missing = [word for word, has in (("reset line", there.reset),
                                      ("clear-cmos", there.clear_cmos),
                                      ("bootmatrix-update", there.update)) if not has]
    if missing:
        yield Finding("also", Health.OK, f"it has no {', no '.join(missing)}: steps that need one "
                      "are unsupported")


def _heard(bench: Bench) -> Iterator[Finding]:
    line = bench.line
    said = line.attach()
    with said, _failures("board", "its supply, and what is in its chip") as failed:
        before = line.hearing.bytes
        bench.on()
        spoke = line.wait_for_more(before, Deadline.after(SPEAK_SECONDS))
        line.wait_for_quiet(1.0, Deadline.after(3.0))
        said.setblocking(False)
        heard = b""
        with contextlib.suppress(BlockingIOError):
            while data := said.recv(1 << 16):
                heard += data
        bench.off()
        if not spoke:
            raise BenchError(f"not a byte in {SPEAK_SECONDS:.0f} s after its power-on")
        if (complaint := line.hearing.complaint()) is not None:
            raise BenchError(complaint)
    if failed:
        yield failed[0]
        return
    guest = "its guest came up" if line.hearing.guests else "no guest of ours came up in that time"
    version = banner_version(heard.decode(errors="replace"))
    yield Finding("board", Health.OK, f"it speaks: {len(heard)} bytes, "
                  + (f"banner of {version}" if version else "no banner that is known")
                  + f", {guest}")


@contextlib.contextmanager
def _failures(what: str, mend: str) -> Iterator[list[Finding]]:
    """What goes wrong here, as a finding."""
    found: list[Finding] = []
    try:
        yield found
    except HarnessError as error:
        found.append(Finding(what, Health.FAIL, error.message, f"look at {mend}"))
