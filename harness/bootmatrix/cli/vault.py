"""``bootmatrix vault``: guests that were saved, kept for QEMUs that are still to come.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootmatrix.cli import matrices
from bootmatrix.cli import options as shared
from bootmatrix.cli import run as runs
from bootmatrix.cli.images import build_missing
from bootmatrix.errors import HarnessError, Status, UserError
from bootmatrix.records.words import plural
from bootmatrix.run.options import RUN, SELECTION
from bootmatrix.terminal import echo, one_line

if TYPE_CHECKING:
    from bootmatrix.run.keeping import VaultEntry

NOTES = """\
A vault is a directory: a matrix file for each saved guest, and the guests' files by their content
(docs/vault.md). `add` boots the guests of a matrix and saves them before their first migration;
`run` restores each in another QEMU, resets it, and judges it as a run of its matrix file does.

examples:
  bootmatrix vault add vault matrices/quickstart.yaml -k bookworm
  bootmatrix vault list vault
  bootmatrix vault run vault --host debian-sid
  bootmatrix vault run vault --qemu head=../qemu/build --host head --json records.jsonl

exit status: as `bootmatrix run` has it: 1 where a QEMU can no longer take a guest, or another
firmware runs in it than its policy promises; 2 where a guest is damaged, and no cell failed: it is
named, and all others are run. Of `add` 1: a guest did not come up, or could not be saved.
"""


def add(commands: shared.Commands) -> None:
    """Add the command to bootmatrix's."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser("vault", help="saved guests, restored in later QEMUs",
                                 formatter_class=raw, epilog=NOTES, allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    adding = actions.add_parser("add", allow_abbrev=False, help="save the guests of a matrix")
    adding.set_defaults(command=_add)
    _takes_vault(adding)
    matrices.add(adding)
    shared.add(adding, [option for option in RUN if option.flag in ("--cell", "--engine")])

    listing = actions.add_parser("list", allow_abbrev=False,
                                 help="which guests there are, each looked at whole")
    listing.set_defaults(command=_list)
    _takes_vault(listing)
    listing.add_argument("--json", action="store_true", help="the same as JSON")

    running = actions.add_parser("run", allow_abbrev=False,
                                 help="restore each guest in another QEMU, and reset it")
    _takes_vault(running)
    shared.add(running, SELECTION)
    runs.add_options(running)
    running.set_defaults(command=_run)


