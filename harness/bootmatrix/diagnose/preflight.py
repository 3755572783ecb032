"""Would a migration be refused? Two QEMUs compared without a boot, as far as they tell it.

What a stream would hold (RAM blocks, device sections, their fields) is asked of QEMUs that are
launched stopped, or that only print it (-dump-vmstate). The rules by which a destination refuses
are those of QEMU's docs/devel/migration/main.rst; docs/preflight.md says how often they are right.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import chain, islice
from typing import Any

from bootmatrix.arguments import machine_type
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine
from bootmatrix.engines.confinement import CELL
from bootmatrix.engines.scratch import Scratch
from bootmatrix.errors import QemuError
from bootmatrix.files.cell_files import temporary
from bootmatrix.machines.qemu.command_line import bare, qemu_argv
from bootmatrix.machines.qemu.files import GuestFiles
from bootmatrix.machines.qemu.machine import launch_of
from bootmatrix.machines.qemu.migration import restore, save
from bootmatrix.machines.qemu.process import VM, Qemu
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import DEFAULT_MACHINE, Accel, Grant, Host, MigrationMode
from bootmatrix.modes import MODES
from bootmatrix.witnesses.refusal import Refusal, classify

SECONDS = 30.0
"""For one launch, which takes a tenth of one."""

_AT, _VMSTATE = "1-qemu", "vmstate.json"
_MOST_FIELDS = 500  # of one description; 70 is the most of q35 in three Debian QEMUs
_MOST_FINDINGS, _MOST_LISTED, _LONGEST_PATH = 5000, 50, 1000
_VMSTATE_BYTES = 16 << 20  # q35's takes at most 0.9 MB in three Debian QEMUs
# Of a guest that has not run: a machine's memory is empty, and takes nothing.
_STREAM_BYTES = 64 << 20
# The longest description of a stream that is looked for; a PC's takes some 100 KiB.
_DESCRIPTION_BYTES = 4 << 20
# "pc.bios    4 KiB  0x0000000002000000 0x0000000000040000 0x0000000000040000 ..."
_BLOCK = re.compile(
    r"^ *+(\S+) +\d+ [KMG]iB +0x[0-9a-f]+ +0x([0-9a-f]+) +0x([0-9a-f]+)", re.MULTILINE)
# "error while loading state for instance 0x0 of device '0000:00:03.0/virtio-blk'"
_OF_DEVICE = re.compile(r"for instance 0x[0-9a-f]+ of device '([^'\n]{1,200})'")
_DISKS = ("virtio-blk", "virtio-scsi")
# In "info qtree": where a PCI device is, and how many queues what is behind it has.
_QUEUES = re.compile(r"^ *+addr = (\S+)|^ *+num-queues = ([0-9]{1,5}) ", re.MULTILINE)
_DEVICE = re.compile(r"^ *+dev: ([^,\s]+),", re.MULTILINE)


class Kind(StrEnum):
    """What a finding is about."""

    MACHINE = "machine-type"
    START = "start"
    RAM = "ram-block"
    SECTION = "section"
    FIELD = "field"
    SUBSECTION = "subsection"
    STREAM = "stream"
    FW_CFG = "fw_cfg"


@dataclass(frozen=True)
class Obstacle:
    """One thing that differs. ``refuses``: a migration would end there.

    ``depends``: it would, unless the guest's drivers do something about it.
    """

    kind: Kind
    refuses: bool
    text: str
    depends: bool = False


@dataclass(frozen=True)
class Block:
    """A RAM block: bytes used now, and bytes it may grow to."""

    used: int
    most: int


@dataclass(frozen=True)
class MachineFacts:
    """What a QEMU told of one machine type: RAM blocks, device types, and their vmstate.

    ``sections`` are the names of those in the stream of a guest that has not run yet: some are
    of no device, and -dump-vmstate does not print them. ``queues`` is how many a virtio disk has,
    by its PCI address ("03.0"). ``stream`` is all of it. ``stuck`` is why
    the QEMU lets no guest go, ``refused`` why it does not even start with such a machine; then
    there is nothing else.
    """

    host: Host
    machine: str
    blocks: Mapping[str, Block]
    devices: tuple[str, ...]
    vmstate: Mapping[str, Any]
    sections: tuple[str, ...]
    queues: Mapping[str, int] = field(default_factory=dict)
    stream: bytes = field(default=b"", repr=False, compare=False)
    stuck: str = ""
    refused: Refusal | None = None


class NotStarted(Exception):
    """A QEMU that ends where it is to make the machine."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


