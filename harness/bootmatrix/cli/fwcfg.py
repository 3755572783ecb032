"""``bootmatrix fwcfg show | diff | record | check``: what QEMUs offer to firmware.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.arguments import machine_type
from bootmatrix.cli.options import Commands, add_engine, no_machine, qemus_of, tell
from bootmatrix.errors import NoFwCfgError, QemuError, Status, UserError
from bootmatrix.files import given_file
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.fw_cfg.contract import Offer, Setup
    from bootmatrix.fw_cfg.format.option import FwCfgFile
    from bootmatrix.model import QemuBuild

NOTES = """\
fw_cfg is how QEMU hands tables and settings to firmware. A guest that keeps its firmware needs
every later QEMU to offer what that firmware reads, for the same machine type. No guest runs
here: QEMU is launched stopped, read from outside, and ended.

differences are classed: harmless (an old reader never notices), content (it reads something
else, in the form it knows), breaks (it does not find, or cannot read, what it found before).

examples:
  bootmatrix fwcfg show --qemu debian-trixie --machine pc-q35-7.2
  bootmatrix fwcfg show --qemu head=../qemu/build --machine pc-q35-7.2
  bootmatrix fwcfg diff --machine pc-q35-5.2 debian-bullseye debian-bookworm debian-sid
  bootmatrix fwcfg diff --guest matrices/mine.yaml CELL
  bootmatrix fwcfg record --qemu debian-bullseye --machine pc-q35-5.2 -o q35-5.2.json
  bootmatrix fwcfg check q35-5.2.json --qemu debian-sid

exit status of diff and check: 0 nothing breaks an old reader; 1 something does, or a QEMU does not
start with the machine of --guest; 2 a mistake in what was given; 3 the rig broke, nothing was
learnt
"""


_BUILD = "such as debian-sid, or NAME=PATH and the like, as `bootmatrix run --qemu`"


def add(commands: Commands) -> None:
    """Add the command to bootmatrix's."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser("fwcfg", help="what QEMUs offer to firmware, and how it changes",
                                 formatter_class=raw, epilog=NOTES, allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    show = actions.add_parser("show", help="every item of one QEMU", allow_abbrev=False)
    show.set_defaults(command=partial(_answered, _show))
    show.add_argument("--qemu", metavar="BUILD", help=_BUILD)
    _add_machine(show)
    show.add_argument("--fw-cfg", metavar="NAME,string=TEXT", action="append", default=[],
                      help="a file of yours for the guest, as QEMU's -fw_cfg (repeatable)")
    show.add_argument("-v", action="store_true", dest="verbose",
                      help="all that is decoded, not one line for each item")
    show.add_argument("--json", action="store_true", help="the same as JSON, decoded in full")

    diff = actions.add_parser("diff", help="what changes from the first QEMU to the others",
                              allow_abbrev=False)
    diff.set_defaults(command=partial(_answered, _diff))
    _add_machine(diff)
    diff.add_argument("builds", metavar="BUILD", nargs="*",
                      help=f"{_BUILD}; the first that has the machine type is the reference")
    diff.add_argument("--qemu", metavar="NAME=PATH", action="append", default=[], dest="own",
                      help="a QEMU of your own, as `bootmatrix run --qemu`: NAME is then a BUILD")
    diff.add_argument("-v", action="store_true", dest="verbose", help="all details")
    diff.add_argument("--json", action="store_true", help="the same as JSON")

    record = actions.add_parser("record", help="write a baseline to check against",
                                allow_abbrev=False)
    record.set_defaults(command=partial(_answered, _record))
    record.add_argument("--qemu", metavar="BUILD", help=_BUILD)
    _add_machine(record)
    record.add_argument("-o", metavar="FILE", dest="output", type=Path, required=True)

    check = actions.add_parser("check", help="check QEMUs against a baseline", allow_abbrev=False)
    check.set_defaults(command=_check)
    check.add_argument("file", metavar="FILE", type=Path)
    check.add_argument("--qemu", metavar="BUILD", action="append", dest="builds", default=[],
                       help=f"{_BUILD} (repeatable; default: the one that was recorded)")
    check.add_argument("-v", action="store_true", dest="verbose", help="all details")
    check.add_argument("--json", action="store_true", help="the same as JSON")

    for action in (show, diff, record, check):
        add_engine(action, "where QEMUs run (default: bubblewrap where it works)")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--machine", metavar="TYPE", help="such as pc-q35-7.2")
    parser.add_argument("--guest", metavar=("MATRIX", "CELL"), nargs=2,
                        help="the machine of the guest of a cell, with all that it has, in the "
                        "place of --machine, --memory and --device; without a BUILD, the QEMUs "
                        "of its hosts, or of the first")
    parser.add_argument("--memory", metavar="MIB", type=_mebibytes,
                        help=f"guest memory (default: {_MEMORY})")
    parser.add_argument("--device", metavar="DEV", action="append", default=[],
                        help="a device to add, as QEMU's -device (repeatable)")


