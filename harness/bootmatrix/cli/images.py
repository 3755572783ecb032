"""``bootmatrix images``: the QEMU and firmware builds of the catalogue, in the cache.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import options as shared
from bootmatrix.errors import ImageError, Status, UserError
from bootmatrix.files import given_file
from bootmatrix.records.words import plural
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.builds.image_store import ImageStore

EXAMPLES = """\
examples:
  bootmatrix images build debian-bookworm debian-sid
  bootmatrix images list --json
  bootmatrix images rm debian-bullseye
  bootmatrix images rm own
  bootmatrix images export images.tar.gz debian-bookworm debian-sid
  bootmatrix images import images.tar.gz --sha256 DIGEST
"""


def add(commands: shared.Commands) -> None:
    """Add the command to bootmatrix's."""
    images = commands.add_parser(
        "images", help="the QEMU and firmware builds: build, list, rm, export, import",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES)
    actions = images.add_subparsers(title="actions", required=True, metavar="ACTION")
    for name, command, text in (
        ("build", _build, "build what is missing (default: all for x86_64)"),
        ("list", _list, "what is cached, from which suite, how large"),
        ("rm", _rm, "remove from the cache"),
    ):
        action = actions.add_parser(name, help=text, allow_abbrev=False)
        action.set_defaults(command=command)
        action.add_argument("names", metavar="NAME", nargs="+" if name == "rm" else "*",
                            help="a QEMU build of the catalogue, such as debian-sid"
                                 + ("; or own: copies of your own builds" * (name == "rm")))
        if name == "list":
            action.add_argument("--json", action="store_true", help="the same as JSON")
    _add_carrying(actions)


def _add_carrying(actions: shared.Commands) -> None:
    """Add what carries images from one machine to another."""
    pack = actions.add_parser("export", allow_abbrev=False,
                              help="write images to one file, and print its sha256")
    pack.set_defaults(command=_export)
    pack.add_argument("file", metavar="FILE", type=Path, help="the file, such as images.tar.gz")
    pack.add_argument("names", metavar="NAME", nargs="*",
                      help="a QEMU build of the catalogue (default: all that are built)")
    unpack = actions.add_parser("import", allow_abbrev=False,
                                help="take the images of such a file into the cache, all or none")
    unpack.set_defaults(command=_import)
    unpack.add_argument("file", metavar="FILE", type=Path, help="what `images export` wrote")
    unpack.add_argument("--sha256", metavar="DIGEST", required=True,
                        help="what `images export` printed: the file's, whose images are trusted "
                             "then as the archive's packages are")


def build_missing(store: ImageStore, names: Sequence[str]) -> None:
    """Build what is missing, with its progress on the terminal."""
    missing = [name for name in dict.fromkeys(names) if not store.is_built(name)]
    if missing:
        what = plural(len(missing), "missing image")
        echo(f"building {what}, once: {', '.join(missing)}", flush=True)
        store.build(missing, lambda line: echo(line, flush=True))


def _build(options: argparse.Namespace) -> int:
    from bootmatrix.builds.image_store import ImageStore

    store = ImageStore()
    names = options.names or store.names()
    build_missing(store, names)
    for name in names:
        store.check(name)
    echo(f"{plural(len(names), 'image')} there")
    return Status.GREEN


