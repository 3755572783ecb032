"""The guests of a matrix, saved into a vault, each beside a matrix file that goes on with it.

Cells that begin alike have one guest there; its matrix file has their policies, and what their
matrices declare as known.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from bootmatrix.builds import saved_guest
from bootmatrix.builds.saved_guest import OBJECTS
from bootmatrix.cell import AXES, Cell
from bootmatrix.errors import UserError
from bootmatrix.files import given_file
from bootmatrix.machines.setup import GuestSetup, granted_for
from bootmatrix.matrix import SUFFIXES
from bootmatrix.matrix.axes import DEFAULTS
from bootmatrix.matrix.document import Document
from bootmatrix.matrix.expansion import load
from bootmatrix.matrix.known import could_match
from bootmatrix.matrix.sources import GivenBuilds
from bootmatrix.model import (
    Channel,
    GuestKind,
    Host,
    HostSpec,
    Known,
    MigrationMode,
    Nic,
    OwnGuest,
    SavedSource,
    Tpm,
)
from bootmatrix.policies import Policy
from bootmatrix.run import sharing
from bootmatrix.run.cell_run import file_name
from bootmatrix.run.sharing import Snapshot, shared_steps
from bootmatrix.steps.base import Scenario
from bootmatrix.steps.library import written
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.reset import Reset
from bootmatrix.vault import Objects, SavedGuest
from bootmatrix.vault.guest import File, FileName, place

SCENARIO = "restored"
"""What a saved guest does, in its matrix file."""
MOST_GUESTS = 10_000
_MOST_BEGINNING = 16 << 20
# What gives a sandbox a device, or files in memory.
_GRANTED = {"accel", "migration"}
_WORDS = ("arguments", "devices")
LONGEST = 3600.0
"""Seconds that a file of a vault can have its guest waited for."""
SUFFIX = SUFFIXES[0]
_SOMEWHERE = ("debian-sid",)


@dataclass(frozen=True)
class ToSave:
    """A guest to be saved: a cell that ends where it is, with the policies of all that begin so."""

    cell: Cell
    policies: tuple[Policy, ...]
    known: tuple[Known, ...]


def unsavable(cell: Cell) -> str | None:
    """Why the guest of a cell is not kept in a vault; None if it can be."""
    if not shared_steps(cell.scenario.steps):
        return (f"{cell.scenario.name} has no beginning that can be saved: a start, resets and "
                "variables, and then a migration of a guest that runs, which is told nothing more")
    if isinstance(cell.guest, OwnGuest) or cell.guest in (
            GuestKind.LINUX_KERNEL, GuestKind.PROMPT):
        return f"guest {cell.guest}: a vault takes the probe, and Linux from its disk"
    if cell.accel.with_kvm:
        return f"accel {cell.accel}: what a vault brings is given no device of this machine's"
    if granted_for((*cell.arguments.words, *cell.devices.words)):
        return "memory in a file of its own: what a vault brings is given no more than any cell"
    if cell.nic in (Nic.VIRTIO_ROMSIZE, Nic.E1000_ROMSIZE):
        return f"nic {cell.nic}: the size of its ROM block depends on where the guest goes"
    if cell.tpm is not Tpm.NONE:
        return f"tpm {cell.tpm}: a vault keeps no swtpm beside the guest that it would come back to"
    source = cell.hosts[0]
    if isinstance(source.qemu, SavedSource):
        return f"{source.name} is a saved guest already"
    return None


def to_save(
    cells: Iterable[Cell], known: Sequence[Known], host_of: Mapping[str, Host]
) -> dict[str, ToSave]:
    """The guests that cells begin with, by a hash of all that they are; ``host_of`` by its name."""
    found: dict[str, ToSave] = {}
    for cell in cells:
        steps = cell.scenario.steps[:shared_steps(cell.scenario.steps)]
        alone = replace(cell, hosts=cell.hosts[:1], scenario=Scenario(SCENARIO, steps),
                        migration=MigrationMode.PRECOPY, accel=cell.accel.on(0))
        key = sharing.key_of(alone, [host_of[cell.hosts[0].name]], steps)
        before = found.get(key)
        policies = (*before.policies, cell.policy) if before else (cell.policy,)
        found[key] = ToSave(before.cell if before else alone, tuple(dict.fromkeys(policies)),
                            tuple(known))
    return found


def name_of(key: str, guest: ToSave, host: Host) -> str:
    """What its matrix file is called: the cell's id, as far as it says something here."""
    _, *values = guest.cell.id.split(",")
    values = [value for value in values if value not in (SCENARIO, *map(str, Policy))]
    whole = ",".join((_called(host), *values))
    return f"{file_name(whole)}-{key[:8]}{SUFFIX}"


