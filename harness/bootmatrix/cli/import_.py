"""``bootmatrix import``: somebody's machine, written down as a matrix file for review."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import options as shared
from bootmatrix.errors import Status
from bootmatrix.terminal import echo, visible

if TYPE_CHECKING:
    from bootmatrix.model import OwnMachine
    from bootmatrix.vm import Translated

EXAMPLES = """\
examples:
  bootmatrix import vm.txt -o matrices/mine.yaml         ps, libvirt's log, a script
  bootmatrix import - -o matrices/mine.yaml              what is piped in
  bootmatrix import domain.xml -o matrices/mine.yaml     a libvirt domain
  bootmatrix import vm.txt --memory 512 --network none --runs linux
"""


_VIRSH_SECONDS = 30  # it connects to a daemon, which it can start
_MOST_SAID = 4096
_QEMU_MIB = 3072  # of address space beside the guest's memory: TCG reserves 1 GiB for code


def add(commands: shared.Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "import", help="write somebody's machine down as a matrix file", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
        description="Reads a QEMU command line, or a libvirt domain, and tells of each argument "
        "whether it is kept, replaced by something local, or left out, and why.")
    parser.add_argument("file", help="where it is; - is standard input")
    parser.add_argument("-o", "--output", metavar="FILE",
                        help="the matrix file to write, which must not be there yet; default: "
                        "standard output")
    parser.add_argument("--name", default="mine", help="of the guest; default: mine")
    parser.add_argument("--memory", type=int, metavar="MIB",
                        help="how much it is to have; default: what it has, up to 1024 MiB")
    parser.add_argument("--network", choices=("user", "none"), default="user",
                        help="what its cards are connected to; default: user")
    parser.add_argument("--runs", choices=("probe", "linux"), default="probe",
                        help="what runs in it; default: probe")
    parser.add_argument("--source", default="debian-trixie", metavar="BUILD",
                        help="the QEMU that it comes from; default: debian-trixie")
    parser.add_argument("--destination", default="debian-sid", metavar="BUILD",
                        help="the QEMU that it goes to; default: debian-sid")
    parser.set_defaults(command=_import)


def _import(options: argparse.Namespace) -> int:
    import re

    from bootmatrix import vm
    from bootmatrix.cell import NAME
    from bootmatrix.errors import UserError
    from bootmatrix.files import given_file
    from bootmatrix.model import GuestKind
    from bootmatrix.vm import libvirt as domain

    if not re.search(NAME.replace("$", r"\Z"), options.name) or options.name in set(GuestKind):
        raise UserError(f"--name {options.name}: not a name", hint="letters, digits, . _ + -")
    if options.memory is not None and not 32 <= options.memory <= 65536:
        raise UserError(f"--memory {options.memory}", hint="32 to 65536 MiB")
    if options.file == "-":
        options.file = "standard input"
        path, given, by_libvirt = Path(options.file), _standard_input(), None
    else:
        path = given_file.path_of(options.file)
        given = vm.text_of(path)
        by_libvirt = _by_libvirt(path) if domain.looks_like(given) else None
    found = vm.of_text(by_libvirt or given, path, memory=options.memory,
                       network=options.network == "user",
                       file_mib=options.memory or vm.LARGEST_FILE_MIB)
    text = "\n".join(matrix(found, options)) + "\n"
    if options.output is None:
        echo(text, end="")
        return Status.GREEN
    output = given_file.path_of(options.output)
    try:
        with output.open("x") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:  # a part of it would be in the way of the next try
                output.unlink(missing_ok=True)
                raise
    except OSError as error:
        parent = output.parent
        why = error.strerror if parent.is_dir() else f"there is no directory {parent}"
        raise UserError(f"{options.output} cannot be written: {why}") from None
    for line in vm.sorted_lines(found.lines):
        echo(visible(str(line)), file=sys.stderr)
    counts = {kind: sum(line.kind == kind for line in found.lines) for kind in vm.KINDS}
    echo(", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
         + f"; written to {options.output}: read it, then `bootmatrix run {options.output}`")
    return Status.GREEN


def _standard_input() -> str:
    """What is piped in. Raises UserError."""
    from bootmatrix.errors import UserError
    from bootmatrix.vm import words

    given = sys.stdin.buffer.read(words.LARGEST + 1)
    if len(given) > words.LARGEST:
        raise UserError(f"standard input has more than {words.LARGEST} bytes")
    return words.decoded(given)


def _by_libvirt(path: Path) -> str | None:
    """The command line that libvirt itself makes of a domain; None where it is not there."""
    import os
    import shutil
    import signal
    import subprocess
    import tempfile
    from contextlib import suppress

    from bootmatrix.vm import words

    if shutil.which("virsh") is None:
        return None
    argv = ["virsh", "domxml-to-native", "qemu-argv", "--xml", str(path.absolute())]
    # What it writes is bounded by the shell, and what it leaves behind ends with it.
    bounded = ["sh", "-c", f'ulimit -f {words.LARGEST >> 9}; exec "$@"', "sh", *argv]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaint:
        try:
            virsh = subprocess.Popen(bounded, stdin=subprocess.DEVNULL, stdout=output,
                                     stderr=complaint, start_new_session=True)
            try:
                status = virsh.wait(_VIRSH_SECONDS)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(virsh.pid, signal.SIGKILL)
                virsh.wait()
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
        else:
            output.seek(0)
            text = output.read(words.LARGEST).decode("utf-8", "replace")
            if status == 0 and text.strip():
                echo("as `virsh domxml-to-native` has it", file=sys.stderr)
                return text
            complaint.seek(0)
            said = complaint.read(_MOST_SAID).decode("utf-8", "replace").strip()
    first = said.splitlines()[0][:200] if said else "no reason given"
    echo(f"read by bootmatrix itself: virsh domxml-to-native cannot ({visible(first)})",
         file=sys.stderr)
    return None


def matrix(found: Translated, options: argparse.Namespace) -> Iterator[str]:
    """The lines of a matrix file with the machine in it."""
    from bootmatrix.arguments import machine_type
    from bootmatrix.boards import board_of
    from bootmatrix.vm import sorted_lines

    machine = found.machine
    yield f"# A machine of {_comment(options.file)}, by `bootmatrix import`. What became of it:"
    for line in sorted_lines(found.lines):
        yield f"#   {_comment(str(line))}"
    yield "schema: 1"
    yield "hosts:"
    firmware = ", firmware: seabios-microvm" if machine.machine.startswith("microvm") else ""
    if machine.uefi and machine.arch.value == "x86_64":
        # SMM and the code that needs it go together: OVMF with Secure Boot wants it.
        kind = "ovmf-4m-secure" if ",smm=on" in machine.machine else "ovmf-4m"
        firmware = f", firmware: {kind}"
    for role in ("source", "destination"):
        yield f"  {role}: {{qemu: {json.dumps(getattr(options, role))}{firmware}}}"
    yield "axes:"
    yield "  source: source"
    yield "  destination: destination"
    yield f"  guest: {options.name}"
    yield "  policy: stock"
    board = board_of(machine_type(machine.machine), machine.arch)
    moves = board is None or board.migrates_to_others
    yield f"  scenario: {'migrate-reset' if moves else 'move'}"
    if not machine.has_disk and machine.arch.value != "x86_64":
        yield "  disk: virtio"
    yield "boot-timeout: 60"
    if limits := _limits(machine):
        yield f"limits: {{{', '.join(f'{name}: {mib}' for name, mib in limits.items())}}}"
    yield "guests:"
    yield f"  {options.name}:"
    if options.runs != "probe":
        yield f"    runs: {options.runs}"
    for key in ("arch", "machine", "cpu", "smp", "memory"):
        value = getattr(machine, key)
        if value != "":
            yield f"    {key}: {json.dumps(value)}"
    yield "    arguments:" + ("" if machine.words else " []")
    words, at = machine.words, 0
    while at < len(words):
        both = words[at:at + 2]
        yield f"      - {json.dumps(' '.join(both))}"
        at += 2


def _limits(machine: OwnMachine) -> dict[str, int]:
    """MiB that its sandboxes need beyond what they have."""
    from bootmatrix import arguments
    from bootmatrix.vm import LARGEST_FILE_MIB, MOST_MIB

    words = [arguments.keys(word) for word in machine.words]
    files = [arguments.mib(keys["size"]) or 0 for keys in words if "size" in keys and (
        "memory-backend-memfd" in keys or "mem-path" in keys)]
    found = {}
    if (mib := arguments.mib(machine.memory) or 0) > MOST_MIB:
        found["memory"] = mib + _QEMU_MIB
    if (largest := max(files, default=0)) > LARGEST_FILE_MIB:
        found["file"] = largest
    return found


def _comment(text: str) -> str:
    """A text that stands in one line of a file, whatever is in it."""
    return visible(text).replace("\n", " ").replace("\r", " ")[:1000]
