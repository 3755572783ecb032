"""``bootmatrix doctor``: what this machine lacks, and how to mend it."""

from __future__ import annotations

import argparse

from bootmatrix.cli.options import Commands, add_engine, qemus_of
from bootmatrix.errors import Status
from bootmatrix.terminal import echo

MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}
NOTES = """\
examples:
  bootmatrix doctor
  bootmatrix doctor --qemu head=../qemu/build     does it start, in which root, and boot?

exit status: 0 cells can be run here, whatever the warnings; 1 what is marked FAIL is to be mended
first: before that no cell can be run, or none with that --qemu
"""


def add(commands: Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "doctor", help="what this machine lacks, and how to mend it", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=NOTES)
    parser.set_defaults(command=_doctor)
    add_engine(parser, "look at this engine only")
    parser.add_argument("--qemu", metavar="NAME=PATH", action="append", default=[],
                        help="look at a QEMU of your own, too, as `bootmatrix run --qemu`")
    parser.add_argument("--json", action="store_true", help="the findings as JSON")


def _doctor(options: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from bootmatrix.diagnose.doctor import Health, examine

    findings = []
    for finding in examine(options.engine, qemus=qemus_of(options.qemu)):
        findings.append(finding)
        if options.json:
            continue
        echo(f"{MARKS[finding.state]}  {finding.what}: {finding.found}", flush=True)
        if finding.mend:
            echo(f"      mend it: {finding.mend}", flush=True)
    if options.json:
        echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    failed = any(finding.state is Health.FAIL for finding in findings)
    return Status.RED if failed else Status.GREEN
