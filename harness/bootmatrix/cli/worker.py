"""``bootmatrix worker``: let this machine run cells for others."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli.options import Commands, add_engine
from bootmatrix.errors import Status
from bootmatrix.terminal import echo

NOTES = """\
examples:
  bootmatrix worker tcp://127.0.0.1:8786
  bootmatrix worker tls://scheduler:8786 --cluster-tls certs -n 8
  bootmatrix worker tcp://10.0.0.1:8786 --insecure --name rack-3
  bootmatrix worker tcp://10.0.0.1:8786 --insecure --board bench/apu2.yaml

Whoever reaches a dask scheduler can run code on all its workers, as the user that they run as. So
an address that is not this machine's own is refused without certificates, unless --insecure is
given. It serves until it is ended (Ctrl-C, SIGTERM); where the scheduler has gone, it is tried
again. `dask scheduler` starts one.

exit status: 0 it was ended; 1 this machine cannot run cells (see `bootmatrix doctor`); 2 a mistake
in what was given
"""


def add(commands: Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "worker", help="let this machine run cells for others", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=NOTES)
    parser.set_defaults(command=_worker)
    parser.add_argument("address", metavar="ADDRESS", help="tcp://HOST:PORT or tls://HOST:PORT")
    parser.add_argument("-n", dest="jobs", metavar="N", default="auto", type=_jobs,
                        help="cells side by side (default: auto, two for each core if memory "
                             "allows)")
    parser.add_argument("--name", metavar="NAME", default="",
                        help="what this machine is called in records (default: its host name)")
    add_engine(parser, "run QEMUs with this engine only")
    parser.add_argument("--cluster-tls", metavar="DIR", type=Path,
                        help="certificates: ca.pem, cert.pem and key.pem")
    parser.add_argument("--insecure", action="store_true",
                        help="without TLS, on a network that is yours alone")
    parser.add_argument("--board", dest="boards", metavar="FILE", type=Path, action="append",
                        default=[], help="run cells of the boards in this labgrid environment file "
                                         "(more than one: again)")
    parser.add_argument("--no-doctor", action="store_true",
                        help="serve at once, without looking whether cells can be run here")
    parser.add_argument("--with-stdin", action="store_true", help=argparse.SUPPRESS)


def _jobs(text: str) -> str:
    if text != "auto" and not (text.isdecimal() and len(text) < 4 and 0 < int(text) <= 256):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 1 to 256 nor auto")
    return text


def _worker(options: argparse.Namespace) -> int:
    import re
    import socket

    from bootmatrix.builds.image_store import cache_home
    from bootmatrix.cluster import address as addresses
    from bootmatrix.cluster.slots import WorkerMachine, home_of
    from bootmatrix.errors import UserError
    from bootmatrix.run.workers import side_by_side

    addresses.check_installed()
    address = addresses.parse(options.address)
    if address.local:
        raise UserError(f"{options.address}: a worker serves a scheduler",
                        hint="tcp://HOST:PORT or tls://HOST:PORT")
    addresses.check_safe(address, options.cluster_tls, options.insecure)
    security = addresses.security(options.cluster_tls)
    name = options.name or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise UserError(f"{name!r} cannot be a worker's name",
                        hint="letters, digits, dots and dashes")
    from bootmatrix.cluster import worker
    from bootmatrix.cluster.table import boards_of

    files = [file.absolute() for file in options.boards]
    boards = boards_of(files)
    if options.with_stdin:
        worker.end_with(0)
    elif not options.no_doctor:
        echo(f"{name}: looks whether cells can be run here", flush=True)
        if not _healthy(options.engine):
            return Status.RED
    slots = side_by_side() if options.jobs == "auto" else int(options.jobs)
    facts = worker.facts_of(name, slots, options.engine, boards)
    machine = WorkerMachine(facts, cache_home(), home_of(cache_home()), boards=files,
                            engine=options.engine)
    try:
        worker.serve(address, security, machine, lambda line: echo(line, flush=True))
    finally:
        machine.close()
    return Status.GREEN


def _healthy(engine: str | None) -> bool:
    """Whether cells can be run here; what is to be mended is told."""
    from bootmatrix.cli.doctor import MARKS
    from bootmatrix.diagnose.doctor import Health, examine

    failed = False
    for finding in examine(engine):
        if finding.state is Health.OK:
            continue
        failed |= finding.state is Health.FAIL
        echo(f"{MARKS[finding.state]}  {finding.what}: {finding.found}", flush=True)
        if finding.mend:
            echo(f"      mend it: {finding.mend}", flush=True)
    return not failed
