"""Builds of the user's own, as they are said on a command line, and hosts with a directory of them.

Nothing is read but the names in such a directory: whether a build is any good is for
bootmatrix.builds.host to find out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from bootmatrix.cell import BETWEEN_HOSTS
from bootmatrix.errors import UserError
from bootmatrix.files import git_tags
from bootmatrix.files.given_file import path_of
from bootmatrix.model import FirmwareSource, GitSource, HostSpec, QemuSource

SUFFIXES = (".bin", ".rom", ".fd")
"""What the names of firmware images end in, where a directory of them is given."""

DESCRIPTOR_SUFFIX = ".json"
"""What the names of firmware descriptors end in, on the command line."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_GLOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+*?!\[\]-]*")
_NO_NAME = re.compile(r"[^A-Za-z0-9._+-]+")


def safe_name(text: str) -> str:
    """The text with what cannot stand in a name (of a host, a build, a file) replaced by dashes."""
    return _NO_NAME.sub("-", text).strip("-") or "unnamed"


@dataclass(frozen=True)
class GivenBuilds:
    """What the command line gives: builds by name, and the hosts that cells must go to or from."""

    qemu: Mapping[str, QemuSource] = field(default_factory=dict)
    firmware: Mapping[str, FirmwareSource] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    _meant: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def qemu_called(self, name: str) -> QemuSource | str:
        """What a host's QEMU of this name is; a name that is not defined is the catalogue's."""
        self._meant.add(f"--qemu {name}")
        return self.qemu.get(name, name)

    def firmware_called(self, name: str) -> FirmwareSource | str:
        """The same for a firmware's."""
        self._meant.add(f"--firmware {name}")
        return self.firmware.get(name, name)

    def check_meant(self, prefix: str = "--") -> None:
        """Raise UserError for a build that no host has that was looked up: nothing would run it.

        ``prefix`` is what the options begin with where they were given.
        """
        defined = [*(f"--qemu {name}" for name in self.qemu),
                   *(f"--firmware {name}" for name in self.firmware)]
        for option in defined:
            if option not in self._meant:
                flag, name = option.split(" ", 1)
                host = name if flag == "--qemu" else f"QEMU/{name}"
                raise UserError(f"{option.replace('--', prefix, 1)}=...: no host has it",
                                hint=f"{prefix}host {host} makes one, or name it in the matrix")

    def host(self, text: str) -> tuple[HostSpec, ...]:
        """The hosts that ``QEMU`` or ``QEMU/FIRMWARE`` means: several, with a directory of images.

        Names that are not defined here are left for the catalogue.
        """
        qemu, slash, firmware = text.partition("/")
        for name, form in ((qemu, _NAME), (firmware, _GLOB))[:2 if slash else 1]:
            if not form.fullmatch(name):
                raise UserError(f"--host {text}: {name!r} is not a name",
                                hint="QEMU or QEMU/FIRMWARE, such as debian-sid or head/test")
        host = HostSpec(
            safe_name(text.replace("/", "+")),
            self.qemu_called(qemu),
            self.firmware_called(firmware) if slash else None,
        )
        try:
            return expand(host)
        except UserError as error:
            raise UserError(f"--host {text}: {error}") from None


def parse(qemu: Sequence[str], firmware: Sequence[str], hosts: Sequence[str]) -> GivenBuilds:
    """The command line's ``NAME=SOURCE`` definitions and hosts. Raises UserError.

    A QEMU's source is a path, or that and the one of its data, with a comma between,
    ``root:DIR``, ``root:DIR,PROGRAM``, ``image:NAME``, ``suite:SUITE`` or
    ``suite:SUITE=VERSION``; a firmware's is the path of an image, of a directory of them, of a
    descriptor (``.json``), or of code and variables, with a comma between. Both can be
    ``source:REPOSITORY`` or ``source:REPOSITORY,REVISION``. Paths are relative to
    the current directory.
    """
    return GivenBuilds(
        {name: _qemu(name, source) for name, source in _definitions("--qemu", qemu)},
        {name: _firmware(name, source) for name, source in _definitions("--firmware", firmware)},
        tuple(dict.fromkeys(hosts)),
    )


