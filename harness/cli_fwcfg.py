"""``bootmatrix fwcfg show | diff | record | check``: what QEMUs offer to firmware.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import EngineError, UserError

if TYPE_CHECKING:
    from harness.engines import Engine
    from harness.fw_cfg_contract import Offer, Setup
    from harness.fw_cfg_format.option import FwCfgFile
    from harness.images import ImageStore
    from harness.model import QemuBuild

KEPT, BROKEN = 0, 1

NOTES = """\
fw_cfg is how QEMU hands tables and settings to firmware. A guest that keeps its firmware needs
every later QEMU to offer what that firmware reads, for the same machine type. No guest runs
here: QEMU is launched stopped, read from outside, and ended.

differences are classed: harmless (an old reader never notices), content (it reads something
else, in the form it knows), breaks (it does not find, or cannot read, what it found before).

examples:
  bootmatrix fwcfg show --qemu debian-trixie --machine pc-q35-7.2
  bootmatrix fwcfg diff --machine pc-q35-5.2 debian-bullseye debian-bookworm debian-sid
  bootmatrix fwcfg record --qemu debian-bullseye --machine pc-q35-5.2 -o q35-5.2.json
  bootmatrix fwcfg check q35-5.2.json --qemu debian-sid

exit status of diff and check: 0 nothing breaks an old reader; 1 something does; 2 a mistake in
what was given; 3 the rig broke, nothing was learnt
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to bootmatrix's."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser("fwcfg", help="what QEMUs offer to firmware, and how it changes",
                                 formatter_class=raw, epilog=NOTES, allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    show = actions.add_parser("show", help="every item of one QEMU", allow_abbrev=False)
    show.set_defaults(command=_show)
    show.add_argument("--qemu", metavar="BUILD", required=True, help="such as debian-sid")
    _add_machine(show)
    show.add_argument("--fw-cfg", metavar="NAME,string=TEXT", action="append", default=[],
                      help="a file of yours for the guest, as QEMU's -fw_cfg (repeatable)")
    show.add_argument("-v", action="store_true", dest="verbose",
                      help="all that is decoded, not one line for each item")
    show.add_argument("--json", action="store_true", help="the same as JSON, decoded in full")

    diff = actions.add_parser("diff", help="what changes from the first QEMU to the others",
                              allow_abbrev=False)
    diff.set_defaults(command=_diff)
    _add_machine(diff)
    diff.add_argument("builds", metavar="BUILD", nargs="+",
                      help="QEMU builds; the first that has the machine type is the reference")
    diff.add_argument("-v", action="store_true", dest="verbose", help="all details")
    diff.add_argument("--json", action="store_true", help="the same as JSON")

    record = actions.add_parser("record", help="write a baseline to check against",
                                allow_abbrev=False)
    record.set_defaults(command=_record)
    record.add_argument("--qemu", metavar="BUILD", required=True)
    _add_machine(record)
    record.add_argument("-o", metavar="FILE", dest="output", type=Path, required=True)

    check = actions.add_parser("check", help="check QEMUs against a baseline", allow_abbrev=False)
    check.set_defaults(command=_check)
    check.add_argument("file", metavar="FILE", type=Path)
    check.add_argument("--qemu", metavar="BUILD", action="append", dest="builds", default=[],
                       help="a QEMU build (repeatable; default: the one that was recorded)")
    check.add_argument("-v", action="store_true", dest="verbose", help="all details")
    check.add_argument("--json", action="store_true", help="the same as JSON")

    for action in (show, diff, record, check):
        action.add_argument("--engine", choices=("docker", "bubblewrap"),
                            help="where QEMUs run (default: bubblewrap where it works)")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--machine", metavar="TYPE", required=True, help="such as pc-q35-7.2")
    parser.add_argument("--memory", metavar="MIB", type=_mebibytes, default=128,
                        help="guest memory (default: %(default)s)")
    parser.add_argument("--device", metavar="DEV", action="append", default=[],
                        help="a device to add, as QEMU's -device (repeatable)")


def _mebibytes(text: str) -> int:
    if not text.isdecimal() or not 16 <= int(text) <= 2048:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 16 to 2048")
    return int(text)