def keep(vault: Path, name: str, guest: ToSave, host: Host, setup: GuestSetup,
         begun: Snapshot) -> int:
    """Put a guest that was saved into a vault; bytes that are new there. Raises UserError."""
    assert begun.saved is not None
    vault.mkdir(parents=True, exist_ok=True)
    objects = Objects(vault / OBJECTS)
    files = {where: objects.put(content) for where, content in _contents(host, setup, begun)}
    said = SavedGuest.model_validate({
        "schema": 1, "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "values": guest.cell.values | {"policy": guest.policies[0].value},
        "words": {axis: list(found.words) for axis in _WORDS
                  if (found := getattr(guest.cell, axis)).words},
        "memory_mib": setup.memory_mib,
        "steps": list(map(written, guest.cell.scenario.steps)),
        "qemu": {"version": host.qemu.version, "build": host.qemu.name,
                 "default_machine": host.qemu.default_machine},
        "firmware": {"name": host.firmware.name, "machines": list(host.firmware.machines),
                     "features": list(host.firmware.features)},
        "files": {where: File(sha256=digest, size=size)
                  for where, (digest, size) in files.items()}})
    digest, _ = objects.put(said.dumps())
    text = _matrix(guest, host, said, digest)
    given_file.replace(vault / name, text.encode())
    # The last: what is there is whole, and can be read back.
    read(vault / name)
    return sum(objects.path(each).stat().st_size for each in {d for d, _ in files.values()})


def _contents(
    host: Host, setup: GuestSetup, begun: Snapshot
) -> Iterator[tuple[FileName, bytes | Path]]:
    assert begun.saved is not None
    yield "beginning", sharing.to_json(begun)
    yield "disk.img", setup.disks[0]
    yield "firmware", host.firmware.path
    if host.firmware.variables is not None:
        yield "variables", host.firmware.variables
    names: tuple[FileName, ...] = ("stream", "vars.fd", "flash.fd", "nvram.bin")
    for name in names:
        if (file := begun.saved.parent / place(name)).exists():
            yield name, file


def _called(host: Host) -> str:
    return f"{host.name}-{host.qemu.version}"


def _matrix(guest: ToSave, host: Host, said: SavedGuest, digest: str) -> str:
    """A matrix file that goes on with a saved guest, wherever --host says. JSON is YAML, too."""
    cell = guest.cell
    axes: dict[str, object] = {"source": _called(host), "policy": list(map(str, guest.policies)),
                               "scenario": SCENARIO}
    for name, axis in AXES.items():
        value = getattr(cell, name)
        if name in axes or (value == axis.default and name != "disk"):
            continue
        words = name in _WORDS
        axes[name] = {value.name: list(value.words)} if words else axis.plain(value)
    steps = [*map(written, cell.scenario.steps), *map(written, (
        Migrate(1, Channel.FILE), Reset()))]
    lines = [
        f"# A guest that QEMU {said.qemu.version} saved, with {said.firmware.name} beside it.",
        "#", f"#   bootmatrix vault run . --host {_somewhere(cell)}", "#",
        "# All but the guest's digest is yours to change: policies, known, the scenario's end.",
        "schema: 1", "hosts:",
        f"  {json.dumps(_called(host))}: " + json.dumps({"saved": {"guest": digest}}), "axes:",
        *(f"  {name}: {json.dumps(value)}" for name, value in axes.items()), "scenarios:",
        f"  {SCENARIO}: {json.dumps(steps)}", f"boot-timeout: {json.dumps(cell.seconds)}",
    ]
    if cell.patience is not None:
        lines.append(f"patience: {json.dumps(cell.patience)}")
    if not cell.debug_log:
        lines.append('debug-log: "off"')
    if known := [entry for entry in guest.known if _concerns(entry, guest, host)]:
        lines += ["known:", *(f"  - {json.dumps(_known(entry))}" for entry in known)]
    return "\n".join(lines) + "\n"


def _somewhere(cell: Cell) -> str:
    """A host that could take it: a guest of UEFI's needs UEFI firmware there, too."""
    named = cell.hosts[0].firmware
    return quote("debian-sid" + (f"/{named}" if isinstance(named, str) else ""))


def _concerns(entry: Known, guest: ToSave, host: Host) -> bool:
    """Whether a declared failure can be one of this guest, wherever it goes, and is told so."""
    source = {"host": host.name, "qemu": host.qemu.version, "build": host.qemu.name,
              "firmware": host.firmware.name}
    flat = {axis: str(value) for axis, value in {**DEFAULTS, **guest.cell.values}.items()} | {
        f"source.{key}": value for key, value in source.items()} | {"destination.host": ""}
    return any(could_match(entry, {**flat, "policy": policy.value}) for policy in guest.policies)