def _definitions(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, source = text.partition("=")
        if not (equals and source and _NAME.fullmatch(name)) or BETWEEN_HOSTS in name:
            raise UserError(f"{option} {text}: no definition",
                            hint=f"NAME=PATH, such as {option} test=../build")
        if name in found:
            raise UserError(f"{option} {text}: {name} is defined twice")
        found[name] = source
    return list(found.items())


def _qemu(name: str, source: str) -> QemuSource:
    kind, colon, value = source.partition(":")
    if colon and not value and kind in ("image", "suite", "root", "source"):
        what = "DIR" if kind in ("root", "source") else "NAME"
        raise UserError(f"--qemu {name}={source}: nothing is named",
                        hint=f"--qemu {name}={source}{what}")
    if colon and kind == "image":
        return QemuSource(image=value, name=name)
    if colon and kind == "suite":
        suite, _, version = value.partition("=")
        return QemuSource(suite=suite, package_version=version or None, name=name)
    if colon and kind == "root":
        root, program = _two(value)
        return QemuSource(name=name, root=root, program=program)
    if colon and kind == "source":
        return QemuSource(name=name, git=_git(value))
    path, data = _two(source)
    return QemuSource(path=path, name=name, data=path_of(data) if data else None)


def _two(text: str) -> tuple[Path, str | None]:
    """A path, and what stands behind its last comma, if the whole is not the path of something."""
    path = path_of(text)
    first, _, second = text.rpartition(",")
    return (path_of(first), second) if first and second and not path.exists() else (path, None)


def _git(text: str) -> GitSource:
    repository, revision = _two(text)
    return GitSource(repository, revision or "HEAD")


def _firmware(name: str, source: str) -> FirmwareSource:
    kind, _, value = source.partition(":")
    if kind == "source" and value:
        git = _git(value)
        return FirmwareSource(git.repository, name=name, git=git)
    path, variables = _two(source)
    if variables:
        return FirmwareSource(path, name=name, variables=path_of(variables))
    return FirmwareSource(path, path.is_dir(), name,
                          descriptor=path.suffix == DESCRIPTOR_SUFFIX and not path.is_dir())


def expand(host: HostSpec) -> tuple[HostSpec, ...]:
    """The hosts that one stands for: itself, or one for each revision or firmware image of it."""
    return tuple(one for each in of_revisions(host) for one in of_firmware(each))


def of_revisions(host: HostSpec) -> tuple[HostSpec, ...]:
    """A host whose QEMU has several revisions becomes one host for each; else it is itself."""
    source = host.qemu
    if not isinstance(source, QemuSource) or source.git is None or not source.git.revisions:
        return (host,)
    return _named(host, [(one.revision, replace(host, qemu=replace(source, git=one)))
                         for one in _each(source.git)])


def of_firmware(host: HostSpec) -> tuple[HostSpec, ...]:
    """A host with several firmware images becomes one host for each; else it is itself.

    They are those of a directory, or are to be built of several revisions.
    """
    source = host.firmware
    if not isinstance(source, FirmwareSource):
        return (host,)
    if source.git is not None and source.git.revisions:
        return _named(host, [(one.revision, replace(host, firmware=replace(source, git=one)))
                             for one in _each(source.git)])
    if not source.directory:
        return (host,)
    if not source.path.is_dir():
        what = "is no directory" if source.path.exists() else "is not there"
        raise UserError(f"{source.path} {what}", hint="a directory of firmware images")
    images = sorted(
        file for file in source.path.iterdir()
        if file.suffix.lower() in SUFFIXES and file.is_file()
    )
    if not images:
        raise UserError(f"{source.path} holds no firmware image",
                        hint="files that end in " + ", ".join(SUFFIXES))
    return _named(host, [(image.stem, replace(host, firmware=FirmwareSource(image)))
                         for image in images])


def _named(host: HostSpec, each: Sequence[tuple[str, HostSpec]]) -> tuple[HostSpec, ...]:
    """Several hosts in the place of one, each called after what it has of its own."""
    hosts: dict[str, HostSpec] = {}
    for part, one in each:
        name = f"{host.name}-{safe_name(part)}"
        if name in hosts or BETWEEN_HOSTS in name:
            raise UserError(f"{part} would make a host called {name!r}",
                            hint="there is one already" if name in hosts
                            else f"a host's name cannot hold {BETWEEN_HOSTS!r}")
        hosts[name] = replace(one, name=name)
    return tuple(hosts.values())


def _each(git: GitSource) -> list[GitSource]:
    """One for each of the revisions that a source stands for."""
    found: dict[str, None] = {}
    for text in git.revisions:
        words = text.split()
        if words[1:2] == ["tags"] and ".." in words[0] and len(words) <= 3:
            first, _, last = words[0].partition("..")
            found |= dict.fromkeys(tags_between(git.repository, first, last, *words[2:]))
        elif len(words) == 1 and ".." not in text:
            found[text] = None
        else:
            raise UserError(f"{text!r} is neither a revision nor a range of tags",
                            hint="such as 'v8.0.0..v9.2.0 tags', or 'v8.0.0..v9.2.0 tags v*.0'")
    return [replace(git, revision=name, revisions=()) for name in found]


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key by which 1.9 comes before 1.16."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part)
            for part in re.split(r"(\d+)", text) if part]


def tags_between(repository: Path, first: str, last: str, glob: str = "*") -> list[str]:
    """The tags of a repository from one to another, in the order of the numbers in their names.

    Only those that are written like the first: beside v8.0.0 no v8.0.0-rc1. Raises UserError.
    """
    there = git_tags.names(repository)
    for end in (first, last):
        if end not in there:
            near = difflib.get_close_matches(end, there, n=1)
            raise UserError(f"{repository} has no tag {end!r}",
                            hint=f"did you mean {near[0]!r}?" if near else
                            "git fetch --tags, if others have it")
    shape = re.sub(r"\d+", "0", first)
    found = sorted((tag for tag in there if re.sub(r"\d+", "0", tag) == shape
                    and fnmatchcase(tag, glob)
                    and natural(first) <= natural(tag) <= natural(last)), key=natural)
    if not found:
        raise UserError(f"{repository} has no tag from {first} to {last}"
                        + f" like {glob}" * (glob != "*"),
                        hint="the first is the older" if natural(last) < natural(first) else "")
    return found