# ---- asking ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _understood(*hosts: Host) -> Iterator[None]:
    """Raise QemuError where QEMUs say what no QEMU says."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        names = " or ".join(dict.fromkeys(host.qemu.name for host in hosts))
        raise QemuError(f"{names} does not answer as a QEMU does: "
                        f"{type(error).__name__}: {str(error)[:200]}") from error


def facts(engine: Engine, setup: GuestSetup, host: int = 0) -> MachineFacts:
    """Ask the QEMU of a guest's host. Raises QemuError if it answers as none does.

    Raises UserError for a machine type of no board that is known.
    """
    there = setup.hosts[host]
    try:
        return _facts(engine, setup, host, there)
    except NotStarted as error:
        return MachineFacts(there, setup.machine, {}, (), {}, (), refused=error.refusal)


def _facts(engine: Engine, setup: GuestSetup, host: int, there: Host) -> MachineFacts:
    with _understood(there), _stopped(engine, setup, host) as vm:
        deadline = vm.clock.deadline(SECONDS)
        info = [
            vm.monitor.execute("human-monitor-command", {"command-line": f"info {what}"},
                               deadline=deadline)
            for what in ("ramblock", "qtree")
        ]  # fmt: skip
        path = vm.private / "stream"
        stuck = save(vm, path, deadline).refusal
        if stuck is not None:
            return MachineFacts(there, setup.machine, {}, (), {}, (), stuck=stuck.message)
        stream = path.read_bytes() if path.stat().st_size <= _STREAM_BYTES else b""
        with path.open("rb") as end:
            end.seek(max(0, path.stat().st_size - _DESCRIPTION_BYTES))
            sections = sections_in(end.read())
        vm.quit(deadline)
        return MachineFacts(there, setup.machine, blocks_in(info[0]),
                            tuple(dict.fromkeys(_DEVICE.findall(info[1]))),
                            _vmstate(engine, there, setup.machine), sections, queues_in(info[1]),
                            stream)


@contextlib.contextmanager
def _stopped(
    engine: Engine, setup: GuestSetup, host: int, *, incoming: bool = False
) -> Iterator[VM]:
    """A QEMU with a guest that does not run; ``incoming``: that waits for a stream.

    Raises NotStarted where it ends instead.
    """
    build = setup.hosts[host].qemu
    with temporary("bootmatrix-") as directory, Scratch(directory) as scratch:
        if not setup.disks:
            blank = directory / "blank.img"
            blank.write_bytes(bytes(1 << 20))
            setup = replace(setup, disks=[blank])
        files = GuestFiles(setup, scratch)
        firmware = files.prepare(host, incoming=False).firmware
        launch = launch_of(setup, files, host, _AT, firmware, incoming=incoming)
        # What one shows the other is a stream, in whichever mode the guest is to migrate.
        argv = qemu_argv(replace(launch, accel=Accel.TCG, mode=MODES[MigrationMode.PRECOPY]))
        grants = setup.grants(host) - {Grant.KVM}
        with contextlib.closing(files), scratch.sandbox(
                engine, build, grants=grants, limits=setup.limits) as sandbox, \
                VM(build.name, sandbox, (*argv, "-S"), scratch, _AT) as vm:
            try:
                vm.connect(Deadline.after(SECONDS))
            except QemuError as error:
                raise NotStarted(classify(error.tail, error.status)) from error
            yield vm


def loaded(
    engine: Engine, setup: GuestSetup, source: MachineFacts, host: int = 1
) -> tuple[Obstacle, ...]:
    """What a destination says of the stream of a guest that has not run: whether it takes it.

    A virtio queue that is longer than the destination's is one that no driver has shortened.
    SeaBIOS does so with the first of a disk's, and with no other.
    """
    if not source.stream:
        return ()
    try:
        return _loaded(engine, setup, source, host)
    except NotStarted as error:  # though it does where no stream is to come
        return (does_not_start("destination", setup.hosts[host], error.refusal),)


def _loaded(
    engine: Engine, setup: GuestSetup, source: MachineFacts, host: int
) -> tuple[Obstacle, ...]:
    with _understood(setup.hosts[host]), _stopped(engine, setup, host, incoming=True) as vm:
        path = vm.private / "stream"
        path.write_bytes(source.stream)
        refusal = restore(vm, path, vm.clock.deadline(SECONDS)).refusal
        device = _OF_DEVICE.search(vm.log_tail())
    if refusal is None:
        return ()
    name = device[1] if device else ""
    text = (f"the stream of a guest that has not run is refused: {refusal.message}"
            + (f", of {name}" if name else ""))
    where, _, kind = name.rpartition("/")
    number = source.queues.get(where.rpartition(":")[2], 1)
    if refusal.kind == "queue-size" and kind == "virtio-blk" and number > 1:
        text += (f"; it has {number} queues, and no driver that is known shortens all: SeaBIOS' "
                 "uses the first alone; queue-size= on the destination's device heals it")
    elif refusal.kind == "queue-size" and kind in _DISKS:
        return (Obstacle(Kind.STREAM, False, f"{text}; a driver that shortens its queues hides it, "
                         "as SeaBIOS' for disks does, one that uses all of them is refused, as "
                         "Linux' is; queue-size= on the destination's device heals it",
                         depends=True),)
    return (Obstacle(Kind.STREAM, True, text),)


def does_not_start(role: str, host: Host, refusal: Refusal) -> Obstacle:
    """A QEMU that ends where it is to make the machine: no guest can come from it, or to it."""
    return Obstacle(Kind.START, True, f"the {role}, QEMU {host.qemu.version}, does not start with "
                                     f"this machine: {refusal}")


def taken_all_the_same(found: Obstacle) -> Obstacle:
    """What a difference is where the destination takes the stream of a guest that has not run.

    It can know a section that is not in its own stream, such as the one that old QEMUs send of
    sound.
    """
    if not found.refuses:
        return found
    return replace(found, refuses=False, text=f"{found.text}, but the destination takes the stream "
                   "of a guest that has not run")


def queues_in(text: str) -> dict[str, int]:
    """How many queues virtio disks have by the monitor's ``info qtree``, by their PCI address."""
    found: dict[str, int] = {}
    at = ""
    for address, number in _QUEUES.findall(text):
        if address:
            at = address
        else:
            found[at] = max(found.get(at, 0), int(number))
    return found


