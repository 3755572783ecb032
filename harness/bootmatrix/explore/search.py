"""Lives are made up and run; what fails is shrunk, run again and kept.

One process of an exploration. It knows lives and records; what runs a cell it is given.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bootmatrix.cell import Cell
from bootmatrix.explore import delta, failures, machine
from bootmatrix.explore.answers import LifeOutcome
from bootmatrix.explore.failures import Failure, KnownFailure
from bootmatrix.explore.home import Home
from bootmatrix.explore.lives import Life, Next, World, sort_of
from bootmatrix.explore.machine import Enough, LifeFailed
from bootmatrix.explore.written import matrix_file
from bootmatrix.model import Verdict
from bootmatrix.records.model import Record
from bootmatrix.records.words import duration, plural

if TYPE_CHECKING:
    from bootmatrix.matrix.expansion import Matrix

LIVES = 40
"""Of one search: so many are made up, the second half of them near those that were rare."""
LENGTHS = (0.3, 0.6, 1.0)
"""The longest life of one search after the other, in parts of the longest of all."""
TIMES = 3
"""So often the shortest life is run, to tell steady from flaky."""
_IDLE = 12  # searches in a row that found nothing to run: there is nothing left

Run = Callable[[Cell, bool, int], Record]
"""Runs a cell; in a hurry, where it is compared alone; the how manieth time."""


class Broken(BaseException):
    """What broke while a life was run: nothing of it is a life's failure."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Anew(BaseException):
    """One more way to fail is known: lives that keep out of its way are made up from now on."""


@dataclass
class Counts:
    """What one process has done."""

    lives: int = 0
    steps: int = 0
    answered: int = 0
    again: int = 0
    """Lives that failed in a way that was known."""
    seconds: float = 0.0

    def add(self, other: Mapping[str, Any]) -> None:
        """What another process has done, at the same time."""
        self.lives += int(other["lives"])
        self.steps += int(other["steps"])
        self.answered += int(other["answered"])
        self.again += int(other["again"])
        self.seconds = max(self.seconds, float(other["seconds"]))

    @property
    def plain(self) -> dict[str, Any]:
        """As data."""
        return asdict(self)

    def __str__(self) -> str:
        rate = f", {60 * self.steps / self.seconds:.0f} steps a minute" if self.seconds else ""
        return (f"{plural(self.lives, 'life', 'lives')} run with {plural(self.steps, 'step')} in "
                f"{duration(self.seconds)}{rate}; {self.answered} more known by their beginnings")


