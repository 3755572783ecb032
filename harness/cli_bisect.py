"""``bootmatrix bisect``: which build broke this cell?

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli_repro import add_cell, chosen
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.bisect import Answer, Found, Over, Tried
    from harness.builds import Builds
    from harness.images import ImageStore
    from harness.model import Arch, Cell, FirmwareSource, HostSpec

FOUND, NARROWED = 0, 1
NOTES = """\
The ends are run first; a candidate with the good one's verdict is good, any other failure is bad
(or skipped, with --same-failure). What is no build, or does not build, is skipped. What was tried
is remembered: the same command goes on where it was interrupted.

examples:
  bootmatrix bisect --cell sid-to-trixie,pc-q35-5.2,stock,migrate-reset,ahci --over firmware \\
      --good seabios-1.17.0-1 --bad seabios-1.14.0-2 --reverse
  bootmatrix bisect --cell CELL --over firmware --candidates ../seabios-builds --good a.bin --bad z.bin
  bootmatrix bisect --cell CELL --over destination --build './build-qemu {}' --good v10.0.0 --bad HEAD

exit status: 0 the first bad one was found; 1 it is one of several, the others were skipped; 2 a
mistake in what was given; 3 the rig broke
"""  # noqa: E501


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "bisect", help="which QEMU or firmware build broke a cell?", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=NOTES)
    parser.set_defaults(command=_bisect)
    add_cell(parser, positional=False)
    parser.add_argument("--over", required=True,
                        choices=("qemu", "firmware", "source", "destination"),
                        help="what a candidate replaces: the QEMU of every host (its firmware "
                             "stays), the firmware of every host, or one host with both")
    parser.add_argument("--at", metavar="ROLE",
                        help="with --over qemu or firmware: on this host only, such as source")
    parser.add_argument("--good", metavar="X", required=True, help="the candidate known as good")
    parser.add_argument("--bad", metavar="Y", required=True, help="the candidate known as bad")
    parser.add_argument("--candidates", metavar="FILE|DIR", type=Path,
                        help="names, paths or revisions, one a line; or a directory of builds "
                             "(default: the catalogue's; with --build, git's revisions)")
    parser.add_argument("--build", metavar="COMMAND",
                        help="makes the build of a revision ({} or its last argument) and prints "
                             "its path; exit status 125, or any failure, skips it")
    parser.add_argument("--reverse", action="store_true", help="read the list from its end")
    parser.add_argument("--same-failure", action="store_true",
                        help="skip a candidate that fails otherwise than the bad one")
    parser.add_argument("--state", metavar="FILE", type=Path,
                        help="where to remember what was tried (default: in runs/)")
    parser.add_argument("--fresh", action="store_true", help="forget what was tried")
    parser.add_argument("--engine", choices=("docker", "bubblewrap"),
                        help="where QEMUs run (default: docker if an engine answers)")
    parser.add_argument("--json", action="store_true", help="the end as JSON, with both records")


def _bisect(options: argparse.Namespace) -> int:
    from harness import bisect
    from harness.builds import Builds
    from harness.engines import choose
    from harness.images import ImageStore
    from harness.runner import Runner

    over = bisect.Over(options.over)
    store = ImageStore()
    with Builds(store) as builds:
        cell = chosen(options, builds)
        candidates = _candidates(options, over, store, cell.arch)
        good, bad = _ends(options, candidates)
        where = bisect.roles(cell, over, options.at)
        tried = _state(options, cell, candidates)
        work = tried.path.parent

        def make(name: str) -> Cell:
            build = _build_of(options, name, work, builds, over)
            new = bisect.substituted(cell, over, where, name, build,
                                     lambda host: _beside(builds, host))
            builds.check(new.hosts)
            builds.prepare(new.hosts)
            return new

        with choose(options.engine) as engine, \
                Runner(builds, engine, work, "bisect") as runner:

            def ask(name: str, left: int) -> Answer:
                answer = tried.answers.get(name)
                known = answer is not None
                if answer is None:
                    answer = bisect.attempt(lambda: make(name),
                                            lambda new: runner.run(new).to_json())
                    tried.keep(name, answer)
                if not options.json:
                    _say_answer(name, answer, left, known)
                return answer

            found = bisect.search(candidates, good, bad, ask, options.same_failure)
    return _report(options, found, tried)


def _say_answer(name: str, answer: Answer, left: int, known: bool) -> None:
    told = f"skipped ({answer.reason})" if answer.skipped else str(answer.verdict)
    steps = f"; about {left} more" if left > 0 else ""
    print(f"{name}: {told}{' (known from before)' if known else ''}{steps}", flush=True)


def _candidates(
    options: argparse.Namespace, over: Over, store: ImageStore, arch: Arch
) -> tuple[str, ...]:
    from harness import bisect

    if options.candidates is not None:
        names = bisect.listed(options.candidates)
    elif options.build is not None:
        return bisect.revisions(options.good, options.bad)
    elif over is bisect.Over.FIRMWARE:
        known = [firmware.name for firmware in store.firmwares()]
        names = bisect.of_one_kind(known, options.good, store.kinds())
    else:
        names = store.names(arch)
    if not names:
        raise UserError("no candidates", hint="no image of the catalogue is built: "
                                              "bootmatrix images build")
    return names[::-1] if options.reverse else names


def _ends(options: argparse.Namespace, candidates: Sequence[str]) -> tuple[int, int]:
    from harness import bisect

    if options.build is not None and options.candidates is None:
        return 0, len(candidates) - 1
    return bisect.ends(candidates, options.good, options.bad)


def _state(options: argparse.Namespace, cell: Cell, candidates: Sequence[str]) -> Tried:
    from harness import bisect

    question = {
        "cell": cell.id, "values": bisect.fingerprint(repr(cell)), "over": options.over,
        "at": options.at, "build": options.build, "candidates": list(candidates),
        "files": _contents(options, candidates),
    }
    path = options.state or Path("runs") / f"bisect-{bisect.fingerprint(question)}" / "state.json"
    if options.fresh:
        path.unlink(missing_ok=True)
    return bisect.Tried(path, question)


def _contents(options: argparse.Namespace, candidates: Sequence[str]) -> str | None:
    """What tells the files of a directory from others of the same names."""
    from harness import bisect

    if options.candidates is None or not options.candidates.is_dir():
        return None
    stats = [(options.candidates / name).stat() for name in candidates]
    return bisect.fingerprint([(stat.st_size, stat.st_mtime_ns) for stat in stats])


def _build_of(
    options: argparse.Namespace, name: str, work: Path, builds: Builds, over: Over
) -> str | Path:
    """The build that a candidate's name stands for. Raises bisect.Skip or UserError."""
    from harness import bisect
    from harness.sources import safe_name

    if options.build is not None:
        return bisect.built(options.build, name, work / "builds" / f"{safe_name(name)}.log")
    if options.candidates is None:
        return name
    if options.candidates.is_dir():
        return Path(options.candidates / name).absolute()
    near = options.candidates.parent / Path(name).expanduser()
    return near.absolute() if "/" in name or near.exists() else name