def _list(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from bootmatrix.builds.host import own_usage
    from bootmatrix.builds.image_store import ImageStore

    rows = [row for row in ImageStore().listing() if not options.names or row.name in options.names]
    unknown = set(options.names) - {row.name for row in rows}
    if unknown:
        raise UserError(f"no such QEMU build: {', '.join(sorted(unknown))}")
    if options.json:
        echo(json.dumps([asdict(row) for row in rows], indent=1))
        return Status.GREEN
    table = [("NAME", "SUITE", "QEMU", "FIRMWARE", "SIZE", "BUILT", "SHA256")]
    table += [(row.name, row.suite, row.version, row.first_firmware,
               f"{row.size / 1e6:.0f} MB", row.when, row.digest[:12]) if row.built
              else (row.name, row.suite, "", "", "", "not built", "") for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        echo("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True))
              .rstrip())
    total = sum(row.size for row in rows if row.built)
    echo(f"\n{sum(row.built for row in rows)} of {len(rows)} built, {total / 1e6:.0f} MB")
    if not options.names and (own := own_usage()):
        echo(f"copies of your own builds: {own / 1e6:.0f} MB (bootmatrix images rm own)")
    return Status.GREEN


def _rm(options: argparse.Namespace) -> int:
    from bootmatrix.builds.image_store import OWN_BUILDS, ImageStore, cache_home
    from bootmatrix.engines.docker import remove_images

    store = ImageStore()
    names = [name for name in dict.fromkeys(options.names) if name != OWN_BUILDS]
    _check_names(store, names, f"; or {OWN_BUILDS}, for copies of builds of your own")
    store.check_unused(names)
    if names:
        # The engine first: it refuses while a container runs the image, and then nothing is lost.
        imported = remove_images(names, cache_home())
        freed = store.remove(names)
        echo(f"{freed / 1e6:.0f} MB freed" + (
            f", {plural(imported, 'image')} removed from the Docker engine" if imported else ""))
    return _remove_own(store) if OWN_BUILDS in options.names else Status.GREEN


def _check_names(store: ImageStore, names: Sequence[str], more: str = "") -> None:
    """Raise UserError for a name that is no build's."""
    unknown = set(names) - set(store.names(None))
    if unknown:
        raise UserError(f"no such QEMU build: {', '.join(sorted(unknown))}",
                        hint=f"builds: {', '.join(store.names(None))}{more}")


def _export(options: argparse.Namespace) -> int:
    from bootmatrix.builds.image_store import ImageStore

    store = ImageStore()
    _check_names(store, options.names)
    names = list(dict.fromkeys(options.names)) or [
        name for name in store.names(None) if store.is_built(name)]
    if not names:
        raise UserError("no image is built", hint="bootmatrix images build")
    file: Path = options.file
    with given_file.replacing(file) as new:
        digest = store.export(names, new)
    echo(f"{digest}  {file}")
    echo(f"{plural(len(names), 'image')}, {file.stat().st_size / 1e6:.0f} MB: {', '.join(names)}")
    return Status.GREEN


def _import(options: argparse.Namespace) -> int:
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.roots import archive

    store = ImageStore()
    try:
        file = given_file.open_regular(options.file, archive.LARGEST)
    except given_file.Unreadable as error:
        raise UserError(str(error), file=options.file) from None
    # Before anything of it is looked at: a root made by a stranger is no sandbox for strangers.
    # And of a copy, which is what is unpacked: the file itself can be written to meanwhile.
    with file, store.unnamed_file() as copy:
        hashed = archive.DigestWriter(copy)
        try:
            given_file.copy(file, hashed, archive.LARGEST)
        except given_file.Unreadable as error:
            raise UserError(str(error), file=options.file) from None
        digest = hashed.hexdigest()
        if digest != options.sha256.lower():
            raise UserError(f"its sha256 is {digest}, not {options.sha256}", file=options.file)
        copy.seek(0)
        try:
            taken = store.take_in(copy)
        except ImageError as error:
            raise UserError(error.message, file=options.file, hint="nothing was imported") from None
    echo(f"{plural(len(taken), 'image')} imported" + f": {', '.join(taken)}" * bool(taken))
    return Status.GREEN


def _remove_own(store: ImageStore) -> int:
    from bootmatrix.builds.host import own_usage, remove_own
    from bootmatrix.builds.image_store import cache_home
    from bootmatrix.engines.docker import remove_images

    before = own_usage()
    remove_images(remove_own(store), cache_home())
    echo(f"{(before - own_usage()) / 1e6:.0f} MB of copies of your own builds freed")
    return Status.GREEN
