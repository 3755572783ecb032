"""``bootmatrix nvram``: look at, change and mend the file that owns a guest's firmware.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootmatrix.cli.options import Commands, no_machine, qemus_of, tell
from bootmatrix.errors import NvramError, Status, UserError
from bootmatrix.files import given_file
from bootmatrix.firmware.names import resolve
from bootmatrix.model import HostSpec
from bootmatrix.records.words import plural
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.model import FirmwareBuild
    from bootmatrix.nvram import Inspection, Nvram

SCHEMA = 1
_VARIABLES_COMMAND = "virt-fw-vars"
_SECONDS = 30
_LONGEST_DATA = 24  # bytes of a variable's data that `show` prints

NOTES = """\
One file holds a guest's firmware, its UEFI variables and what is known about both; QEMU maps it
as flash (docs/nvram.md). An IMAGE is a file, or the name of a known build such as
seabios-1.16.3 (`bootmatrix images list --json`); beside --qemu also one without a version.

examples:
  bootmatrix nvram init guest.nvram --qemu debian-bookworm --machine pc-q35-7.2
  bootmatrix nvram init guest.nvram --qemu debian-sid --firmware ovmf-4m
  bootmatrix nvram init guest.nvram --qemu head=../qemu/build
  bootmatrix nvram show guest.nvram
  bootmatrix nvram upgrade guest.nvram seabios-1.17.0
  bootmatrix nvram clear guest.nvram
  bootmatrix nvram export guest.nvram --code CODE.fd --vars VARS.fd
  bootmatrix nvram import guest.nvram --vars VARS.fd
  bootmatrix nvram verify guest.nvram
  bootmatrix nvram repair guest.nvram

exit status: 0 done; 2 a mistake in what was given, or a file that must not be used; 3 the rig
broke. What is refused changes nothing.
"""


def add(commands: Commands) -> None:
    """Add the command to bootmatrix's."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser("nvram", help="the file that owns a guest's firmware",
                                 formatter_class=raw, epilog=NOTES, allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    def action(name: str, command: Callable[[argparse.Namespace], int], text: str
               ) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=text, allow_abbrev=False)
        added.set_defaults(command=lambda options: _plainly(command, options))
        added.add_argument("file", metavar="FILE", type=Path)
        return added

    init = action("init", _init, "make one, with a firmware in it")
    init.add_argument("--firmware", metavar="IMAGE", help="default: the one beside --qemu")
    init.add_argument("--vars", metavar="FILE", type=Path, dest="variables",
                      help="a UEFI variable store to start from (default: the one that came with "
                           "the firmware, where --qemu has it)")
    stamp = init.add_mutually_exclusive_group(required=True)
    stamp.add_argument("--qemu", metavar="BUILD",
                       help="the QEMU build whose version is the stamp: such as debian-sid, or "
                            "NAME=PATH and the like, as `bootmatrix run --qemu`")
    stamp.add_argument("--stamp", metavar="VERSION", help="the QEMU version that is the stamp")
    init.add_argument("--machine", metavar="TYPE", default="", help="such as pc-q35-7.2")
    init.add_argument("--policy", metavar="POLICY", default="guest-owned",
                      choices=("guest-owned", "guest-owned-versioned"))

    show = action("show", _show, "what is in it, without touching it")
    show.add_argument("--json", action="store_true", help="the same as JSON")

    upgrade = action("upgrade", _upgrade, "stage a firmware for the next reset or start")
    upgrade.add_argument("image", metavar="IMAGE")

    clear = action("clear", _clear, "empty it: the next start initialises it again")

    export = action("export", _export, "write plain files that any QEMU or libvirt takes")
    importing = action("import", _import, "take plain files in the place of what is there")
    for plain, what in ((export, "to write"), (importing, "to take")):
        plain.add_argument("--code", metavar="PATH", type=Path, help=f"the firmware {what}")
        plain.add_argument("--vars", metavar="PATH", type=Path, dest="variables",
                           help=f"the UEFI variables {what}")

    action("verify", _verify, "check every checksum in it")
    repair = action("repair", _repair, "mend what its redundancy, or a known build, allows")
    for forced in (upgrade, clear, importing, repair):
        forced.add_argument("--force", action="store_true",
                            help="even if the guest has moved away: it lives here again")