# ---- the four actions -------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    from harness import fw_cfg_report
    from harness.fw_cfg_format import option

    files = [option.parse(text) for text in options.fw_cfg]
    option.argv(files)
    offer = _survey_one(options, files)
    if options.json:
        print(json.dumps(fw_cfg_report.offer_json(offer), indent=1))
        return KEPT
    for line in fw_cfg_report.offer_lines(offer, options.verbose):
        print(line)
    return KEPT


def _diff(options: argparse.Namespace) -> int:
    from harness.fw_cfg_survey import survey_all

    builds = _builds(options.builds)
    if not any(options.machine in build.machines for build in builds):
        raise _no_machine(options.machine, builds)
    with _engine(options.engine) as engine:
        offers = survey_all(engine, builds, options.machine, _setup(options))
    reference = next(offer for offer in offers if offer)
    return _report(options, reference, builds, offers)


def _record(options: argparse.Namespace) -> int:
    from harness.fw_cfg_baseline import dumps
    from harness.fw_cfg_report import title

    offer = _survey_one(options)
    try:
        options.output.write_text(dumps(offer), "utf-8")
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", file=options.output) from error
    print(f"{options.output}: {title(offer)}")
    return KEPT


def _check(options: argparse.Namespace) -> int:
    from harness.fw_cfg_baseline import load
    from harness.fw_cfg_survey import survey_all

    reference = load(options.file)
    builds = _builds(options.builds or [reference.qemu])
    with _engine(options.engine) as engine:
        offers = survey_all(engine, builds, reference.machine, reference.setup)
    status = _report(options, reference, builds, offers, options.file)
    return BROKEN if None in offers else status


def _report(
    options: argparse.Namespace, reference: Offer, builds: Sequence[QemuBuild],
    offers: Sequence[Offer | None], baseline: Path | None = None,
) -> int:
    """Show how the offers differ from the reference; the exit status."""
    from harness import fw_cfg_report
    from harness.fw_cfg_contract import Impact, compare, worst
    from harness.fw_cfg_report import Column

    columns = [
        Column(build.name, build.version, None if offer is None else compare(reference, offer),
               offer is reference)
        for build, offer in zip(builds, offers, strict=True)
    ]
    if options.json:
        found = fw_cfg_report.comparison_json(reference, columns, baseline)
        print(json.dumps(found, indent=1))
    else:
        for line in fw_cfg_report.comparison_lines(reference, columns, baseline, options.verbose):
            print(line)
    broken = any(worst(column.differences or ()) is Impact.BREAKS for column in columns)
    return BROKEN if broken else KEPT


# ---- builds and engines -------------------------------------------------------------------------


def _store(names: Sequence[str]) -> ImageStore:
    from harness.images import ImageStore

    store = ImageStore()
    missing = [name for name in dict.fromkeys(names) if not store.is_built(name)]
    if missing:
        store.build(missing, lambda line: print(line, file=sys.stderr, flush=True))
    return store


def _builds(names: Sequence[str]) -> list[QemuBuild]:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name} is given twice")
    store = _store(names)
    return [store.qemu(name) for name in names]


def _engine(name: str | None) -> Engine:
    """The engine asked for, else bubblewrap: QEMU runs for a tenth of a second here."""
    from harness.engines import choose

    try:
        return choose(name or "bubblewrap")
    except EngineError:
        if name:
            raise
        return choose()


def _setup(options: argparse.Namespace) -> Setup:
    from harness.fw_cfg_contract import Setup

    return Setup(options.memory, tuple(options.device))


def _survey_one(options: argparse.Namespace, files: Sequence[FwCfgFile] = ()) -> Offer:
    from harness.fw_cfg_survey import survey

    build, = _builds([options.qemu])
    if options.machine not in build.machines:
        raise _no_machine(options.machine, [build])
    with _engine(options.engine) as engine:
        return survey(engine, build, options.machine, _setup(options), files)


def _no_machine(machine: str, builds: Sequence[QemuBuild]) -> UserError:
    from difflib import get_close_matches

    there = list(dict.fromkeys(name for build in builds for name in build.machines))
    close = [name for name in there if machine in name][:3] or \
        get_close_matches(machine, there, n=3)
    whose = " or ".join(build.name for build in builds)
    return UserError(f"{whose} has no machine type {machine!r}",
                     hint="near it: " + ", ".join(close) if close else
                     f"it has {', '.join(there[:3])}, and {len(there) - 3} more")
