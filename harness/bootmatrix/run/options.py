"""What a run of a matrix can be told: each option once, for ``bootmatrix run`` and for pytest.

Importing this module costs nothing: the command line's ``--help`` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootmatrix.engines import ENGINES


@dataclass(frozen=True)
class Option:
    """An option: ``flag`` of the command, ``pytest`` of pytest's command line.

    ``how`` is what both parsers take. ``name`` is where the command's parser puts the value;
    pytest's puts it under its own flag's. ``ours``: pytest has it from this project. ``reused``: it
    says with what a cell, or a test, is run, which needs it again to be run in the same way.
    """

    flag: str
    pytest: str
    name: str
    help: str
    how: Mapping[str, Any]
    ours: bool = True
    reused: bool = False

    @property
    def at_pytest(self) -> str:
        """Where pytest's parser puts the value."""
        return {"-k": "keyword", "-m": "markexpr", "--junit-xml": "xmlpath", "-n": "numprocesses",
                "-x": "maxfail"}.get(self.flag, self.pytest[2:].replace("-", "_"))

    def words(self, value: Any, flag: str = "") -> list[str]:
        """A value as pytest is given it, or with the command's ``flag`` that."""
        flag = flag or self.pytest
        if value is True:
            return [flag]
        if not value or value == self.how.get("default"):
            return []
        every = value if isinstance(value, list) else [value]
        if not flag.startswith("--"):
            # Apart they are easier to read; together where pytest would take it for something else.
            return [word for one in map(str, every)
                    for word in ([flag + one] if one.startswith(("-", "@")) else [flag, one])]
        return [f"{flag}={one}" for one in every]


def _repeated(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000")
    return int(text)


MOST_JOBS = 256
"""Each is a process; bootmatrix's own choice is two for each core."""


def _jobs(text: str) -> str:
    if text != "auto" and not (text.isdecimal() and len(text) < 9 and int(text) <= MOST_JOBS):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number up to {MOST_JOBS} nor auto")
    return text


def _slots(text: str) -> int:
    if not (text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MOST_JOBS):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MOST_JOBS}")
    return int(text)


def _option(
    flag: str, text: str, name: str = "", pytest: str = "", reused: bool = False, **how: Any
) -> Option:
    ours = f"--bootmatrix{flag[1:]}"
    return Option(flag, pytest or ours, name or flag[2:].replace("-", "_"), text, how,
                  reused=reused)


def _of_pytest(flag: str, text: str, name: str, **how: Any) -> Option:
    return Option(flag, flag, name, text, how, ours=False)


OWN_BUILDS = (
    _option("--qemu", "a QEMU of your own: a program, build tree or prefix; its data "
            "behind a comma; image:NAME of the Docker engine, root:DIR, an unpacked system, or "
            "suite:NAME[=VERSION] of Debian (repeatable)",
            reused=True, metavar="NAME=PATH", action="append", default=[]),
    _option("--firmware", "a firmware of your own: an image, CODE.fd,VARS.fd, a descriptor "
            "(.json), or a directory of images (repeatable)",
            reused=True, metavar="NAME=PATH", action="append", default=[]),
    _option("--host", "only cells to or from this host, which need not be in the matrix: --host "
            "head/test (repeatable)", reused=True, metavar="QEMU[/FIRMWARE]", action="append",
            default=[]),
)
"""Builds of the user's own, and hosts with them."""

SELECTION = (
    _of_pytest("-k", 'only cells whose values match, as in -k "q35 and not stock"',
               "keyword", metavar="EXPR", default=""),
    _of_pytest("-m", "only cells with an axis value, as in -m \"disk(name='ahci')\"",
               "marker", metavar="EXPR", default=""),
    *OWN_BUILDS,
)
"""Which cells of a matrix are meant."""

RUN = (
    _option("--cell", "run the cell with exactly this id (repeatable)",
            metavar="ID", action="append", default=[]),
    _of_pytest("-n", "cells side by side (default: auto, two for each core if memory allows)",
               "jobs", metavar="N", type=_jobs, default="auto"),
    _of_pytest("-x", "stop at the first failure", "stop", action="store_true"),
    _of_pytest("--lf", "only the cells that failed last time", "lf", action="store_true"),
    _option("--engine", "where QEMUs run (default: docker if an engine answers)",
            reused=True, choices=tuple(ENGINES)),
    _option("--share", "boot cells that begin alike once, save the guest, and feed it to each "
            "destination: faster, but the migration is not live", action="store_true"),
    _option("--strict-known", "fail a cell that passes though the matrix declares it known to fail",
            pytest="--strict-known", action="store_true"),
    _option("--repeat", "run each cell N times; verdicts that differ are reported as flaky",
            metavar="N", type=_repeated, default=1),
    _option("--shard", "run only part K of N of the cells, the same part in every run",
            metavar="K/N"),
    _option("--shard-times", "balance the parts by the times of these records, or of a history",
            metavar="FILE", type=Path),
    _option("--json", "write run records, one a line", pytest="--bootmatrix-records",
            metavar="FILE", type=Path),
    _of_pytest("--junit-xml", "write a JUnit report", "junit_xml", metavar="FILE", type=Path),
    _option("--run-dir", "where artifacts go (default: a new directory in runs/)",
            metavar="DIR", type=Path),
    _option("--cluster", "run the cells on the workers of a dask scheduler: tcp://HOST:PORT, "
            "tls://HOST:PORT, or local:N for N workers on this machine", metavar="ADDRESS"),
    _option("--cluster-slots", "cells side by side on each worker of local:N",
            metavar="N", type=_slots),
    _option("--cluster-tls", "certificates for a cluster: ca.pem, cert.pem and key.pem",
            metavar="DIR", type=Path),
    _option("--insecure", "a cluster without TLS, on a network that is yours alone",
            action="store_true"),
    _option("--no-same-roots", "have each worker of a cluster build the catalogue's images itself "
            "(default: it gets those of this machine)", action="store_true"),
    _option("--all-artifacts", "have a cluster send consoles and logs of all cells (default: of "
            "those that did not pass)", action="store_true"),
    _option("--resume", "go on with a run: its directory, its records, or `latest`",
            metavar="RUN", type=Path),
)
"""How its cells are run."""

REUSED = tuple(option for option in (*SELECTION, *RUN) if option.reused)
"""What the command that runs one cell, or one test, once more has to have."""
