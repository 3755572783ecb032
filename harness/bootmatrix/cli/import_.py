"""``bootmatrix import``: somebody's machine, written down as a matrix file for review."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bootmatrix.cli import options as shared
from bootmatrix.errors import Status
from bootmatrix.terminal import echo, visible

if TYPE_CHECKING:
    from bootmatrix.vm import Translated

EXAMPLES = """\
examples:
  bootmatrix import vm.txt -o matrices/mine.yaml         ps, libvirt's log, a script
  bootmatrix import domain.xml -o matrices/mine.yaml     a libvirt domain
  bootmatrix import vm.txt --memory 512 --network none --runs linux
"""


def add(commands: shared.Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "import", help="write somebody's machine down as a matrix file", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
        description="Reads a QEMU command line, or a libvirt domain, and tells of each argument "
        "whether it is kept, replaced by something local, or left out, and why.")
    parser.add_argument("file", help="where it is")
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

    if not re.search(NAME.replace("$", r"\Z"), options.name) or options.name in set(GuestKind):
        raise UserError(f"--name {options.name}: not a name", hint="letters, digits, . _ + -")
    if options.memory is not None and not 32 <= options.memory <= 65536:
        raise UserError(f"--memory {options.memory}", hint="32 to 65536 MiB")
    path = given_file.path_of(options.file)
    found = vm.read(path, memory=options.memory, network=options.network == "user")
    text = "\n".join(matrix(found, options)) + "\n"
    if options.output is None:
        echo(text, end="")
        return Status.GREEN
    try:
        with given_file.path_of(options.output).open("x") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"{options.output} cannot be written: {error.strerror}") from None
    for line in vm.sorted_lines(found.lines):
        echo(visible(str(line)), file=sys.stderr)
    counts = {kind: sum(line.kind == kind for line in found.lines) for kind in vm.KINDS}
    echo(", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
         + f"; written to {options.output}: read it, then `bootmatrix run {options.output}`")
    return Status.GREEN


def matrix(found: Translated, options: argparse.Namespace) -> Iterator[str]:
    """The lines of a matrix file with the machine in it."""
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
    yield "  scenario: migrate-reset"
    if not machine.has_disk and machine.arch.value != "x86_64":
        yield "  disk: virtio"
    yield "boot-timeout: 60"
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


def _comment(text: str) -> str:
    """A text that stands in one line of a file, whatever is in it."""
    return visible(text).replace("\n", " ").replace("\r", " ")[:1000]