def blocks_in(text: str) -> dict[str, Block]:
    """The RAM blocks in the monitor's ``info ramblock``."""
    return {name: Block(int(used, 16), int(most, 16)) for name, used, most in _BLOCK.findall(text)}


def sections_in(stream: bytes) -> tuple[str, ...]:
    """The names of the sections in the end of a migration stream, by the description there.

    It is a byte 6, its length in four bytes, big-endian, and JSON (QEMU's docs/devel/migration,
    "Stream structure"; QEMU_VM_VMDESCRIPTION). Empty where there is none.
    """
    at = len(stream)
    while (at := stream.rfind(b'\x06', 0, at)) >= 0:
        if stream[at + 5:at + 6] == b"{" and at + 5 + int.from_bytes(
                stream[at + 1:at + 5], "big") == len(stream):
            description = json.loads(stream[at + 5:])
            # "0000:00:1f.0/ICH9LPC": where the device is, and its section's name.
            return tuple(dict.fromkeys(
                device["name"].rpartition("/")[2] for device in description["devices"]))
    return ()


def _vmstate(engine: Engine, host: Host, machine: str) -> dict[str, Any]:
    with temporary("bootmatrix-") as directory, Scratch(directory) as scratch:
        # All types are told of, whatever the machine's options, which can name what is not there.
        kind = machine_type(machine)
        argv = (*bare(host.qemu.binary, host.qemu.arguments, kind, ["accel=tcg"], 32),
                "-dump-vmstate", f"{CELL}/{_VMSTATE}")
        with scratch.sandbox(engine, host.qemu) as sandbox, \
                Qemu(host.qemu.name, sandbox, argv, scratch, _AT, []) as qemu:
            status = qemu.process.wait(Deadline.after(SECONDS))
            if status or not scratch.cell.exists(_VMSTATE):
                raise QemuError(f"{host.qemu.name} does not tell its vmstate", argv=argv,
                                status=status, tail=qemu.log_tail())
            vmstate: dict[str, Any] = json.loads(scratch.cell.read(_VMSTATE, _VMSTATE_BYTES))
            return vmstate