def _known(entry: Known) -> dict[str, object]:
    said: dict[str, object] = {
        # The host has another name here, and is the one that was meant.
        "when": {key: list(globs) for key, globs in entry.when if key != "source.host"},
        "verdict": [verdict.value for verdict in entry.verdict], "reason": entry.reason}
    return said | ({"link": entry.link} if entry.link else {})


# ---- what is in a vault -----------------------------------------------------------------------


@dataclass(frozen=True)
class VaultEntry:
    """A guest in a vault: its matrix file, its digest, what is said of it, its bytes there."""

    path: Path
    digest: str
    said: SavedGuest
    packed: int


def guests(vault: Path) -> list[Path]:
    """The matrix files of a vault, in the order of their names. Raises UserError for no vault."""
    try:
        with os.scandir(vault) as found:
            names = sorted(one.name for one in found
                           if one.name.endswith(SUFFIX) and not one.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", file=vault,
                        hint="`bootmatrix vault add` makes a vault") from None
    if len(names) > MOST_GUESTS:
        raise UserError(f"has {len(names)} guests, at most {MOST_GUESTS} are read", file=vault)
    return [vault / name for name in names]


def _asks_for_nothing(document: Document) -> None:
    """Raise UserError where a file of a vault wants what a cell is granted only by its user."""
    asked = document.entry.model_dump(by_alias=True, exclude_unset=True)
    for where, axes in (("axes", asked["axes"]), *(
            ("include", each) for each in asked.get("include", ()))):
        if found := sorted(axes.keys() & _GRANTED):
            raise document.error((where,), f"in a vault a file says nothing of {found[0]}",
                                 hint="the guest is restored under TCG, from its file")
        for axis in _WORDS:
            if any(granted_for(words) for words in (axes.get(axis) or {}).values()):
                raise document.error((where,), f"in a vault {axis} ask for no files in memory")
    if "limits" in asked:
        raise document.error(("limits",), "in a vault a file has no limits of its own")
    for key in ("boot-timeout", "patience"):
        if (asked.get(key) or 0) > LONGEST:
            raise document.error((key,), f"in a vault it is at most {LONGEST:.0f} s")


def _never_asked(host: HostSpec) -> Sequence[str]:
    raise UserError("in a vault a machine type is named")


def read(path: Path) -> VaultEntry:
    """A guest of a vault, all of it looked at. Raises UserError for a damaged one, or another's.

    A matrix file may name programs and files of this machine. In a vault, which can be a
    stranger's, it names a saved guest of that vault, and nothing else.
    """
    if stat.S_ISLNK(path.lstat().st_mode):
        raise UserError("is a symbolic link", file=path, hint="a vault holds files")
    document = Document(path)
    hosts = document.entry.hosts
    if len(hosts) != 1 or document.entry.guests:
        raise document.error(("hosts",), "in a vault a file has one host, and no guests of its own",
                             hint="`bootmatrix run` takes any matrix file")
    (name, host), = hosts.items()
    if host.saved is None or host.qemu or host.board or host.firmware or host.saved.vault != ".":
        raise document.error(("hosts", name), "in a vault a host is a guest that it holds",
                             hint="saved: {guest: DIGEST}")
    _asks_for_nothing(document)
    objects = Objects(path.parent / OBJECTS)
    said = saved_guest.read(SavedSource(vault=path.parent, guest=host.saved.guest))
    said.check(objects)
    try:
        begun = sharing.parsed(
            objects.get(said.files["beginning"].sha256, _MOST_BEGINNING), "", path)
    except ValueError:
        raise UserError("is no saved guest: what was seen of it cannot be read",
                        file=path) from None
    if [seen.step for seen in begun.seen] != said.steps:
        raise UserError("is no saved guest: other steps were seen of it than were done to it",
                        file=path)
    # It was on one host, and nowhere else yet.
    if any(host not in (None, 0) for seen in begun.seen
           for host in (seen.host, seen.boot and seen.boot.host)):
        raise UserError("is no saved guest: it was seen on a host that it had not been to",
                        file=path)
    load(path, GivenBuilds(hosts=_SOMEWHERE)).cells(_never_asked)
    digests = {host.saved.guest, *(file.sha256 for file in said.files.values())}
    packed = sum(objects.path(digest).stat().st_size for digest in digests)
    return VaultEntry(path, host.saved.guest, said, packed)