def _plainly(command: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a command; what is wrong with the file it was given is told as the user's mistake."""
    try:
        return command(options)
    except NvramError as error:
        raise UserError(error.message) from error


# ---- the actions ------------------------------------------------------------------------------


def _init(options: argparse.Namespace) -> int:
    from bootmatrix.nvram import ChangedBy, Nvram

    stamp, image, variables = options.stamp, options.firmware, b""
    if image is None and options.qemu is None:
        raise UserError("--stamp alone does not say which firmware", hint="add --firmware IMAGE")
    with ExitStack() as stack:
        beside = None
        if options.qemu is not None:
            stamp, beside = _beside(stack, options.qemu, image, options.machine)
        if beside is not None:
            firmware, name = _read(beside.path), beside.name
            variables = _read(beside.variables) if beside.variables else b""
        else:
            firmware, name = _image(image)
    if options.variables:
        variables = _read(options.variables)
    with Nvram(options.file, role="bootmatrix nvram init") as nvram:
        nvram.initialise(firmware, qemu=stamp, machine=options.machine, policy=options.policy,
                         name=name, variables=variables, by=ChangedBy.USER)
    echo(f"{options.file}: initialised with {name or 'an unknown firmware'}, stamp {stamp}")
    return Status.GREEN


def _show(options: argparse.Namespace) -> int:
    from bootmatrix.nvram import inspect

    seen = inspect(options.file)
    about = _about(options.file, seen)
    if options.json:
        echo(json.dumps(about, indent=1))
    else:
        for line in _lines(options.file, about):
            echo(line)
    return Status.GREEN


def _upgrade(options: argparse.Namespace) -> int:
    firmware, name = _image(options.image)
    with _opened(options) as nvram:
        nvram.stage(firmware, name)
    echo(f"{options.file}: {name or options.image} is staged; it runs from the next reset or "
          "start on")
    return Status.GREEN


def _clear(options: argparse.Namespace) -> int:
    with _opened(options) as nvram:
        nvram.clear()
    echo(f"{options.file}: cleared; the next start initialises it again")
    return Status.GREEN


def _export(options: argparse.Namespace) -> int:
    from bootmatrix.nvram import Part, inspect

    wanted = {part: path for part, path in ((Part.FIRMWARE, options.code),
                                            (Part.VARIABLES, options.variables)) if path}
    if not wanted:
        raise UserError("nothing to export", hint="--code PATH, --vars PATH, or both")
    seen = inspect(options.file)
    if seen.problems:
        raise NvramError(f"{options.file}: {seen.problems[0]}")
    for part, path in wanted.items():
        if part not in seen.contents:
            raise NvramError(f"{options.file}: the nvram has no {part}")
        if path.exists():
            raise UserError("exists already", file=path)
    for part, path in wanted.items():
        given_file.replace(path, seen.contents[part])
        echo(f"{path}: {part}, {_size(len(seen.contents[part]))}")
    return Status.GREEN


def _import(options: argparse.Namespace) -> int:
    from bootmatrix.nvram import Part

    if not options.code and not options.variables:
        raise UserError("nothing to import", hint="--code PATH, --vars PATH, or both")
    contents: dict[Part, bytes] = {}
    name = None
    if options.code:
        contents[Part.FIRMWARE], name = _image(str(options.code))
    if options.variables:
        contents[Part.VARIABLES] = _read(options.variables)
    with _opened(options) as nvram:
        nvram.replace_contents(nvram.contents() | contents,
                               nvram.header.firmware if name is None else name)
    echo(f"{options.file}: {' and '.join(contents)} taken")
    return Status.GREEN


def _verify(options: argparse.Namespace) -> int:
    from bootmatrix.nvram import inspect

    seen = inspect(options.file)
    if seen.problems:
        raise NvramError(f"{options.file}: " + "; ".join(seen.problems))
    notes = []
    if seen.unfinished:
        notes.append("an update was cut off, the next use finishes it")
    if seen.header.lent is not None:
        notes.append("a QEMU has it, or had it when its harness ended: the windows are its own")
    echo(f"{options.file}: whole" + "".join(f"; {note}" for note in notes))
    return Status.GREEN


def _repair(options: argparse.Namespace) -> int:
    from bootmatrix.nvram import repair

    def find(digest: str) -> bytes | None:
        build = _known().get(digest)
        return _read(build.path) if build else None

    done = repair(options.file, find)
    if options.force:
        from bootmatrix.nvram import inspect

        if inspect(options.file).header.moved is not None:
            done.append("the guest lives here again")
        _opened(options).close()
    for line in done or ["nothing to repair"]:
        echo(f"{options.file}: {line}")
    return Status.GREEN


def _opened(options: argparse.Namespace) -> Nvram:
    from bootmatrix.nvram import Nvram

    if not options.file.exists():
        # One that a crash kept from arriving may wait beside it: that is told first.
        Nvram(options.file)
        raise UserError("no such file", file=options.file, hint="`bootmatrix nvram init` makes it")
    command = "bootmatrix nvram"
    return Nvram(options.file, role=command, force=options.force)


# ---- images and files -------------------------------------------------------------------------


def _known() -> dict[str, FirmwareBuild]:
    """The known firmware builds by their sha256; none where no image has been built."""
    from bootmatrix.builds.image_store import ImageStore

    found: dict[str, FirmwareBuild] = {}
    for build in ImageStore().firmwares():
        found.setdefault(build.sha256, build)
    return found


def _beside(
    stack: ExitStack, qemu: str, image: str | None, machine: str
) -> tuple[str, FirmwareBuild | None]:
    """The version of a QEMU, and the firmware that a name, or none, means on a host with it.

    None where the image is a file. The build is there while the stack is open. Raises UserError
    for a machine type that the QEMU has not.
    """
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore

    builds = stack.enter_context(Builds(ImageStore()))
    source, = qemus_of([qemu]).values()
    build = builds.alone([source], tell)[0]
    if machine and machine not in build.machines:
        raise no_machine(machine, [build])
    if image is not None and _is_file(image):
        return build.version, None
    host = HostSpec("nvram", source, image)
    builds.check([host])
    builds.prepare([host], tell)
    return build.version, builds.firmware(host)


def _is_file(image: str) -> bool:
    return Path(image).exists() or os.sep in image


def _image(text: str) -> tuple[bytes, str]:
    """An image's bytes and the name of the known build that it is, "" for none."""
    from hashlib import sha256

    known = _known()
    path = Path(text)
    if not _is_file(text):
        builds = {build.name: build for build in known.values()}
        try:
            path = builds[resolve(text, builds)].path
        except UserError as error:
            raise UserError(f"no such file: {text}; {error}") from None
    data = _read(path)
    build = known.get(sha256(data).hexdigest())
    return data, build.name if build else ""


def _read(path: Path) -> bytes:
    from bootmatrix.nvram.repair import LARGEST

    if path.exists() and not path.is_file():
        raise UserError("no file", file=path)
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"is larger than {LARGEST} bytes", file=path)
        return path.read_bytes()
    except OSError as error:
        raise UserError(os.strerror(error.errno or 0), file=path) from error