# ---- comparing ------------------------------------------------------------------------------


def machine_findings(source: Host, destination: Host, machine: str) -> tuple[Obstacle, ...]:
    """Whether both have the machine type, and mean the same by it."""
    machine = machine_type(machine)
    if machine == DEFAULT_MACHINE:
        mine, theirs = source.qemu.default_machine, destination.qemu.default_machine
        return () if mine == theirs else (Obstacle(
            Kind.MACHINE, True, f"without -M the source is {mine}, the destination {theirs}"),)
    return tuple(
        Obstacle(Kind.MACHINE, True, f"the {role}, QEMU {host.qemu.version}, has no {machine}")
        for role, host in (("source", source), ("destination", destination))
        if machine not in host.qemu.machines
    )


def compare(old: MachineFacts, new: MachineFacts) -> tuple[Obstacle, ...]:
    """What the destination ``new`` would find in a stream of the source ``old``, refusals first."""
    refused = tuple(does_not_start(role, facts.host, facts.refused)
                    for role, facts in (("source", old), ("destination", new)) if facts.refused)
    if refused:
        return refused
    if old.stuck:
        return (Obstacle(Kind.STREAM, True, f"the source lets no guest go: {old.stuck}"),)
    if new.stuck:  # what it would read is not known
        new = replace(old, host=new.host)
    with _understood(old.host, new.host):
        every = chain(_blocks(old.blocks, new.blocks), _sections(old, new))
        found = tuple(islice(every, _MOST_FINDINGS + 1))
        if len(found) > _MOST_FINDINGS:
            raise ValueError(f"more than {_MOST_FINDINGS} differences")
    return tuple(sorted(found, key=lambda finding: not finding.refuses))


def _blocks(old: Mapping[str, Block], new: Mapping[str, Block]) -> Iterator[Obstacle]:
    for name, block in old.items():
        there = new.get(name)
        if there is None:
            yield Obstacle(Kind.RAM, True, f"{name} ({block.used:#x} bytes) is not there")
        elif there.most != there.used:
            if block.used > there.most:
                yield Obstacle(Kind.RAM, True, f"{name} has {block.used:#x} bytes, there is room "
                                              f"for {there.most:#x}")
        elif block.used != there.used:
            yield Obstacle(Kind.RAM, True,
                          f"{name} has {block.used:#x} bytes, the destination's {there.used:#x}")


def _sections(old: MachineFacts, new: MachineFacts) -> Iterator[Obstacle]:
    for name in old.sections:
        if name not in new.sections:
            yield Obstacle(Kind.SECTION, True, f"{name} is not there")
    # A section goes by its vmstate's name, which two device types can share (those of an ISA and a
    # PCI card): that of a device that is there is meant.
    by_name = {section["Name"]: section for types in (new.vmstate, new.devices)
               for section in _descriptions(new, types)}
    mine = {section["Name"]: section for section in _descriptions(old, old.devices)}
    for name, section in mine.items():
        if name in by_name and name in old.sections and name in new.sections:
            yield from _description(name, section["Description"], by_name[name]["Description"])


def _descriptions(facts: MachineFacts, types: Iterable[str]) -> Iterator[dict[str, Any]]:
    for name in types:
        entry = facts.vmstate.get(name)
        if isinstance(entry, dict) and "Description" in entry:
            yield {"Name": entry["Description"]["name"], "Description": entry["Description"]}


def _description(
    path: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Obstacle]:
    version = old["version_id"]
    if version > new["version_id"]:
        yield Obstacle(Kind.SECTION, True, f"{path} has version {version}, the destination reads "
                                          f"up to {new['version_id']}")
        return
    if version < new["minimum_version_id"]:
        yield Obstacle(Kind.SECTION, True, f"{path} has version {version}, the destination reads "
                                          f"from {new['minimum_version_id']} on")
        return
    yield from _fields(path, _read_at(old, version), _read_at(new, version))
    there = {sub["name"]: sub for sub in new.get("Subsections", ())}
    for sub in old.get("Subsections", ()):
        name = sub["name"]
        if name not in there:
            yield Obstacle(Kind.SUBSECTION, False, f"{name} is not there: refused, if it is sent")
        else:
            yield from (Obstacle(finding.kind, False, finding.text)
                        for finding in _description(name, sub, there[name]))


