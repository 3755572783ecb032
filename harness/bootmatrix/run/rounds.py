"""A machine that goes round is watched for all of a boot's usual time once, and then not again.

It takes a processor for all of that time. Where the same guest, by everything that takes part, was
reset as often in a boot and was not up at its end, the next one is given up once it was, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootmatrix.machines.setup import GuestSetup
from bootmatrix.records.model import WentRoundRow
from bootmatrix.run import answers
from bootmatrix.run.patience import key_of, outlasts
from bootmatrix.steps.base import Step
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.resets import endless

_SUFFIX = "round"


@dataclass
class Round:
    """The boots of one guest that can go round.

    ``seen`` and ``qemus`` grow while its ``steps`` are done. ``places`` are where answers are
    kept: those of this run, and those of all.
    """

    setup: GuestSetup
    steps: Sequence[Step]
    seen: Sequence[StepObserved]
    qemus: Sequence[Mapping[str, Any]]
    engine: str
    places: Sequence[Path]
    earlier: WentRoundRow | None = field(default=None, init=False)
    """What stands in the record of a guest that was given up: the step, its usual time, the key."""
    _keys: dict[int, str] = field(default_factory=dict, init=False)

    def known(self) -> bool:
        """Whether the boot that goes round now was watched before, for all of its usual time."""
        step = len(self.seen) + 1
        if step not in self._keys:  # it hashes files, and is asked for again and again
            self._keys[step] = self._key(step)
        key = self._keys[step]
        if all(answers.read(place, key) is None for place in self.places):
            return False
        self.earlier = {"step": step, "usual": self.setup.seconds, "key": key}
        return True

    def keep(self) -> None:
        """Keep that its last boot went round, if that was watched for all of its usual time."""
        boot = self.seen[-1].boot if self.seen else None
        if boot is None or boot.ended is not None or boot.seconds < boot.limit:
            return
        if not endless(boot):
            return
        key = self._key(len(self.seen))
        for place in self.places if outlasts(self.setup, self.seen) else self.places[:1]:
            with suppress(OSError):  # one that is not kept costs time alone
                answers.write(place, key, self.seen)

    def _key(self, step: int) -> str:
        key = key_of(self.setup, self.steps[:step], [qemu["argv"] for qemu in self.qemus],
                     self.engine, self.setup.seconds)
        return f"{key}-{_SUFFIX}"