# ---- show -------------------------------------------------------------------------------------


def _about(path: Path, seen: Inspection) -> dict[str, Any]:
    """All there is to say, as JSON data."""
    from dataclasses import asdict

    from bootmatrix.nvram import Part
    from bootmatrix.nvram.layout import FORMAT

    known = _known()

    def called(digest: str) -> str | None:
        return known[digest].name if digest in known else None

    header = seen.header
    about: dict[str, Any] = {"schema": SCHEMA, "file": str(path), "format": FORMAT} | {
        key: value for key, value in asdict(header).items()
        if key not in ("windows", "firmware", "staged", "origin")
    }
    # What the guest has changed while it has the file is not in the header yet.
    about["windows"] = [
        {"part": window.part.value, "offset": window.offset, "size": window.size,
         "sha256": _digest(seen.contents[window.part])} for window in header.windows
    ]
    digest = about["windows"][0]["sha256"] if header.windows else None
    about["firmware"] = None if digest is None else {
        "name": called(digest) or (
            header.firmware if digest == header.windows[0].sha256 else "") or None,
        "sha256": digest, "known": called(digest) is not None,
    }
    about["origin"] = None if header.origin is None else asdict(header.origin) | {
        "name": called(header.origin.sha256) or header.origin.name or None}
    about["stamp"] = header.origin.qemu if header.origin else None
    staged = header.staged
    about["staged"] = None if staged is None else {
        "name": called(staged.sha256) or staged.name or None, "sha256": staged.sha256,
        "size": staged.size}
    about["problems"] = list(seen.problems)
    about["unfinished"] = seen.unfinished
    variables = seen.contents.get(Part.VARIABLES)
    about["variables"], about["variables_note"] = (
        (None, "no variables window") if variables is None else _variables(variables))
    return about