_MEMORY = 128


def _mebibytes(text: str) -> int:
    if not text.isdecimal() or not 16 <= int(text) <= 2048:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 16 to 2048")
    return int(text)


# ---- the four actions -------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    from bootmatrix.fw_cfg import report
    from bootmatrix.fw_cfg.format import option

    files = [option.parse(text) for text in options.fw_cfg]
    option.argv(files)
    offer = _survey_one(options, files)
    if options.json:
        echo(json.dumps(report.offer_json(offer), indent=1))
        return Status.GREEN
    for line in report.offer_lines(offer, options.verbose):
        echo(line)
    return Status.GREEN


def _diff(options: argparse.Namespace) -> int:
    from bootmatrix.diagnose.fw_cfg_survey import survey_all
    from bootmatrix.engines import choose_for_a_look

    with ExitStack() as stack:
        asked = _asked(stack, options, options.builds)
        if not any(machine_type(asked.machine) in build.machines for build in asked.builds):
            raise no_machine(machine_type(asked.machine), asked.builds)
        engine = stack.enter_context(choose_for_a_look(options.engine))
        with _user_errors(options, asked.machine):
            offers = survey_all(engine, asked.builds, asked.machine, asked.setups)
    reference = next(offer for offer in offers if offer)
    return _report(options, reference, asked.builds, offers)


def _record(options: argparse.Namespace) -> int:
    from bootmatrix.fw_cfg.baseline import dumps
    from bootmatrix.fw_cfg.report import title

    given_file.check_replaceable(options.output)
    offer = _survey_one(options)
    given_file.replace(options.output, dumps(offer).encode())
    echo(f"{options.output}: {title(offer)}")
    return Status.GREEN


def _check(options: argparse.Namespace) -> int:
    from bootmatrix.diagnose.fw_cfg_survey import survey_all
    from bootmatrix.engines import choose_for_a_look
    from bootmatrix.fw_cfg.baseline import load

    reference = load(options.file)
    with ExitStack() as stack:
        builds = _builds(stack, options.builds or [reference.qemu])
        engine = stack.enter_context(choose_for_a_look(options.engine))
        offers = survey_all(engine, builds, reference.machine, reference.setup)
    status = _report(options, reference, builds, offers, options.file)
    return Status.RED if None in offers else status


def _report(
    options: argparse.Namespace, reference: Offer, builds: Sequence[QemuBuild],
    offers: Sequence[Offer | None], baseline: Path | None = None,
) -> int:
    """Show how the offers differ from the reference; the exit status."""
    from bootmatrix.fw_cfg import report
    from bootmatrix.fw_cfg.contract import Impact, compare, worst
    from bootmatrix.fw_cfg.report import Column

    columns = [
        Column(build.name, build.version, None if offer is None else compare(reference, offer),
               offer is reference)
        for build, offer in zip(builds, offers, strict=True)
    ]
    if options.json:
        found = report.comparison_json(reference, columns, baseline)
        echo(json.dumps(found, indent=1))
    else:
        for line in report.comparison_lines(reference, columns, baseline, options.verbose):
            echo(line)
    broken = any(worst(column.differences or ()) is Impact.BREAKS for column in columns)
    return Status.RED if broken else Status.GREEN


# ---- builds and engines -------------------------------------------------------------------------