def _read_at(description: Mapping[str, Any], version: int) -> list[Mapping[str, Any]]:
    """The fields that a stream of this version holds; conditional ones among them."""
    return [entry for entry in description.get("Fields", ()) if entry["version_id"] <= version]


def _fields(
    path: str, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> Iterator[Obstacle]:
    # The stream has no names, only bytes in order: names serve to find what belongs together.
    if max(len(old), len(new)) > _MOST_FIELDS:
        raise ValueError(f"{path[:80]} has more than {_MOST_FIELDS} fields")
    names = [[str(entry["field"]) for entry in side] for side in (old, new)]
    matcher = SequenceMatcher(a=names[0], b=names[1], autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        mine, theirs = old[a:b], new[c:d]
        if tag == "equal":
            for before, after in zip(mine, theirs, strict=True):
                yield from _field(_path(path, before["field"]), before, after)
        elif _bytes(mine) != _bytes(theirs):
            sure = not any(entry.get("field_exists") for entry in (*mine, *theirs))
            yield Obstacle(Kind.FIELD, sure, f"{path}: {_listed(mine)}, the destination reads "
                                            f"{_listed(theirs)}" + ("" if sure else
                                                                    ", where its condition holds"))


def _field(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Obstacle]:
    nested = [entry.get("Description") for entry in (old, new)]
    conditional = bool(old.get("field_exists") or new.get("field_exists"))
    if nested[0] and nested[1]:
        for finding in _description(path, nested[0], nested[1]):
            yield Obstacle(finding.kind, finding.refuses and not conditional, finding.text)
    elif old["size"] != new["size"] and not any(nested):
        yield Obstacle(Kind.FIELD, not conditional,
                      f"{path} has {old['size']} bytes, the destination reads {new['size']}")


def _bytes(fields: Iterable[Mapping[str, Any]]) -> int:
    # The size of a structure is the one in memory: what it holds goes into the stream.
    return sum(
        _bytes(entry["Description"].get("Fields", ())) if "Description" in entry
        else entry["size"]
        for entry in fields
    )


def _path(above: str, name: object) -> str:
    """Where a field is. Raises ValueError for names that nobody could read in a line."""
    path = f"{above}.{name}"
    if len(path) > _LONGEST_PATH:
        raise ValueError(f"{path[:80]}... is longer than {_LONGEST_PATH} characters")
    return path


def _listed(fields: Sequence[Mapping[str, Any]]) -> str:
    shown = [f"{_path('', entry['field'])[1:]} ({entry['size']} bytes)"
             for entry in fields[:_MOST_LISTED]]
    more = len(fields) - len(shown)
    return ", ".join([*shown, *([f"{more} more"] if more else [])]) or "nothing"


# ---- proof ----------------------------------------------------------------------------------


def proof(
    records: Iterable[Mapping[str, Any]], source: Host, destination: Host, machine: str,
    refuses: bool,
) -> str | None:
    """The first record's cell that shows it: a refused migration, or a boot that failed after."""
    for record in _between(records, source, destination, machine):
        verdict = record["verdict"]
        if (verdict in ("blocked", "unsupported")) if refuses else verdict not in (
                "pass", "blocked", "unsupported", "error"):
            return f"{record['cell']['id']} ({verdict})"
    return None


def refused_cell(
    records: Iterable[Mapping[str, Any]], source: Host, destination: Host, machine: str
) -> str | None:
    """The first record's cell whose migration QEMU has refused, and why."""
    return next((f"{record['cell']['id']}: {record['reason']}"
                 for record in _between(records, source, destination, machine)
                 if record["verdict"] == "blocked"), None)


def _between(
    records: Iterable[Mapping[str, Any]], source: Host, destination: Host, machine: str
) -> Iterator[Mapping[str, Any]]:
    """The records of the cells between two hosts with a machine."""
    for record in records:
        cell = record["cell"]
        if cell["machine"] == machine and "destination" in cell and all(
                (cell[role].get("build"), cell[role].get("firmware")) == (
                    host.qemu.name, host.firmware.name)
                for role, host in (("source", source), ("destination", destination))):
            yield record
