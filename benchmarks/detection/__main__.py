"""``python -m benchmarks.detection``: build, run, and write down what was found."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from functools import cache, partial
from pathlib import Path

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.errors import HarnessError

from . import source, trial
from .faults import BY_NUMBER, CONTROL, QEMU, SEABIOS, SEABIOS_CONTROL, Fault
from .page import page

_VERSION, _SEABIOS = "10.0", "1.16.3"  # trixie's
_DATA = ("usr/share/qemu", "usr/share/seabios")  # the latter last: it has what links lead to


def _numbers(text: str) -> list[int]:
    try:
        chosen = [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers, as 3,19") from None
    if unknown := [number for number in chosen if number not in BY_NUMBER]:
        raise argparse.ArgumentTypeError(f"there is no fault {unknown[0]}; there are 0 to "
                                         f"{max(BY_NUMBER)}")
    return chosen


def _data(root: Path, into: Path) -> Path:
    """What QEMU's source lacks and Debian's package has: SeaBIOS, option ROMs."""
    into.mkdir(exist_ok=True)
    for directory in _DATA:
        for file in (root / directory).iterdir():
            if file.is_file() and not file.is_symlink() and file.suffix in (".bin", ".rom"):
                shutil.copy(file, into / file.name)
    return into


_qemu = cache(partial(source.qemu, QEMU))


def _options(fault: Fault, data: Path, work: Path, jobs: int) -> list[str]:
    """Those of a run in which the host ``planted`` has the fault."""
    if fault in (SEABIOS_CONTROL, *SEABIOS):
        image = source.seabios(SEABIOS, fault, work, jobs)
        return ["--qemu", f"planted=suite:{source.SUITE}", "--firmware", f"planted={image}"]
    binary = source.chosen(_qemu(work, jobs), fault, work / "planted" / str(fault.number))
    return ["--qemu", f"planted={binary},{data}", "--firmware", f"planted={data}/bios-256k.bin"]


def main() -> int:
    """Run what is asked for. Returns 1 if the control has findings."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/detection"), metavar="DIR",
                        help="where sources, builds and results are (build/detection)")
    parser.add_argument("--faults", type=_numbers, default=sorted(BY_NUMBER), metavar="N[,N]",
                        help="these faults alone; 0 is the control")
    parser.add_argument("--again", action="store_true", help="run what has a result, too")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page of all results")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="of the build")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    results = work / "results.jsonl"
    known = {found.number: found for found in trial.read(results)}
    wanted = [number for number in options.faults if options.again or number not in known]
    try:
        if wanted:
            images = ImageStore()
            images.build([f"debian-{source.SUITE}"], print)
            data = _data(images.qemu(f"debian-{source.SUITE}").root, work / "data")
        for number in wanted:
            fault = BY_NUMBER[number]
            found = trial.run(fault, _options(fault, data, work, options.jobs),
                              work / "runs" / str(number))
            trial.write(results, found)
            known[number] = found
            print(f"{number:3} {fault.title}: {found.findings} of {found.cells} cells: "
                  f"{found.verdicts}", flush=True)
    except HarnessError as error:
        print(f"detection: {error}", file=sys.stderr)
        return 3
    if options.page is not None:
        options.page.write_text(page(known, _VERSION, _SEABIOS))
    control = known.get(CONTROL.number)
    return int(control is not None and control.findings > 0)


if __name__ == "__main__":
    sys.exit(main())
