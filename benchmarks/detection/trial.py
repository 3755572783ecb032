"""A matrix run against a QEMU with a fault in it, and what that comes to."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bootmatrix.errors import ImageError
from bootmatrix.records.jsonl import read_records

from .faults import Fault

MATRIX, SLOW = (Path(__file__).with_name(name) for name in ("matrix.yaml", "slow.yaml"))
"""What each fault is run through, and what those that it does not find are run through then."""

ENOUGH = 3
"""Findings after which no further cell of a fault is begun: what hangs is waited for, each time."""

_NO_FINDING = ("pass", "unsupported")
_WHATEVER_CAME = (0, 1, 3)  # exit statuses of a run whose records say what was seen


@dataclass(frozen=True)
class Found:
    """What a matrix says about a fault: cells with a finding, by verdict, and a reason of each.

    A reason has the line of the black box with it, where there is one, as a terminal shows it.
    """

    number: int
    cells: int
    verdicts: dict[str, int]
    reasons: dict[str, str]

    @property
    def findings(self) -> int:
        """How many cells have one."""
        return sum(self.verdicts.values())

    def of_class(self, fault: Fault) -> bool:
        """Whether most of the findings are of a class that the fault has."""
        right = sum(count for name, count in self.verdicts.items() if name in fault.verdicts)
        return right * 2 > self.findings

    def names_the_cause(self, fault: Fault) -> bool:
        """Whether a reason of the right class says what it comes from."""
        return any(name in fault.verdicts and re.search(fault.cause, reason) is not None
                   for name, reason in self.reasons.items())


def run(fault: Fault, options: Sequence[str], work: Path) -> Found:
    """Run the matrices; the options say what is ``planted``. Raises ImageError where one does not.

    Of what must not be found every cell is run.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    records: list[Path] = []
    for matrix in (MATRIX, SLOW):
        records.append(_records(fault, matrix, options, work / matrix.stem))
        found = summed_up(fault, records)
        if found.findings and fault.verdicts:
            break
    return found


def _records(fault: Fault, matrix: Path, options: Sequence[str], work: Path) -> Path:
    """Those of a run of the matrix, in a directory of its own."""
    work.mkdir()
    records = work / "records.jsonl"
    command = [str(Path(sys.executable).with_name("bootmatrix")), "run", str(matrix), *options,
               "--engine", "bubblewrap", "-n", "2", "--json", str(records),
               "--run-dir", str(work / "run")]
    if fault.verdicts:
        command += ["--", "--maxfail", str(ENOUGH)]
    with (work / "output").open("wb") as output:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.STDOUT, check=False).returncode
    if status not in _WHATEVER_CAME or not records.exists():
        text = (work / "output").read_text(errors="replace")
        raise ImageError(f"fault {fault.number}: the run ended with {status}: {text[-2000:]}")
    return records


def summed_up(fault: Fault, files: Iterable[Path]) -> Found:
    """What the records of its runs say."""
    verdicts: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    cells = 0
    for record in (record for file in files for record in read_records(file)):
        cells += record["verdict"] != "unsupported"
        if record["verdict"] not in _NO_FINDING:
            verdicts[record["verdict"]] += 1
            said = [record["reason"], *filter(None, [record.get("black_box")])]
            reasons.setdefault(record["verdict"], Counter())["; ".join(said)] += 1
    return Found(fault.number, cells, dict(verdicts.most_common()),
                 {name: of.most_common(1)[0][0] for name, of in reasons.items()})


def read(file: Path) -> Iterator[Found]:
    """The results that an earlier call has written."""
    if file.exists():
        for line in file.read_text().splitlines():
            yield Found(**json.loads(line))


def write(file: Path, found: Found) -> None:
    """Put one more behind them."""
    with file.open("a") as results:
        results.write(json.dumps(asdict(found)) + "\n")