def _beside(builds: Builds, host: HostSpec) -> str | FirmwareSource:
    from harness.model import FirmwareSource

    firmware = builds.firmware(host)
    known: Callable[[str], bool] = {one.name for one in builds.firmwares()}.__contains__
    if known(firmware.name):
        return firmware.name
    return FirmwareSource(firmware.path, variables=firmware.variables)


def _report(options: argparse.Namespace, found: Found, tried: Tried) -> int:
    answers = {name: tried.answers[name] for name in (found.good, found.bad)}
    records: list[Any] = [answers[name].record for name in (found.good, found.bad)]
    path = tried.path.with_name("records.jsonl")
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    if options.json:
        print(json.dumps({
            "first_bad": None if found.between else found.bad, "good": found.good,
            "bad": found.bad, "skipped": list(found.between), "records": records,
        }, indent=1))
    else:
        if found.between:
            print(f"\nthe first bad one is {' or '.join((*found.between, found.bad))}: "
                  "those before the last were skipped")
        else:
            print(f"\nfirst bad: {found.bad}")
        for word, name in (("good", found.good), ("bad", found.bad)):
            print(f"  {word} {name}: {answers[name].verdict}: {answers[name].reason}")
        print(f"  both records: {path}")
    return NARROWED if found.between else FOUND