@dataclass
class Search:
    """An exploration, or one process of it: the ``worker``-th.

    ``longest`` is how many steps a life can have, ``until`` when no new life is begun any more, by
    ``time.monotonic``. ``tell`` is given what there is to say, a line each.
    """

    world: World
    matrix: Matrix
    run: Run
    home: Home
    keep: Callable[[Record], None]
    tell: Callable[[str], None]
    seed: int
    worker: int = 0
    longest: int = 20
    until: float = float("inf")
    counts: Counts = field(default_factory=Counts)
    _current: Failure | None = None
    _met: Life | None = None  # what failed so, before it was shrunk
    _core: LifeFailed | None = None  # the plainest that failed so
    _begun_at: tuple[int, float] = (0, 0.0)  # lives and time, when shrinking began
    _foreseen: Sequence[KnownFailure] = ()
    _offered: set[Any] = field(default_factory=set)
    _failed: dict[Any, LifeFailed] = field(default_factory=dict)  # what hypothesis was told

    def __post_init__(self) -> None:
        self.coverage = self.home.coverage()

    def go(self) -> None:
        """Explore, until it is time, or nothing is left. Raises what has broken."""
        begun = time.monotonic()
        idle = 0
        try:
            while idle < _IDLE:
                before = self.counts.lives
                self._search(self.home.session)
                idle = 0 if self.counts.lives > before else idle + 1
            self.tell("nothing is left that would be new")
        except Enough:
            pass
        except Broken as broken:
            raise broken.error from None
        finally:
            self.counts.seconds = time.monotonic() - begun
            self.home.covered(self.coverage)

    def _search(self, session: int) -> None:
        """One search: so many lives, and the first new failure among them."""
        self._current = self._core = None
        self._foreseen = tuple(self.home.seen)
        text = f"{self.seed}/{self.worker}/{session}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
        steps = max(2, round(self.longest * LENGTHS[session % len(LENGTHS)]))
        try:
            found = machine.explore(machine.Wishes(self.world, self._possible, self._live),
                                    seed, steps, LIVES, self.home.lives)
            if found is not None:
                assert self._core is not None
                self._finish(self._core)
        except Anew:
            pass
        finally:
            self.home.unclaim()
        self.home.ended(session, self.coverage)

    def _possible(self, life: Life, kind: str) -> tuple[Next, ...]:
        """The steps that may come next: none that is known to fail."""
        nexts = tuple(one for one in life.possible(kind)
                      if not any(seen.foresees(life, one) for seen in self._foreseen))
        last = sort_of(life.steps[-1]) if life.steps else ""
        key = *life.how, last, kind
        if key not in self._offered:
            self._offered.add(key)
            self.coverage.offered(life, nexts)
        return nexts

    # -- a life ----------------------------------------------------------------------------------

    def _live(self, life: Life) -> float:
        """Live a life, or know what becomes of it; how much of it is rare."""
        if self._current is None and time.monotonic() >= self.until:
            raise Enough
        try:
            if self._core is not None:
                failed, rare = self._shrunk_further(life), 0.0
            else:
                failed, rare = self._first_failure(life)
        except Exception as error:  # hypothesis would take it for a life's failure, and shrink it
            raise Broken(error) from error
        if failed is not None:
            raise failed
        return rare

    def _first_failure(self, life: Life) -> tuple[LifeFailed | None, float]:
        """How a life fails that is to be looked at; how much is rare of one that does not fail."""
        rare = self.coverage.rarity(life)
        answer = self._answer(life)
        failed = self._new_failure(life, answer)
        if failed is None and len(self.home.seen) > len(self._foreseen):
            raise Anew
        return failed, rare if answer.failure is None else 0.0

    def _shrunk_further(self, life: Life) -> LifeFailed | None:
        """How a life fails that hypothesis has made of the one that is shrunk.

        One that has the shortest so far in it is taken to fail as that does, and one that is not
        plainer is not asked: hypothesis is led to the shortest without a run, and what it runs can
        but make that plainer.
        """
        assert self._core is not None
        about = (self._core.failure.kind, place_of(life), life.way)
        if about in self._failed:  # hypothesis asks again, and has to hear the same
            return self._failed[about]
        end = self._core.life.end_in(life)
        failed = None
        if end is not None:
            failed = machine.failed(life.first(end), self._core.failure)
        elif life.plainness < self._core.life.plainness:
            failed = self._fails_so(life)
        if failed is not None:
            self._failed[about] = failed
        return failed

    def _fails_so(self, life: Life) -> LifeFailed | None:
        """How a life fails, if in the way that is looked at; then it is the plainest so far."""
        answer = self._answer(life)
        assert self._current is not None
        if answer.failed is None or answer.failure is None or (
                answer.failure.kind != self._current.kind):
            return None
        self._core = machine.failed(life.first(answer.failed + 1), answer.failure)
        return self._core

    def _answer(self, life: Life) -> LifeOutcome:
        """What becomes of a life."""
        place = place_of(life)
        answer = self.home.answer(place, life.way)
        if answer is not None:
            self.counts.answered += 1
            if answer.failed is None:
                self.coverage.add(life, len(life.steps))
            return answer
        record = self._run(life, hasty=True)
        answer = answer_of(record, life)
        self.coverage.add(life, len(record.get("steps", ())), record)
        self.home.keep(place, life.way, answer)
        if answer.failure is not None:
            self.keep(record)
            entry = failures.is_declared(self.matrix.known, record)
            if entry is not None and answer.failed is not None:
                self.home.add(KnownFailure(answer.failure, (sort_of(life.steps[answer.failed]),),
                                           entry.reason, declared=True))
        return answer

    def _new_failure(self, life: Life, answer: LifeOutcome) -> LifeFailed | None:
        """The failure of a life, where it is the one that is looked at, or shall be."""
        if answer.failed is None or answer.failure is None:
            return None
        cut = life.first(answer.failed + 1)
        failure = answer.failure
        if any(seen.covers(failure, cut.steps) for seen in self.home.seen):
            self.counts.again += 1
            return None
        if not self.home.claim(failure.kind):
            return None  # another worker looks at it
        self.tell(f"found: {failure}, a life of {plural(len(cut.steps), 'step')}")
        if not self._again(cut, answer):
            return None
        self._current, self._met = failure, cut
        self._begun_at = self.counts.lives, time.monotonic()
        self._core = machine.failed(cut, failure)
        delta.needed(cut, self._cut, self._possible)
        found = self._failed[failure.kind, place_of(life), life.way] = machine.failed(cut, failure)
        return found

    def _cut(self, life: Life) -> Life | None:
        """A life that fails in the way that is looked at, up to there; None of another one."""
        failed = self._fails_so(life)
        return failed.life if failed is not None else None

    def _again(self, cut: Life, answer: LifeOutcome) -> bool:
        """Whether a life fails in the same way once more; else it is a finding of its own kind."""
        second = answer_of(self._run(cut, hasty=True), cut)
        if second == answer:
            return True
        self.home.forget(place_of(cut), cut.way)
        assert answer.failure is not None
        self._keep_finding(cut, answer.failure, {"shrunk": False})
        self.home.unclaim()
        return False

    def _run(self, life: Life, *, hasty: bool, repeat: int = 1) -> Record:
        # Two cells, by whether what does not come in its usual time is waited for.
        cell = life.cell(f"{'try' if hasty else 'life'}-{digest_of(life)}")
        if hasty:
            cell = replace(cell, patience=cell.seconds)
        record = self.run(cell, hasty, repeat)
        self.counts.lives += 1
        self.counts.steps += len(record.get("steps", ()))
        return record

    # -- a finding -------------------------------------------------------------------------------

    def _finish(self, found: LifeFailed) -> None:
        """A failure that was shrunk; with other builds it may be one that was found before."""
        core = tuple(map(sort_of, found.life.steps))
        assert self._current is not None
        assert self._met is not None
        name = next((seen.name for seen in self.home.seen
                     if (seen.failure.kind, seen.core) == (found.failure.kind, core)), None)
        if name is None:
            name = self._keep_finding(found.life, found.failure, {
                "shrunk": True, "runs": self.counts.lives - self._begun_at[0],
                "seconds": round(time.monotonic() - self._begun_at[1], 1)})
        else:
            self.tell(f"{name} again: {found.failure}: {life_in_words(found.life)}")
            self.home.add(KnownFailure(found.failure, core, name))
            self.home.also(name, found.life.way)
        if self._current != found.failure:
            seen = KnownFailure(self._current, core, name)
            if not seen.covers(self._current, self._met.steps):
                seen = replace(seen, core=tuple(map(sort_of, self._met.steps)))
            self.home.add(seen)

    def _keep_finding(self, life: Life, failure: Failure, how: Mapping[str, Any]) -> str:
        """Run a failed life as it is judged, with all patience, and keep what comes of it.

        Returns what it is called.
        """
        records = []
        for repeat in range(1, TIMES + 1):
            record = self._run(life, hasty=False, repeat=repeat)
            record["repeat"] = repeat
            self.keep(record)
            records.append(record)
        core = tuple(map(sort_of, life.steps))
        declared = [failures.is_declared(self.matrix.known, record) for record in records]
        if all(declared):
            entry = declared[0]
            assert entry is not None
            self.home.add(KnownFailure(failure, core, entry.reason, declared=True))
            self.tell(f"known: {life_in_words(life)}: {entry.reason}")
            return entry.reason
        verdicts = [record["verdict"] for record in records]
        bad = [record for record in records if record["verdict"] != Verdict.PASS]
        state = state_of(verdicts)
        worst = bad[0] if bad else records[0]
        name, path = self.home.new_finding()
        comments = [
            f"{name}: {worst['verdict']}: {worst['reason']}",
            f"{state}: {', '.join(verdicts)} in {TIMES} runs; found by `bootmatrix explore "
            f"{self.matrix.path} --seed {self.seed}`",
        ]
        path.write_text(matrix_file(life, name, self.matrix, comments))
        self.home.tell(name, {
            "name": name, "state": state, "verdicts": verdicts, "reason": worst["reason"],
            "black_box": worst.get("black_box", ""), "failure": failure.plain,
            "life": list(life.way), "machine": life.place.point.machine,
            "policy": str(life.place.point.policy),
            "values": {axis: str(value) for axis, value in life.cell(name).values.items()},
            "qemus": {host.name: f"{host.qemu.version}, {host.firmware.name}"
                      for host in life.built}, **how,
        })
        self.home.add(KnownFailure(failure, core, name))
        shrunk = (f", shrunk by {plural(how['runs'], 'run')} in {duration(how['seconds'])}"
                  if how["shrunk"] else "")
        self.tell(f"{name}: {state} {worst['verdict']}: {life_in_words(life)}{shrunk}; {path}")
        return name


def answer_of(record: Record, life: Life) -> LifeOutcome:
    """What a record says of its life."""
    found = failures.of(record, life)
    return LifeOutcome() if found is None else LifeOutcome(*found)


def state_of(verdicts: Sequence[str]) -> str:
    """Steady, flaky, or gone, by the verdicts of one life's runs."""
    if all(verdict == Verdict.PASS for verdict in verdicts):
        return "gone"
    return "steady" if len(set(verdicts)) == 1 else "flaky"


def place_of(life: Life) -> str:
    """What tells lives apart that have the same steps: all but hosts and steps, as a short hash."""
    return hashlib.sha256(repr(life.place.point).encode()).hexdigest()[:16]


def digest_of(life: Life) -> str:
    """A short name for a life."""
    return hashlib.sha256(repr((place_of(life), life.way)).encode()).hexdigest()[:8]


def life_in_words(life: Life) -> str:
    """Where and how a life is lived, on a line."""
    point = life.place.point
    return f"{point.machine}, {point.policy}: {', '.join(life.way)}"

