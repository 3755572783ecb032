"""What the names in a matrix file refer to: its entries resolved to hosts, scenarios and rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from bootmatrix import arguments, vm
from bootmatrix.arguments import ArgumentSet, machine_type
from bootmatrix.cell import AXES, BETWEEN_HOSTS
from bootmatrix.errors import UserError
from bootmatrix.files.disk_image import virtual_size
from bootmatrix.files.given_file import path_of
from bootmatrix.matrix import known
from bootmatrix.matrix.document import Document, Loc
from bootmatrix.matrix.schema import (
    AxesEntry,
    FirmwareEntry,
    GuestEntry,
    HostEntry,
    KnownEntry,
    QemuEntry,
)
from bootmatrix.matrix.sources import GivenBuilds, of_firmware, of_revisions
from bootmatrix.model import (
    NEWEST_COMMON,
    OWN_MACHINE,
    Arch,
    BoardSource,
    FirmwareSource,
    GitSource,
    GuestKind,
    HostSpec,
    Known,
    Limits,
    OwnDisk,
    OwnGuest,
    OwnMachine,
    QemuSource,
    SavedSource,
    Verdict,
    role_index,
    role_name,
)
from bootmatrix.pattern import Pattern
from bootmatrix.policies import Policy
from bootmatrix.steps import library
from bootmatrix.steps.base import Scenario, StepError

_GLOB = re.compile(r"[*?\[]")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Axes:
    """The values of each axis; ``hosts`` holds those of source, destination, host-3, ...

    ``loc`` is where in the file these axes stand.
    """

    hosts: tuple[tuple[HostSpec, ...], ...]
    values: Mapping[str, tuple[Any, ...]]
    loc: Loc

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """Those of the axis ``scenario``."""
        return self.values["scenario"]


@dataclass(frozen=True)
class Rule:
    """An exclude rule: for each axis named, the globs (or ``=axis``) of which one must match."""

    conditions: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def needs_machine(self) -> bool:
        """Whether the rule looks at the machine type, which newest-common leaves open."""
        return any("machine" in (axis, *_references(globs)) for axis, globs in self.conditions)

    def matches(self, values: Mapping[str, str]) -> bool:
        """Whether all conditions hold; one on an axis that the cell does not have never does."""
        return all(
            axis in values
            and any(
                values[axis] == values.get(glob[1:])
                if glob.startswith("=")
                else fnmatchcase(values[axis], glob)
                for glob in globs
            )
            for axis, globs in self.conditions
        )


def _references(globs: Iterable[str]) -> list[str]:
    """The axes that ``=axis`` values refer to."""
    return [glob[1:] for glob in globs if glob.startswith("=")]


class Names:
    """A document with its names resolved; raises UserError at the first that means nothing.

    ``hosts`` are all hosts, ``own`` the file's own scenarios; ``axes``, ``exclude``,
    ``include`` and ``known`` are the sections of these names. ``given`` are the hosts of the
    command line, which are on every host axis. ``places`` says where in the file a host stands,
    ``texts`` how the command line calls one that is not in there.
    """

    def __init__(self, document: Document, given: GivenBuilds) -> None:
        self._document = document
        entry = self._entry = document.entry
        self._sources = given
        self.places: dict[str, Loc] = {}
        # A host with a directory of firmware stands for one host for each image in it.
        self._hosts = {name: self._declared(name, host) for name, host in entry.hosts.items()}
        self._all = {host.name: host for hosts in self._hosts.values() for host in hosts}
        self.texts: dict[str, str] = {}
        self.given = tuple(host for text in given.hosts for host in self._given(text))
        self._named = {name: (host,) for name, host in self._all.items()} | self._hosts
        self.limits = Limits(**entry.limits.model_dump())
        self._scenarios: dict[str, Scenario] = dict(library.LIBRARY)
        self._guests: dict[str, GuestKind | OwnGuest] = {
            kind.value: kind for kind in GuestKind if kind is not GuestKind.DISK}
        for name, guest in entry.guests.items():
            self._guests[name] = self._own_guest(name, guest)
        self.hosts = tuple(self._all.values())
        self.own = tuple(self._own_scenario(name) for name in entry.scenarios)
        self.axes = self._base_axes()
        self.exclude = tuple(self._rule(*numbered) for numbered in enumerate(entry.exclude))
        self.include = tuple(
            self._axes(("include", index), included, self.axes)
            for index, included in enumerate(entry.include)
        )
        self.known = tuple(self._known(*numbered) for numbered in enumerate(entry.known))

    def _declared(self, name: str, entry: HostEntry) -> tuple[HostSpec, ...]:
        loc: Loc = ("hosts", name)
        if BETWEEN_HOSTS in name:
            raise self._document.error(
                loc, f"a host's name cannot hold {BETWEEN_HOSTS!r}", key=True
            )
        host = HostSpec(
            name, self._machine(loc, entry), self._firmware((*loc, "firmware"), entry.firmware),
            arguments=self._words((*loc, "arguments"), entry.arguments))
        if host.arguments and entry.board is not None:
            raise self._document.error(
                (*loc, "arguments"), "are a QEMU's, a board has what it has", key=True)
        hosts: tuple[HostSpec, ...] = (host,)
        field = "firmware"
        for at, into in (("qemu", of_revisions), ("firmware", of_firmware)):
            try:
                found_there = tuple(one for host in hosts for one in into(host))
            except UserError as error:
                raise self._document.error((*loc, at), str(error)) from None
            field = at if len(found_there) > len(hosts) else field
            hosts = found_there
        for found in hosts:
            if found.name in {*self.places, *self._entry.hosts} - {name}:
                raise self._document.error(
                    (*loc, field), f"there is a host {found.name!r} already"
                )
            self.places[found.name] = loc
        return hosts

    def _words(self, loc: Loc, words: Sequence[str]) -> tuple[str, ...]:
        """Arguments for QEMU."""
        wrong = arguments.complaint(words)
        if wrong is not None:
            raise self._document.error(loc, wrong)
        return tuple(words)

    def _sets(self, loc: Loc, axis: str, value: Mapping[str, list[str]] | Sequence[str],
              base: Axes) -> tuple[ArgumentSet, ...]:
        """The sets of arguments that an axis has: written here, or by name, and then the base's."""
        if isinstance(value, Mapping):
            return tuple(ArgumentSet(name, self._words((*loc, name), words))
                         for name, words in value.items())
        there = {found.name: found for found in base.values[axis] if found.name}
        if value and base.loc == loc[:-1]:
            raise self._document.error(
                loc, "found names; what they mean is missing",
                hint="{NAME: [WORD, ...], plain: []}")
        return tuple(self._lookup(loc, value, f"set of {axis}", there))

    def _machine(self, loc: Loc, entry: HostEntry) -> str | QemuSource:
        """A host's QEMU, its board, or the guest that was saved on it."""
        if entry.saved is not None:
            self._one_of(loc, entry, ("qemu", "board", "saved"))
            for beside in ("firmware", "arguments"):
                if getattr(entry, beside):
                    raise self._document.error(
                        (*loc, beside), "is what the saved guest has brought along", key=True)
            vault = self._path((*loc, "saved", "vault"), entry.saved.vault)
            return SavedSource(vault=vault, guest=entry.saved.guest)
        if entry.board is None:
            assert entry.qemu is not None
            return self._qemu((*loc, "qemu"), entry.qemu)
        self._one_of(loc, entry, ("qemu", "board"))
        if entry.firmware is None:
            raise self._document.error(
                (*loc, "firmware"), "is missing: what is to be in the board's chip",
                hint="{path: out/coreboot.rom}, or a name of the catalogue")
        env = self._path((*loc, "board", "env"), entry.board.env)
        return BoardSource(env=env, target=entry.board.target, restore=entry.board.restore)

    def _qemu(self, loc: Loc, entry: str | QemuEntry) -> str | QemuSource:
        if isinstance(entry, str):
            return self._sources.qemu_called(entry)
        self._one_of(loc, entry, ("path", "root", "image", "suite", "source"))
        git = self._git(loc, entry)
        if entry.package_version and not entry.suite:
            raise self._document.error(
                (*loc, "package-version"), "is that of a suite's package", key=True,
                hint="{suite: trixie, package-version: ...}",
            )
        for key, beside in (("data", "path"), ("program", "root")):
            if getattr(entry, key) and not (getattr(entry, beside) or (
                    git and key == "data")):
                raise self._document.error((*loc, key), f"is that of a {beside}", key=True,
                                           hint=f"{{{beside}: ..., {key}: ...}}")
        path, data, root = (self._path((*loc, key), getattr(entry, key))
                            if getattr(entry, key) else None for key in ("path", "data", "root"))
        return QemuSource(path, entry.image, entry.suite, entry.package_version, data=data,
                          root=root, program=entry.program, git=git)

    def _git(self, loc: Loc, entry: QemuEntry | FirmwareEntry) -> GitSource | None:
        """What is said of a commit that is to be built."""
        given = [key for key in ("revision", "revisions", "options", "packages", "toolchain")
                 if getattr(entry, key)]
        if entry.source is None:
            if given:
                raise self._document.error((*loc, given[0]), "stands beside a source", key=True,
                                           hint="{source: ../qemu, revision: v9.2.0}")
            return None
        if given[:2] == ["revision", "revisions"]:
            raise self._document.error((*loc, "revisions"), "stands in the place of a revision",
                                       key=True)
        return GitSource(
            self._path((*loc, "source"), entry.source), entry.revision or "HEAD",
            tuple(entry.revisions or ()), tuple(entry.options), tuple(entry.packages),
            entry.toolchain or "")

    def _firmware(
        self, loc: Loc, entry: str | FirmwareEntry | None
    ) -> str | FirmwareSource | None:
        if entry is None:
            return None
        if isinstance(entry, str):
            return self._sources.firmware_called(entry)
        self._one_of(loc, entry, ("path", "descriptor", "directory", "source"))
        git = self._git(loc, entry)
        for beside, hint in (("flash", "{path: OVMF.fd, flash: false}"),
                             ("variables", "{path: CODE.fd, variables: VARS.fd}"),
                             ("symbols", "{path: out/bios.bin, symbols: out/rom.o}")):
            if getattr(entry, beside) is not None and not entry.path:
                raise self._document.error(
                    (*loc, beside), "stands beside a path", key=True, hint=hint)
        if git is not None:
            return FirmwareSource(git.repository, git=git)
        variables, symbols = entry.variables, entry.symbols
        if variables and entry.flash is False:
            raise self._document.error((*loc, "variables"), "variables are kept in flash alone",
                                       key=True, hint="{path: CODE.fd, variables: VARS.fd}")
        return FirmwareSource(
            self._path(loc, entry.path or entry.descriptor or entry.directory or ""),
            directory=entry.directory is not None,
            variables=self._path((*loc, "variables"), variables) if variables else None,
            descriptor=entry.descriptor is not None,
            symbols=self._path((*loc, "symbols"), symbols) if symbols else None,
            flash=entry.flash is not False,
        )

    def _one_of(self, loc: Loc, entry: BaseModel, fields: Sequence[str]) -> None:
        found = [field for field in fields if getattr(entry, field) is not None]
        if len(found) != 1:
            raise self._document.error(
                loc, f"found {' and '.join(found) or 'none of its fields'}",
                hint="just one of " + ", ".join(fields),
            )

    def _path(self, loc: Loc, text: str) -> Path:
        """A path as the file writes it: relative to the file's directory."""
        try:
            return self._document.path.parent / path_of(text)
        except UserError as error:
            raise self._document.error(loc, str(error)) from None

    def _given(self, text: str) -> tuple[HostSpec, ...]:
        """The hosts that a --host means: those the file calls so, or new ones."""
        if text in self._hosts and text not in self._sources.qemu:
            return self._hosts[text]
        hosts = self._sources.host(text)
        for host in hosts:
            if self._all.setdefault(host.name, host) != host:
                raise UserError(f"--host {text}: there is another host {host.name!r} already",
                                file=self._document.path)
            self.texts[host.name] = text
        return hosts

    def _own_guest(self, name: str, entry: GuestEntry) -> OwnGuest:
        """What a guest of the file's own is; the files that it is in are read, and no others."""
        loc: Loc = ("guests", name)
        if name in set(GuestKind):
            raise self._document.error(
                loc, "there is a guest of this name already", key=True, hint="choose another")
        given = [key for key in ("command_line", "libvirt", "arguments")
                 if getattr(entry, key) is not None]
        if len(given) > 1 or not (given or entry.disk):
            raise self._document.error(
                loc, "found " + (" and ".join(given).replace("_", "-") or "nothing of its own"),
                hint="one of command-line, libvirt and arguments, or a disk, or a disk beside one")
        for key in ("machine", "cpu", "smp", "arch"):
            if getattr(entry, key) is not None and given != ["arguments"]:
                raise self._document.error((*loc, key), "stands beside arguments", key=True)
        for key, beside in (("smbios", "disk"), ("login", "smbios")):
            if getattr(entry, key) and not getattr(entry, beside):
                raise self._document.error((*loc, key), f"stands beside {beside}", key=True)
        for key in ("smp", "memory"):
            value = getattr(entry, key)
            text = given == ["arguments"] and isinstance(value, str) and AXES[key].parses(value)
            if value is not None and not text and not (
                    type(value) is int and 1 <= value <= 65536):
                raise self._document.error((*loc, key), f"{value!r} is not what it can be",
                                           hint=AXES[key].schema)
        machine = self._written_machine(loc, entry) if entry.arguments is not None else None
        disk = None
        for key in given[:0 if machine else None]:
            path = self._path((*loc, key), getattr(entry, key))
            try:
                machine = vm.read(path, libvirt=key == "libvirt",
                                  memory=entry.memory if isinstance(entry.memory, int) else None,
                                  network=entry.network == "user",
                                  file_mib=self.limits.file or vm.LARGEST_FILE_MIB).machine
            except UserError as error:
                raise self._document.error((*loc, key.replace("_", "-")), str(error)) from None
        if entry.disk:
            disk = OwnDisk(self._path((*loc, "disk"), entry.disk), entry.format)
            try:
                virtual_size(disk.path, disk.format)
            except UserError as error:
                raise self._document.error(
                    (*loc, "disk"), str(error)) from None
        if bool(entry.disk) != bool(entry.up):
            raise self._document.error(
                loc, "disk and up stand together", hint='{disk: mine.qcow2, up: "login: "}')
        for at, pattern in (("up", entry.up or ""), *(("login", text) for text in entry.login)):
            try:
                is_empty = bool(pattern) and Pattern(pattern).is_empty
            except ValueError as error:
                raise self._document.error((*loc, at), f"no regular expression: {error}") from None
            if is_empty:
                raise self._document.error((*loc, at), f"{pattern!r} is found where nothing of it "
                                           "is said", hint="what the console says once it is up")
        for at, typed in (("smbios", entry.smbios or ""),
                          *(("login", typed) for typed in entry.login.values())):
            if not typed.isprintable():
                raise self._document.error((*loc, at), f"{typed!r} cannot be typed in a line")
        if entry.memory and machine is None:
            raise self._document.error((*loc, "memory"), "is that of a machine of its own",
                                       key=True, hint="axes have a memory, too")
        kind = GuestKind.DISK if disk else GuestKind(entry.runs)
        return OwnGuest(name, kind, machine, disk, entry.up or "", entry.smbios or "",
                        tuple(entry.login.items()))

    def _written_machine(self, loc: Loc, entry: GuestEntry) -> OwnMachine:
        """A machine that is written down in the file, as ``bootmatrix import`` does."""
        if entry.machine is None:
            raise self._document.error((*loc, "machine"), "is missing", hint="pc-q35-10.0")
        if (wrong := arguments.machine_complaint(entry.machine)) is not None:
            raise self._document.error((*loc, "machine"), wrong)
        words = tuple(word for item in entry.arguments or () for word in (
            item.split(" ", 1) if item.startswith("-") else (item,)))
        if (wrong := arguments.complaint(words)) is not None:
            raise self._document.error((*loc, "arguments"), wrong)
        try:
            keys = [vm.keys(word) for word in words]
        except ValueError as error:
            raise self._document.error((*loc, "arguments"), str(error)) from None
        return OwnMachine(
            entry.arch or Arch.X86_64, entry.machine, entry.cpu or "", entry.smp or 1,
            entry.memory or "", words, any(one.get("drive") == vm.DISK for one in keys),
            any(one.get("chardev") == vm.CONSOLE for one in keys))

    def _own_scenario(self, name: str) -> Scenario:
        loc: Loc = ("scenarios", name)
        if name in library.LIBRARY:
            raise self._document.error(
                loc, "the library has a scenario of this name", key=True, hint="choose another"
            )
        try:
            scenario = library.parse(name, self._entry.scenarios[name])
        except StepError as error:
            raise self._document.error(
                (*loc, *error.where), error.message, found=error.found, accepted=error.accepted,
                key=bool(error.where) and error.found == error.where[-1],
            ) from None
        self._scenarios[name] = scenario
        return scenario

    def _base_axes(self) -> Axes:
        entry = self._entry.axes
        own = [self._guests.get(name) for name in getattr(entry, "guest")]  # noqa: B009
        for name, hint in (
            ("machine", "for example pc-q35-5.2, newest-common or default"),
            ("scenario", "for example migrate-reset"),
        ):
            if name == "machine" and own and all(
                    guest is not None and guest.machine for guest in own):
                continue
            if not getattr(entry, name):
                raise self._document.error(("axes", name), "is missing", hint=hint)
        defaults = {name: (axis.default,) for name, axis in AXES.items()}
        given = {"policy": tuple(Policy), "machine": (OWN_MACHINE,)}
        every = Axes((self.hosts, self.hosts), defaults | given, ("axes",))
        return self._axes(every.loc, entry, every)

    def _axes(self, loc: Loc, entry: AxesEntry, base: Axes) -> Axes:
        """The axes at ``loc``, those left out taken from ``base``."""
        written: dict[str, tuple[Any, ...]] = {
            axis: self._sets((*loc, axis), axis, getattr(entry, axis), base)
            if AXES[axis].type is ArgumentSet
            else tuple(self._once((*loc, axis), getattr(entry, axis))) for axis in AXES}
        written["scenario"] = tuple(
            self._lookup((*loc, "scenario"), written["scenario"], "scenario", self._scenarios)
        )
        written["guest"] = tuple(
            self._lookup((*loc, "guest"), written["guest"], "guest", self._guests)
        )
        if not written["machine"] and all(
                guest.machine for guest in written["guest"] or base.values["guest"]):
            written["machine"] = (OWN_MACHINE,)
        axes = Axes(
            self._with_given(loc, self._host_axes(loc, entry, base)),
            {axis: values or base.values[axis] for axis, values in written.items()},
            loc,
        )
        self._check_whose_machine(axes)
        for index, machine in enumerate(axes.values["machine"]):
            if (wrong := arguments.machine_complaint(machine)) is not None:
                raise self._document.error((*loc, "machine", index), wrong)
            if ":" in machine_type(machine) and not machine.startswith(f"{NEWEST_COMMON}:"):
                raise self._document.error(
                    (*loc, "machine", index), f"no machine type: {machine!r}",
                    hint=f"only {NEWEST_COMMON}:FAMILY has a colon",
                )
        for index, scenario in enumerate(axes.scenarios):
            if scenario.hosts_needed > len(axes.hosts):
                missing = role_name(len(axes.hosts))
                raise self._document.error(
                    (*loc, "scenario", index), f"{scenario.name} needs a host for {missing}",
                    hint=f"give the axis {missing}: [{', '.join(self._hosts)}]",
                )
        if not any(
            library.applies_to(scenario, policy)
            for scenario in axes.scenarios
            for policy in axes.values["policy"]
        ):
            names = ", ".join(scenario.name for scenario in axes.scenarios)
            raise self._document.error(
                (*loc, "policy"), f"no cell remains: {names} is about an nvram",
                hint="policies with one: "
                + ", ".join(policy.value for policy in Policy if policy.keeps_nvram),
            )
        return axes

    def _check_whose_machine(self, axes: Axes) -> None:
        """Raise UserError where it is not said which guest a machine type is meant for."""
        guests = axes.values["guest"]
        own = [guest for guest in guests if guest.machine]
        others = [guest for guest in guests if not guest.machine]
        if others and OWN_MACHINE in axes.values["machine"]:
            raise self._document.error(
                (*axes.loc, "machine"), f"{OWN_MACHINE}: {others[0]} has no machine of its own",
                hint="a machine type, for example newest-common")
        if own and others:
            raise self._document.error(
                (*axes.loc, "guest"),
                f"{own[0].name} has a machine of its own, {own[0].machine.machine}, and "
                f"{others[0]} has not: which of them is the axis machine for?",
                hint=f"guest: {others[0]} here, and include: [{{guest: {own[0].name}}}]")

    def _with_given(
        self, loc: Loc, axes: Sequence[Sequence[HostSpec]]
    ) -> tuple[tuple[HostSpec, ...], ...]:
        """The host axes with the command line's hosts. Saved guests are where cells begin.

        Nothing takes their place there, and they take no other's.
        """
        found = []
        for index, hosts in enumerate(axes):
            saved = [host for host in hosts if isinstance(host.qemu, SavedSource)]
            if index == 0:
                given = () if saved and len(saved) == len(hosts) else self.given
                found.append((*hosts, *given))
            else:
                found.append((*(host for host in hosts if host not in saved), *self.given))
            if not found[-1]:
                raise self._document.error(
                    (*loc, role_name(index)), "no QEMU is to take the saved guest",
                    hint="--host debian-sid, or hosts and this axis")
        return tuple(tuple(dict.fromkeys(hosts)) for hosts in found)

    def _host_axes(
        self, loc: Loc, entry: AxesEntry, base: Axes
    ) -> tuple[tuple[HostSpec, ...], ...]:
        further = entry.model_extra or {}
        written = {"source": entry.source, "destination": entry.destination}
        for name in further:
            try:
                role_index(name)
            except ValueError:
                accepted = ("source", "destination", "host-3", *AXES)
                raise self._document.error(
                    (*loc, name), "no such axis", found=name, accepted=accepted, key=True
                ) from None
        last = max(map(role_index, further), default=1)
        values = []
        for index in range(max(last + 1, len(base.hosts))):
            role = role_name(index)
            names = further.get(role) or written.get(role) or []
            if names:
                found = self._lookup((*loc, role), names, "host", self._named)
                values.append(tuple(host for hosts in found for host in hosts))
            elif index < len(base.hosts):
                values.append(base.hosts[index])
            else:
                raise self._document.error(
                    (*loc, role_name(last)), f"there is no axis {role} before it", key=True
                )
        return tuple(values)

    def _lookup(
        self, loc: Loc, names: Sequence[str], word: str, values: Mapping[str, _Value]
    ) -> Iterator[_Value]:
        for index, name in enumerate(self._once(loc, names)):
            if name not in values:
                raise self._document.error(
                    (*loc, index), f"no {word} has the name {name!r}", found=name,
                    accepted=tuple(values),
                )
            yield values[name]

    def _once(self, loc: Loc, values: Sequence[_Value]) -> Sequence[_Value]:
        seen: set[_Value] = set()
        for index, value in enumerate(values):
            if value in seen:
                raise self._document.error((*loc, index), f"{value} is listed twice")
            seen.add(value)
        return values

    def _rule(self, index: int, rule: Mapping[str, list[str]]) -> Rule:
        loc: Loc = ("exclude", index)
        names = (*map(role_name, range(len(self.axes.hosts))), *AXES)
        if not rule:
            raise self._document.error(loc, "an empty rule would drop every cell")
        for axis, globs in rule.items():
            if axis not in names:
                raise self._document.error(
                    (*loc, axis), "no such axis", found=axis, accepted=names, key=True
                )
            for position, glob in enumerate(globs):
                if glob.startswith("="):
                    if glob[1:] not in names or glob[1:] == axis:
                        raise self._document.error(
                            (*loc, axis, position), f"{glob!r} names no other axis",
                            found=glob[1:], accepted=[name for name in names if name != axis],
                        )
                else:
                    self._check_glob((*loc, axis, position), axis, glob)
        return Rule(
            tuple((axis, tuple(self._each(axis, globs))) for axis, globs in rule.items())
        )

    def _each(self, axis: str, globs: Sequence[str]) -> Iterator[str]:
        """The globs; a host that stands for several becomes their names."""
        for glob in globs:
            if axis not in AXES and glob in self._hosts:
                yield from (host.name for host in self._hosts[glob])
            else:
                yield glob

    def _known(self, index: int, entry: KnownEntry) -> Known:
        loc: Loc = ("known", index)
        for key, globs in entry.when.items():
            if not known.accepts_key(key):
                raise self._document.error(
                    (*loc, "when", key), "no value of a cell", found=key,
                    accepted=known.accepted_keys(), key=True,
                )
            axis = key.removesuffix(".host")
            for position, glob in enumerate(globs):
                self._check_glob((*loc, "when", key, position), axis, glob)
        for position, verdict in enumerate(entry.verdict):
            if verdict in (Verdict.PASS, Verdict.ERROR):
                raise self._document.error(
                    (*loc, "verdict", position), f"{verdict.value} is no incompatibility",
                    accepted=[v.value for v in Verdict if v not in (Verdict.PASS, Verdict.ERROR)],
                )
        when = tuple(
            (key, tuple(self._each(key, globs) if key.endswith(".host") else globs))
            for key, globs in entry.when.items()
        )
        return Known(when, tuple(entry.verdict), entry.reason, entry.link)

    def _set_names(self, axis: str) -> list[str]:
        """Of the sets of arguments that some axes of the file have."""
        entries = (self._entry.axes, *self._entry.include)
        return [name for entry in entries for name in getattr(entry, axis)]

    def _check_glob(self, loc: Loc, axis: str, glob: str) -> None:
        """A value without wildcards must be one that the axis could have at all."""
        kind = AXES[axis].type if axis in AXES else None
        if not glob and not (axis in AXES and AXES[axis].plain(AXES[axis].default) == ""):
            raise self._document.error(loc, "is empty")
        if "." in axis or axis == "id" or kind is str or _GLOB.search(glob) or (
                axis in AXES and AXES[axis].is_number and AXES[axis].parses(glob)):
            return
        if axis in AXES and AXES[axis].is_number:
            if not glob.isdecimal() or str(int(glob)) != glob or glob == "0":
                raise self._document.error(loc, f"{axis} is never {glob!r}", hint="a whole number")
            return
        accepted: Iterable[str] = self._named
        if kind is not None:
            accepted = (
                self._guests if axis == "guest" else self._scenarios if kind is Scenario
                else self._set_names(axis) if kind is ArgumentSet else map(str, kind))
        accepted = tuple(accepted)
        if glob not in accepted:
            raise self._document.error(
                loc, f"{axis} is never {glob!r}", found=glob, accepted=accepted
            )