def _digest(content: bytes) -> str:
    from hashlib import sha256

    return sha256(content).hexdigest()


def _variables(store: bytes) -> tuple[list[dict[str, Any]] | None, str]:
    """A variable store's variables, and why there are none if they cannot be had."""
    command = shutil.which(_VARIABLES_COMMAND)
    if command is None:
        return None, f"{_VARIABLES_COMMAND} (of virt-firmware) is not installed"
    with tempfile.TemporaryDirectory() as directory:
        there, output = Path(directory, "vars.fd"), Path(directory, "vars.json")
        there.write_bytes(store)
        try:
            done = subprocess.run(
                [command, "--loglevel", "error", "--input", there, "--output-json", output],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS)
            if done.returncode == 0:
                found = json.loads(output.read_text())["variables"]
                return [{key: one[key] for key in ("name", "guid", "attr", "data")}
                        for one in found], ""
            complaint = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
            complaint = [f"{type(error).__name__}: {error}"]
    return None, f"{_VARIABLES_COMMAND} cannot read them: {complaint[0]}"


def _lines(path: Path, about: dict[str, Any]) -> list[str]:
    """What `show` prints."""
    rows: list[tuple[str, str]] = []
    origin, firmware = about["origin"], about["firmware"]
    if origin is None:
        rows.append(("firmware", "none: the next start initialises it" if not about["windows"]
                     else "none: there is room for what a migration brings"))
    else:
        window = about["windows"][0]
        named = firmware["name"] or f"unknown, sha256 {firmware['sha256']}"
        if firmware["name"] and not firmware["known"]:
            named += f", no known build, sha256 {firmware['sha256']}"
        rows.append(("firmware", f"{named} ({_size(window['size'])} at {window['offset']:#x})"))
        rows.append(("stamp", f"QEMU {origin['qemu']}"))
        rows.append(("initialised", ", ".join(filter(None, (
            origin["when"], origin["machine"], origin["policy"],
            f"with {origin['name'] or 'sha256 ' + origin['sha256']}")))))
    changed = about["changed"]
    rows.append(("changed", f"by the {changed['by']}, {changed['when']}"
                 + (f", {plural(changed['blocks'], 'block')}" if changed["blocks"] else "")))
    rows.append(("generation", f"{about['generation']}, guest {about['guest']}"))
    staged = about["staged"]
    rows.append(("staged", "nothing" if staged is None else
                 f"{staged['name'] or 'unknown, sha256 ' + staged['sha256']}: from the next reset "
                 "or start on"))
    if about["lent"]:
        rows.append(("lent", f"to QEMU {about['lent']['qemu']} ({about['lent']['role']}), "
                             f"{about['lent']['when']}"))
    if about["moved"]:
        rows.append(("moved away", f"to {about['moved']['to']}, {about['moved']['when']}"))
    if about["came_from"]:
        rows.append(("came from", about["came_from"]))
    rows += [("damaged", problem) for problem in about["problems"]]
    if about["unfinished"]:
        rows.append(("unfinished", "an update was cut off; the next use finishes it"))
    if len(about["windows"]) > 1:
        window = about["windows"][1]
        place = f"({_size(window['size'])} at {window['offset']:#x})"
        rows.append(("variables", f"{about['variables_note'] or len(about['variables'])} {place}"))
    lines = [f"{path}: nvram, format {about['format']}"]
    lines += [f"  {label:<12} {text}" for label, text in rows]
    for variable in about["variables"] or ():
        data = str(variable["data"])
        shown = data[:2 * _LONGEST_DATA] + ("..." if len(data) > 2 * _LONGEST_DATA else "")
        lines.append(f"    {variable['name']:<24} {variable['guid']} {shown}")
    return lines


def _size(size: int) -> str:
    return f"{size >> 10} KiB"