def _takes_vault(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("vault", metavar="VAULT", type=Path, help="the vault's directory")


def _add(options: argparse.Namespace) -> int:
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.run import keeping

    if options.vault.exists() and not options.vault.is_dir():
        raise UserError("is no directory", file=options.vault, hint="a vault is one")
    store = ImageStore()
    with Builds(store) as builds:
        read = matrices.read(options, builds)
        cells = [tuple(matrix.cells(runs.asking(store, builds, matrix))) for matrix in read]
        runs.check_cells(options.cell, [cell for of_one in cells for cell in of_one])
        wanted = {*options.cell} or {cell.id for of_one in cells for cell in of_one}
        if options.keyword or options.marker:
            wanted &= {cell.id for cell in matrices.selected(options, read)}
        if not wanted:
            raise UserError("no cell matches the expression")
        left_out: dict[str, str] = {}
        guests: dict[str, keeping.ToSave] = {}
        for matrix, of_one in zip(read, cells, strict=True):
            selected = []
            for cell in of_one:
                if cell.id not in wanted:
                    continue
                if why := keeping.unsavable(cell):
                    left_out.setdefault(why, cell.id)
                else:
                    selected.append(cell)
            sources = dict.fromkeys(cell.hosts[0] for cell in selected)
            build_missing(store, builds.missing([*sources]))
            builds.prepare([*sources], shared.tell, matrix.place)
            hosts = {spec.name: builds.host(spec) for spec in sources}
            guests |= keeping.to_save(selected, matrix.known, hosts)
        for why, id_ in left_out.items():
            shared.tell(f"left out: {id_}: {why}")
        if not guests:
            raise UserError("no cell has a guest to be saved",
                            hint="a scenario that migrates, such as migrate-reset")
        with _alone(options.vault):
            return _save(options, builds, guests)


@contextlib.contextmanager
def _alone(vault: Path) -> Iterator[None]:
    """Nobody else adds to a vault meanwhile: of two that save one guest, one would be lost.

    Raises UserError where somebody does.
    """
    import fcntl

    try:
        vault.mkdir(parents=True, exist_ok=True)
        held = os.open(vault, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(f"cannot be used: {error.strerror}", file=vault) from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError("another `bootmatrix vault add` saves guests there", file=vault,
                            hint="when it has ended, what it saved is there already") from error
        try:
            yield
        finally:
            # While nobody else can have it; what was saved keeps it.
            with contextlib.suppress(OSError):
                vault.rmdir()
    finally:
        os.close(held)


def _save(options: argparse.Namespace, builds: Any, guests: Any) -> int:
    import tempfile

    from bootmatrix.engines import choose
    from bootmatrix.files.cell_files import remove_tree
    from bootmatrix.run import keeping
    from bootmatrix.run.runner import Runner

    saved, failed, size = 0, 0, 0
    directory = Path(tempfile.mkdtemp(prefix="bootmatrix-vault-"))
    try:
        with choose(options.engine) as engine, Runner(builds, engine, directory) as runner:
            for key, guest in guests.items():
                host = builds.host(guest.cell.hosts[0])
                name = keeping.name_of(key, guest, host)
                if (options.vault / name).exists():
                    try:
                        keeping.read(options.vault / name)
                        echo(f"there already: {name}")
                    except UserError as error:
                        failed += 1
                        echo(f"there already, and damaged: {name}: {error}", file=sys.stderr)
                    continue
                begun = runner.beginning(guest.cell, directory / key)
                if isinstance(begun, str):
                    failed += 1
                    echo(f"not saved: {name}: {begun}", file=sys.stderr)
                    continue
                setup = runner.setup(guest.cell, [host])
                try:
                    new = keeping.keep(options.vault, name, guest, host, setup, begun)
                except UserError as error:
                    # A full disk is nobody's mistake, as in a run.
                    if isinstance(error.__context__, OSError):
                        raise HarnessError(f"not saved: {name}: {error} (saved before: {saved})"
                                           ) from error
                    raise
                saved, size = saved + 1, size + new
                echo(f"saved: {name}, {new / 1e6:.1f} MB", flush=True)
    finally:
        remove_tree(directory)  # sandboxes have written there
    echo(f"{plural(saved, 'guest')} saved, {size / 1e6:.1f} MB")
    return Status.RED if failed else Status.GREEN


def _looked_at(vault: Path) -> tuple[list[VaultEntry], int]:
    """The guests that are whole; of the others each is named, and how many they are."""
    from bootmatrix.run import keeping

    whole, damaged = [], 0
    for path in keeping.guests(vault):
        try:
            whole.append(keeping.read(path))
        except UserError as error:
            damaged += 1
            about = "" if error.file == path else f"{path}: "
            echo(f"bootmatrix: {about}{error}", file=sys.stderr)
    return whole, damaged


def _list(options: argparse.Namespace) -> int:
    whole, damaged = _looked_at(options.vault)
    if options.json:
        echo(json.dumps([_row(entry) for entry in whole], indent=1))
    else:
        _table(whole)
    return Status.USER_ERROR if damaged else Status.GREEN


def _row(entry: VaultEntry) -> dict[str, Any]:
    said = entry.said
    return {"file": str(entry.path), "saved": said.saved, "qemu": said.qemu.version,
            "firmware": said.firmware.name, "bytes": entry.packed} | said.values


def _table(whole: Sequence[VaultEntry]) -> None:
    table = [("FILE", "SAVED", "QEMU", "FIRMWARE", "SIZE")]
    table += [(one_line(entry.path.name), one_line(entry.said.saved)[:10], entry.said.qemu.version,
               entry.said.firmware.name, f"{entry.packed / 1e6:.1f} MB") for entry in whole]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        echo("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True))
             .rstrip())
    echo(f"\n{plural(len(whole), 'guest')}")


def _run(options: argparse.Namespace) -> int:
    whole, damaged = _looked_at(options.vault)
    if not whole:
        raise UserError("no guest is there that could be restored", file=options.vault,
                        hint="`bootmatrix vault add` saves some")
    options.matrices = [entry.path for entry in whole]
    status = runs.run(options)
    if damaged:
        echo(f"bootmatrix: {plural(damaged, 'guest')} of {options.vault} damaged, see above: "
             "not restored", file=sys.stderr)
    return Status.USER_ERROR if status == Status.GREEN and damaged else status