def _builds(
    stack: ExitStack, texts: Sequence[str], definitions: Sequence[str] = ()
) -> list[QemuBuild]:
    """The builds that are named, of the catalogue and the user's own, while the stack is open."""
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore

    named = qemus_of(texts, definitions)
    builds = stack.enter_context(Builds(ImageStore()))
    return builds.alone(named.values(), tell)


@dataclass(frozen=True)
class Asked:
    """Which QEMUs are asked for which machine, each as ``setups`` has it."""

    builds: Sequence[QemuBuild]
    machine: str
    setups: Sequence[Setup]


def _asked(stack: ExitStack, options: argparse.Namespace, texts: Sequence[str]) -> Asked:
    """What the options ask for; ``texts`` are the builds that they name. Raises UserError."""
    from bootmatrix.fw_cfg.contract import Setup

    own = getattr(options, "own", ())
    if options.guest is None:
        if options.machine is None:
            raise UserError("--machine is missing", hint="pc-q35-7.2, or --guest MATRIX CELL")
        if not texts:
            raise UserError("no BUILD is named", hint=_BUILD)
        builds = _builds(stack, texts, own)
        setup = Setup(options.memory or _MEMORY, tuple(options.device))
        return Asked(builds, options.machine, [setup] * len(builds))
    for name in ("machine", "memory", "device"):
        if getattr(options, name):
            raise UserError(f"--{name} is said by --guest")
    return _of_guest(stack, options, texts, own)


def _of_guest(
    stack: ExitStack, options: argparse.Namespace, texts: Sequence[str], own: Sequence[str]
) -> Asked:
    """The machine of a cell's guest."""
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore, cache_home
    from bootmatrix.diagnose.fw_cfg_survey import offered_to
    from bootmatrix.diagnose.lookup import from_matrix
    from bootmatrix.machines.setup import setup_of

    cells = stack.enter_context(Builds(ImageStore()))
    cell = from_matrix(options.guest[1], Path(options.guest[0]), cells)
    hosts = [cells.host(spec) for spec in cell.hosts]
    setup = setup_of(cell, hosts, cache_home())
    if not texts:
        each = [offered_to(setup, number) for number in range(len(hosts))]
        return Asked([host.qemu for host in hosts], cell.machine, each)
    # Builds that are named are no hosts of the cell, and have none of those' own arguments.
    builds = _builds(stack, texts, own)
    alike = replace(offered_to(setup, 0), words=setup.words)
    return Asked(builds, cell.machine, [alike] * len(builds))


class _DoesNotStart(Exception):
    """A QEMU that ends where it is to make the machine of a cell's guest; the line for that."""


def _answered(deed: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Do one of the actions; a guest's machine that a QEMU refuses is a finding, as preflight's."""
    try:
        return deed(options)
    except _DoesNotStart as error:
        echo(str(error))
        return Status.RED


@contextmanager
def _user_errors(options: argparse.Namespace, machine: str) -> Iterator[None]:
    """Tell what was given wrong as such: a machine without fw_cfg, a device that there is not."""
    from bootmatrix.builds.own_qemu import last_words
    from bootmatrix.witnesses.refusal import classify

    try:
        yield
    except NoFwCfgError:
        raise UserError(f"{machine} has no fw_cfg device where a PC has its",
                        hint="a PC's machine type, such as pc-q35-7.2") from None
    except QemuError as error:
        if options.guest:
            raise _DoesNotStart(f"REFUSED  start: {error.message}: "
                                f"{classify(error.tail, error.status)}") from None
        if not options.device:
            raise
        what = " ".join(("--device", *options.device))
        raise UserError(f"{what}: {last_words(error)}") from None


def _survey_one(options: argparse.Namespace, files: Sequence[FwCfgFile] = ()) -> Offer:
    from bootmatrix.diagnose.fw_cfg_survey import survey
    from bootmatrix.engines import choose_for_a_look

    with ExitStack() as stack:
        asked = _asked(stack, options, [options.qemu] if options.qemu else [])
        build = asked.builds[0]
        if machine_type(asked.machine) not in build.machines:
            raise no_machine(machine_type(asked.machine), [build])
        engine = stack.enter_context(choose_for_a_look(options.engine))
        with _user_errors(options, asked.machine):
            return survey(engine, build, asked.machine, asked.setups[0], files)
