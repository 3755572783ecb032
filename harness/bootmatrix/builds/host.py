"""What a matrix or the command line says of a QEMU or a firmware, to the builds themselves.

By name they come from the catalogue's images; from a path, a root file system, an image of the
Docker engine or a Debian suite they are made ready here, once for each process that asks. A mistake
of the user's is a UserError without a place; ``place`` is who knows it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from bootmatrix.arguments import machine_type
from bootmatrix.boards import board_of
from bootmatrix.builds import board_file, foreign_root, image_store, own_qemu, saved_guest
from bootmatrix.builds import source as from_source
from bootmatrix.builds.asking import ask
from bootmatrix.builds.image_store import ImageStore, parse_machines
from bootmatrix.builds.own_qemu import Root
from bootmatrix.builds.source import FIRMWARE, QEMU, Sources
from bootmatrix.errors import ImageError, UserError
from bootmatrix.firmware import image_file, names
from bootmatrix.firmware.identity import KnownFirmware, printed_version, sha256
from bootmatrix.firmware.image_file import Firmware
from bootmatrix.matrix.sources import safe_name
from bootmatrix.model import (
    DEFAULT_MACHINE,
    Arch,
    BoardSource,
    FirmwareBuild,
    FirmwareSource,
    GitSource,
    Host,
    HostSpec,
    QemuBuild,
    QemuSource,
    SavedSource,
)
from bootmatrix.roots import debian
from bootmatrix.roots.cache import Cache
from bootmatrix.vault import SavedGuest

Place = Callable[[HostSpec, str, UserError], UserError]
"""Words an error about a field (``qemu``, ``firmware``) of a host with the place it stands at."""

_SUITE = re.compile(r"[a-z][a-z0-9-]*")
# Debian policy, section 5.6.12.
_VERSION = re.compile(r"(\d+:)?\d[A-Za-z0-9.+~-]*")
# It stands in records, which have a longest name, and is reckoned with.
_QEMU_VERSION = re.compile(r"QEMU.{0,100} version ([0-9]{1,5}(?:\.[0-9]{1,5}){1,3})(?![0-9])")
_NO_VERSION = re.compile(r"Version '[^']*' for '[^']*' was not found")
_NO_RELEASE = re.compile(r"The repository '[^']*' does not have a Release file")
# Where Debian and this host put a QEMU's modules.
_MODULES = ("usr/lib*/qemu", "usr/lib*/*/qemu")


def _as_it_is(host: HostSpec, field: str, error: UserError) -> UserError:
    return error


def _unheard(line: str) -> None:
    """Progress where nobody looks."""


class Builds:
    """The builds of a catalogue and those of the user's own. Leaving it lets go of the latter."""

    def __init__(self, store: ImageStore, cache: Path | None = None) -> None:
        self._store = store
        self._home = (cache or image_store.cache_home()) / "own"
        self._cache = Cache(self._home)
        self._qemus: dict[QemuSource, QemuBuild] = {}
        self._firmwares: dict[tuple[FirmwareSource, Arch], FirmwareBuild] = {}
        self._beside: dict[str, FirmwareBuild] = {}
        self._saved: dict[SavedSource, tuple[QemuBuild, SavedGuest]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """What is cached of the user's own builds may be removed when it grows old."""
        self._cache.close()
        if "sources" in vars(self):
            self.sources.close()

    @cached_property
    def sources(self) -> Sources:
        """What is built of the user's repositories."""
        return self._sources_in(self._cache, Cache(self._store.toolchain_home))

    def _sources_in(self, cache: Cache, toolchains: Cache) -> Sources:
        return Sources(cache, self._home / from_source.LOGS, self._store.toolchains, toolchains)

    # ---- before anything is started ---------------------------------------------------------

    def check(self, hosts: Iterable[HostSpec], place: Place = _as_it_is) -> None:
        """Raise UserError for the first build that cannot be, as far as can be told by looking."""
        for host in hosts:
            for field, look in (("qemu", self._check_qemu), ("firmware", self._check_firmware)):
                try:
                    look(host)
                except UserError as error:
                    raise place(host, field, error) from None

    def _check_qemu(self, host: HostSpec) -> None:
        source = host.qemu
        if isinstance(source, str):
            if source not in self._store.names(None):
                raise UserError(f"no such QEMU build: {source!r}",
                                hint="in the catalogue: " + ", ".join(self._store.names()))
            self._store.for_arch(source, host.arch)
        elif isinstance(source, BoardSource):
            board_file.check(source)
        elif isinstance(source, SavedSource):
            saved_guest.read(source)
        elif host.arch is not Arch.X86_64:
            raise _no_pc(source, host.arch)
        elif source.git is not None:
            self.sources.check(source.git, QEMU)
        elif source.path is not None:
            own_qemu.data_directories(own_qemu.find(source.path), source.data)
        elif source.root is not None:
            foreign_root.find(source.root, source.program)
        elif source.suite is not None:
            if not _SUITE.fullmatch(source.suite):
                raise UserError(f"{source.suite!r} is no name of a suite", hint="such as trixie")
            if source.package_version and not _VERSION.fullmatch(source.package_version):
                raise UserError(f"{source.package_version!r} is no version of a Debian package",
                                hint="such as 1:10.0.2+ds-2")
            self._check_reach(source.suite)

    def _check_reach(self, suite: str) -> None:
        """Raise UserError for a suite that the archive of this host cannot have."""
        known, there = self._store.suites(), debian.suites()
        # What follows a dash is a part of a suite: trixie-backports.
        if there is not None and suite not in known and suite.partition("-")[0] not in there:
            raise self._no_suite(suite)

    def _no_suite(self, suite: str) -> UserError:
        return UserError(f"{suite} is no suite of the archive that this host takes them from",
                         hint=f"Debian's has {', '.join(self._store.suites())}; another "
                              "distribution's QEMU is {root: DIR} or {image: NAME}")

    def _check_firmware(self, host: HostSpec) -> None:
        source = host.firmware
        if isinstance(source, FirmwareSource):
            if source.git is not None:
                self.sources.recipe(source.git, FIRMWARE)
            else:
                image_file.load(source, host.arch)
        elif isinstance(source, str):
            if source in self._store.kinds():
                self._check_kind(host, source)
            elif not self._unbuilt_with(source):
                self._named(source)
        elif isinstance(host.qemu, QemuSource) and host.qemu.git is not None:
            if not (self.sources.has_firmware(host.qemu.git, own_qemu.DEFAULT_FIRMWARE)
                    or (host.qemu.data and (host.qemu.data / own_qemu.DEFAULT_FIRMWARE).is_file())):
                raise _no_firmware(host.qemu)
        elif isinstance(host.qemu, QemuSource) and (host.qemu.path or host.qemu.root):
            bios = _bios_where_it_is(host.qemu)
            if bios is None:
                raise _no_firmware(host.qemu)
            image_file.read(bios)

    def _check_kind(self, host: HostSpec, kind: str) -> None:
        if isinstance(host.qemu, str):
            name = self._store.for_arch(host.qemu, host.arch)
            if self._store.is_built(name):
                self._store.beside(name, kind)
            elif kind not in self._store.kinds(name):
                raise UserError(f"{name} has no {kind}",
                                hint="it has: " + ", ".join(self._store.kinds(name)))
        elif host.qemu.suite is None:
            raise _no_kind(host.qemu, kind)

    # ---- making them ready ------------------------------------------------------------------

    def missing(self, hosts: Iterable[HostSpec]) -> tuple[str, ...]:
        """The images of the catalogue that these hosts need, and that are not built yet."""
        hosts = tuple(hosts)
        qemus = {self._store.for_arch(host.qemu, host.arch): None
                 for host in hosts if isinstance(host.qemu, str)}
        missing = tuple(name for name in qemus if not self._store.is_built(name))
        named = {host.firmware: None for host in hosts if isinstance(host.firmware, str)}
        # Which image a firmware is in shows only when it is built: those needed anyway may do.
        return missing or tuple(dict.fromkeys(
            image for name in named if name not in self._store.kinds()
            for image in self._unbuilt_with(name)))

    def _unbuilt_with(self, firmware: str) -> tuple[str, ...]:
        """The images to build for a firmware that none of the built ones has."""
        if any(names.means(firmware, build.name) for build in self._store.firmwares()):
            return ()
        images_with = self._store.may_have(firmware)
        return tuple(name for name in images_with if not self._store.is_built(name))

    def prepare(
        self, hosts: Sequence[HostSpec], progress: Callable[[str], None] = _unheard,
        place: Place = _as_it_is,
    ) -> None:
        """Make ready what these hosts need; ``progress`` gets lines of it.

        Raises ImageError for an image that cannot be built, UserError for a build that is not
        what its user took it for.
        """
        while missing := self.missing(hosts):
            self._store.build(missing, progress)
        for host in hosts:
            for field, make in (("qemu", self._prepare_qemu), ("firmware", self._prepare_firmware)):
                try:
                    make(host, progress)
                except UserError as error:
                    raise place(host, field, error) from None

    def _prepare_qemu(self, host: HostSpec, progress: Callable[[str], None]) -> None:
        if isinstance(host.qemu, str):
            self._store.check(self._store.for_arch(host.qemu, host.arch))
        elif isinstance(host.qemu, BoardSource):
            board_file.ready(host.qemu)
        elif isinstance(host.qemu, SavedSource):
            self._unpacked(host.qemu)
        elif host.qemu not in self._qemus:
            self._qemus[host.qemu] = self._make(host.qemu, progress)

    def _prepare_firmware(self, host: HostSpec, progress: Callable[[str], None]) -> None:
        if isinstance(host.firmware, FirmwareSource):
            self._from_file(host.firmware, host.arch, progress)
        elif host.firmware is not None or not isinstance(host.qemu, str):
            self.firmware(host)

    def build_ahead(self, git: GitSource, stop: threading.Event) -> None:
        """Build a commit that may be wanted soon, in a thread of its own, until ``stop`` is set.

        Raises as ``prepare``.
        """
        with contextlib.closing(Cache(self._home)) as cache, \
                contextlib.closing(Cache(self._store.toolchain_home)) as toolchains:
            sources = self._sources_in(cache, toolchains)
            sources.built(git, sources.recipe(git, (*FIRMWARE, QEMU)), _unheard, stop)

    # ---- the builds -------------------------------------------------------------------------

    def host(self, spec: HostSpec) -> Host:
        """The builds that a host stands for. Raises UserError or ImageError."""
        return Host(spec.name, self.qemu(spec.qemu, spec.arch), self.firmware(spec),
                    spec.arguments)

    def qemu(self, source: str | QemuSource, arch: Arch = Arch.X86_64) -> QemuBuild:
        """A QEMU build for an architecture; one of the user's own is made ready first."""
        if isinstance(source, str):
            return self._store.qemu(self._store.for_arch(source, arch))
        if isinstance(source, BoardSource):
            return board_file.build(source, arch)
        if isinstance(source, SavedSource):
            return self._unpacked(source)[0]
        if arch is not Arch.X86_64:
            raise _no_pc(source, arch)
        if source not in self._qemus:
            self._qemus[source] = self._make(source, _unheard)
        return self._qemus[source]

    def _unpacked(self, source: SavedSource) -> tuple[QemuBuild, SavedGuest]:
        if source not in self._saved:
            self._saved[source] = saved_guest.build(source, self._cache)
        return self._saved[source]

    def alone(
        self, sources: Iterable[str | QemuSource], progress: Callable[[str], None] = _unheard
    ) -> list[QemuBuild]:
        """QEMU builds without a firmware, made ready. Raises as ``check`` and ``prepare``."""
        hosts = [HostSpec("", source) for source in sources]
        for host in hosts:
            self._check_qemu(host)
        self._store.build(self.missing(hosts), progress)
        for host in hosts:
            self._prepare_qemu(host, progress)
        return [self.qemu(host.qemu) for host in hosts]

    def machines(self, host: HostSpec) -> tuple[str, ...]:
        """The machine types of a host's QEMU build."""
        return self.qemu(host.qemu, host.arch).machines

    def machines_as_built(self, host: HostSpec) -> tuple[str, ...]:
        """The same where nothing is to be built. Raises UserError for an image that is not."""
        source, known = host.qemu, set(self._store.names(None))
        for name in self._unbuilt_for(source) if isinstance(source, QemuSource) else \
                self.missing([dataclasses.replace(host, firmware=None)]):
            about = f"{source}, and {name} for it" if isinstance(source, QemuSource) else name
            about = str(source) if name == str(source) else about
            raise UserError(f"machine: newest-common has to ask {about}, which is not built",
                            hint=f"bootmatrix images build {name}" if name in known else
                            "a run of the matrix builds it")
        return self.machines(host)

    def _unbuilt_for(self, source: QemuSource) -> tuple[str, ...]:
        """The image without which a QEMU of the user's own cannot be asked anything, if missing."""
        if source in self._qemus:
            return ()
        if source.git is not None and not self.sources.is_built(source.git, QEMU):
            return (str(source),)
        names = self._store.names()  # of which any will do
        if source.suite is not None:
            names = self._store.add_suite(source.suite, source.package_version),
        return () if any(map(self._store.is_built, names)) else names[-1:]

    def firmware(self, host: HostSpec) -> FirmwareBuild:
        """The firmware build of a host; one from a file has its bytes as they are now."""
        if isinstance(host.qemu, SavedSource):
            build, said = self._unpacked(host.qemu)
            given = saved_guest.firmware_source(build.root, said)
            return saved_guest.as_it_was(self._from_file(given, build.arch), said)
        if isinstance(host.firmware, FirmwareSource):
            return self._from_file(host.firmware, host.arch)
        if host.firmware in self._store.kinds():
            return self._kind(host, host.firmware)
        if host.firmware is not None:
            return self._named(host.firmware)
        qemu = self.qemu(host.qemu, host.arch)
        if not qemu.firmware:
            raise _no_firmware(host.qemu)
        return self._beside.get(qemu.firmware) or self._named(qemu.firmware)

    def _kind(self, host: HostSpec, kind: str) -> FirmwareBuild:
        """The firmware that a name without a version means: the one beside the host's QEMU."""
        if isinstance(host.qemu, QemuSource) and host.qemu.suite is None:
            raise _no_kind(host.qemu, kind)
        qemu = self.qemu(host.qemu, host.arch)
        return self._store.beside(qemu.root_name or qemu.name, kind)

    def firmwares(self) -> tuple[FirmwareBuild, ...]:
        """The firmware of all images of the catalogue that are built."""
        return self._store.firmwares()

    def known_firmware(self, hosts: Sequence[Host], machine: str) -> KnownFirmware:
        """What can be recognised in a cell on these hosts: their own, and the catalogue's.

        What is made for other machine types than the cell's cannot have run there: SeaBIOS for
        microvm prints what SeaBIOS prints. On microvm itself, what a host's firmware prints is
        not taken for that of one for all machine types. Where no bytes tell firmware apart, what
        prints the same as a host's is the host's.
        """
        return recognisable(self.firmwares(), hosts, machine)

    def named_firmware(self, name: str) -> FirmwareBuild:
        """A firmware build of the catalogue by its name. Raises UserError for an unknown one."""
        return self._named(name)

    def _named(self, name: str) -> FirmwareBuild:
        return self._store.firmware(name)

    def _from_file(
        self, source: FirmwareSource, arch: Arch, progress: Callable[[str], None] = _unheard
    ) -> FirmwareBuild:
        if (source, arch) not in self._firmwares:
            given = source
            if source.git is not None:
                recipe = self.sources.recipe(source.git, FIRMWARE)
                built = self.sources.built(source.git, recipe, progress)
                given = FirmwareSource(built.file, name=source.name or built.name,
                                       variables=built.variables, symbols=built.symbols)
            firmware = image_file.load(given, arch)
            build = self._same_bytes(firmware) or self._keep(firmware, given.name)
            if firmware.symbols is not None:
                build = dataclasses.replace(build, symbols=self._keep_symbols(firmware.symbols))
            self._firmwares[source, arch] = build
        return self._firmwares[source, arch]

    def _same_bytes(self, firmware: Firmware) -> FirmwareBuild | None:
        """The build of the catalogue with the same image and the same variables."""
        digest = sha256(firmware.image[firmware.store_size:])
        for build in self._store.firmwares():
            if (build.sha256, build.size) == (digest, len(firmware.image)):
                variables = build.variables.read_bytes() if build.variables else None
                if variables == firmware.variables:
                    # Where a file of the user's own runs is for its user to say.
                    return dataclasses.replace(build, machines=firmware.machines,
                                               in_flash=firmware.in_flash)
        return None

    def _keep(self, firmware: Firmware, name: str | None) -> FirmwareBuild:
        """A build of the files as they are now, which are copied to the cache."""
        variables = firmware.variables
        digest = sha256(firmware.image + (variables or b""))

        def fill(directory: Path) -> None:
            (directory / "bios.bin").write_bytes(firmware.image)
            if variables is not None:
                (directory / "variables.fd").write_bytes(variables)

        directory = self._cache.entry(f"firmware-{digest[:16]}", fill)
        return FirmwareBuild(
            name=f"{safe_name(name or firmware.file.stem)}-{digest[:8]}",
            sha256=sha256(firmware.image[firmware.store_size:]),
            size=len(firmware.image),
            path=directory / "bios.bin",
            interface=firmware.interface,
            prints=printed_version(firmware.image),
            variables=directory / "variables.fd" if variables is not None else None,
            machines=firmware.machines,
            features=firmware.features,
            store_size=firmware.store_size,
            in_flash=firmware.in_flash,
        )

    def _keep_symbols(self, content: bytes) -> Path:
        """A file with these symbols in the cache."""
        def fill(directory: Path) -> None:
            (directory / "symbols").write_bytes(content)

        return self._cache.entry(f"symbols-{sha256(content)[:16]}", fill) / "symbols"

    # ---- QEMUs of the user's own --------------------------------------------------------------

    def _make(self, source: QemuSource, progress: Callable[[str], None]) -> QemuBuild:
        if source.git is not None:
            built = self.sources.built(source.git, QEMU, progress)
            named = dataclasses.replace(source, name=source.name or built.name)
            return self._from_path(named, built.file, progress)
        if source.path is not None:
            return self._from_path(source, source.path, progress)
        if source.root is not None:
            return self._from_root(source, source.root, progress)
        if source.image is not None:
            return self._from_image(source, source.image, progress)
        return self._from_suite(source, progress)

    def _from_path(
        self, source: QemuSource, path: Path, progress: Callable[[str], None]
    ) -> QemuBuild:
        copy = own_qemu.copy(path, self._cache, source.data)

        def start(root: Root) -> str:
            # Bound at once, so that a symbol that a library lacks is told here too.
            return ask(_in_root(copy, root), "--version", environment={"LD_BIND_NOW": "1"})

        root = own_qemu.choose_root(copy, self._roots(progress), path, self._cache, start)
        build = _in_root(copy, root)
        build = dataclasses.replace(
            build, name=source.name or f"qemu-{build.digest[:8]}",
            firmware=self._keep_beside(copy.firmware),
        )
        return self._described(build, copy.directory.with_suffix(".json"), str(path))

    def _roots(self, progress: Callable[[str], None]) -> list[Root]:
        """The roots of the catalogue's images that are built, the newest QEMU's first.

        One is built where there is none: it has the engines' shell, and libraries.
        """
        names = self._store.names()
        if not any(map(self._store.is_built, names)):
            self._store.build(names[-1:], progress)
        builds = [self._store.qemu(name) for name in names if self._store.is_built(name)]

        def version(build: QemuBuild) -> tuple[int, ...]:
            return tuple(map(int, build.version.split(".")))

        return [Root(build.name, build.root, build.digest)
                for build in sorted(builds, key=version, reverse=True)]

    def _from_image(
        self, source: QemuSource, image: str, progress: Callable[[str], None]
    ) -> QemuBuild:
        from bootmatrix.engines.docker import export_image, image_id

        identity = image_id(image)

        def unpack(target: Path) -> None:
            export_image(identity, target)
            foreign_root.leave_out_devices(target)

        what = f"the image {image}"
        entry = self._whole(f"image-{identity[:16]}", unpack, what, progress)
        return self._in_whole(entry, source.name or safe_name(image.lower()), None, what)

    def _from_root(
        self, source: QemuSource, root: Path, progress: Callable[[str], None]
    ) -> QemuBuild:
        program, root = foreign_root.find(root, source.program), root.resolve()
        if self._home.resolve().is_relative_to(root):
            raise UserError(f"{root} holds this host's cache of builds",
                            hint="a root file system apart; a QEMU of this host is {path: ...}")
        seen = foreign_root.fingerprint(root)

        def unpack(target: Path) -> None:
            foreign_root.copy(root, target)
            if foreign_root.fingerprint(root) != seen:
                raise ImageError(f"{root} was changed while it was read; try again")

        entry = self._whole(f"root-{seen[:16]}", unpack, str(root), progress)
        return self._in_whole(entry, source.name, program, str(root))

    def _whole(
        self, name: str, unpack: Callable[[Path], None], what: str, progress: Callable[[str], None]
    ) -> Path:
        """The entry of the cache with somebody else's root, which ``unpack`` fills.

        ``what`` is what its user calls it.
        """
        shell = debian.follow(self._roots(progress)[0].directory, "bin/busybox")

        def fill(entry: Path) -> None:
            root = entry / "root"
            root.mkdir()
            unpack(root)
            _place(root, "usr", what)  # Docker mounts it
            # What the engines start programs with; the root's own may need libraries.
            busybox = _place(root, "bin", what) / "busybox"
            debian.remove(busybox)
            shutil.copyfile(shell, busybox)
            busybox.chmod(0o755)
            (entry / "digest").write_text(debian.seal_tree(root, as_it_is=True).digest)

        return self._cache.entry(name, fill)

    def _in_whole(
        self, entry: Path, name: str | None, program: str | None, what: str
    ) -> QemuBuild:
        """The QEMU in such an entry; it is called by its bytes, without a name."""
        root = entry / "root"
        try:
            program = foreign_root.find(root, program)
            bios = foreign_root.default_firmware(root, program)
        except UserError as error:
            raise UserError(str(error).replace(str(root), what)) from None
        identity = f"{(entry / 'digest').read_text()} {program}"
        digest = hashlib.sha256(os.fsencode(identity)).hexdigest()
        build = QemuBuild(
            name=name or f"qemu-{digest[:8]}",
            version="",
            digest=digest,
            root=root,
            binary=f"/{program}",
            firmware=self._keep_beside(bios),
            root_name=entry.name,
        )
        return self._described(build, entry.with_suffix(".json"), what)

    def _from_suite(self, source: QemuSource, progress: Callable[[str], None]) -> QemuBuild:
        assert source.suite is not None
        name = self._store.add_suite(source.suite, source.package_version)
        try:
            self._store.build([name], progress)
        except ImageError as error:
            if _NO_VERSION.search(error.tail):
                self._store.remove([name])
                raise UserError(f"{source.suite} has no qemu-system-x86 {source.package_version}",
                                hint="without a package-version it is the one it has") from None
            if _NO_RELEASE.search(error.tail):
                self._store.remove([name])
                raise self._no_suite(source.suite) from None
            raise
        build = self._store.qemu(name)
        return dataclasses.replace(build, name=source.name or name, root_name=name)

    def _keep_beside(self, bios: Path | None) -> str:
        """The name under which the BIOS that came with a QEMU is found; empty without one."""
        if bios is None:
            return ""
        build = self._from_file(FirmwareSource(bios), Arch.X86_64)
        self._beside[build.name] = build
        return build.name

    def _described(self, build: QemuBuild, facts: Path, what: str) -> QemuBuild:
        """The build with what its QEMU says of itself; it is asked once for each digest."""
        known: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError, ValueError):
            known = json.loads(facts.read_text())
        if "debug_port" not in known.get(build.digest, {}):
            known[build.digest] = _ask(build, what)
            new = facts.with_suffix(".new")
            new.write_text(json.dumps(known))
            new.replace(facts)
        said = known[build.digest]
        return dataclasses.replace(
            build, version=said["version"], machines=tuple(said["machines"]),
            default_machine=said["default_machine"], debug_port=said["debug_port"],
        )


def recognisable(
    firmwares: Iterable[FirmwareBuild], hosts: Sequence[Host], machine: str
) -> KnownFirmware:
    """What can be recognised in a cell on these hosts: their own, and of ``firmwares`` what fits.

    See ``Builds.known_firmware``.
    """
    own = [host.firmware for host in hosts]
    board, machine = board_of(machine, hosts[0].qemu.arch), machine_type(machine)

    def tells(size: int) -> bool:
        return board is None or board.rom_address(size) is not None

    machines = {host.qemu.default_machine if machine == DEFAULT_MACHINE else machine
                for host in hosts}
    fitting = (build for build in firmwares if not build.machines or any(
        fnmatchcase(name, glob) for name in machines for glob in build.machines))
    others = (build for build in fitting if not any(
        build.prints == its.prints
        and (build.machines != its.machines or not tells(its.size))
        for its in own))
    return KnownFirmware((*own, *others))


def _place(root: Path, path: str, what: str) -> Path:
    """A directory of a copied root, which is made if need be. UserError where there can be none."""
    try:
        return debian.make_place(root, path)
    except ImageError:
        raise UserError(f"{what}: /{path} in it is a link that goes round") from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise UserError(f"{what}: /{path} in it is a link to too long a name") from None


def _in_root(copy: own_qemu.Copy, root: Root) -> QemuBuild:
    """A QEMU of the user's own in a root: a build that can be run, and be asked what it is."""
    return QemuBuild(
        name=root.name,
        version="",
        digest=hashlib.sha256(f"{copy.digest} {root.digest}".encode()).hexdigest(),
        root=root.directory,
        binary=copy.binary,
        # In the place of modules of the root's own QEMU: one that looks in /usr by its build would
        # load them.
        mounts=(*copy.mounts, *((copy.modules_directory, f"/{place.relative_to(root.directory)}")
                                for pattern in _MODULES
                                for place in sorted(root.directory.glob(pattern)))),
        arguments=copy.arguments,
        environment=copy.environment,
        root_name=root.name,
        root_digest=root.digest,
    )


def own_usage() -> int:
    """The bytes that copies of the user's own builds take in the cache."""
    return sum(debian.usage(home) for home in _homes())


def damaged_own() -> list[Path]:
    """Those of them that are not what they were, all of them read."""
    caches = {home: Cache(home) for home in _homes()}
    return [home / name for home, cache in caches.items() for name in cache.names()
            if cache.damage(name, whole=True) is not None]


def _homes() -> tuple[Path, Path]:
    """Where the user's own builds are, and what is needed to make them from source."""
    home = image_store.cache_home()
    return home / image_store.OWN_BUILDS, home / image_store.TOOLCHAINS


def remove_own(store: ImageStore) -> tuple[str, ...]:
    """Remove them, but for those in use, and images of suites that the catalogue does not have.

    Returns the names that their roots have in the Docker engine.
    """
    cache, toolchains = map(Cache, _homes())
    names = (*cache.names(), *store.others())
    for one in (cache, toolchains):
        one.remove_unfinished()
        for name in one.names():
            one.remove(name)
    for beside in (from_source.LOGS, from_source.CCACHES):
        debian.remove(_homes()[0] / beside)
    store.remove(store.others())
    return tuple(name for name in names if name not in cache.names())


def _ask(build: QemuBuild, what: str) -> dict[str, Any]:
    try:
        printed = ask(build, "--version")
    except ImageError as error:
        raise UserError(f"{what} does not start: {own_qemu.last_words(error)}") from None
    version = _QEMU_VERSION.search(printed)
    if not version:
        said = printed.strip().splitlines() or ["nothing"]
        raise UserError(f"{what} is no QEMU: to --version it says {said[0][:60]!r}")
    try:
        listed = ask(build, *build.arguments, "-M", "help")
    except ImageError as error:
        raise UserError(f"{what} lists no machine types: {own_qemu.last_words(error)}") from None
    machines, default = parse_machines(listed)
    if not any(map(board_of, machines)):
        raise UserError(f"{what} emulates no PC: its machine types are {', '.join(machines[:3])}, "
                        "...", hint=f"what is needed is a {own_qemu.PROGRAM}")
    devices = ""
    with contextlib.suppress(ImageError):  # what it does not say that it has, it is not given
        devices = ask(build, *build.arguments, "-device", "help")
    return {"version": version[1], "machines": machines, "default_machine": default,
            "debug_port": '"isa-debugcon"' in devices}


def _no_pc(qemu: QemuSource, arch: Arch) -> UserError:
    return UserError(f"{qemu} is asked for on {arch.value}: QEMUs of your own are those of PCs",
                     hint=f"a QEMU of the catalogue, or arch: {Arch.X86_64.value}")


def _no_kind(qemu: QemuSource, kind: str) -> UserError:
    return UserError(f"{kind} is the one beside a QEMU of Debian's, and {qemu} is none",
                     hint=f"{kind} with its version, as `bootmatrix images list --json` has it")


def _no_firmware(qemu: str | QemuSource) -> UserError:
    return UserError(f"no firmware is given, and beside {qemu} there is no "
                     f"{own_qemu.DEFAULT_FIRMWARE}", hint="firmware: a name, or {path: bios.bin}")


def _bios_where_it_is(source: QemuSource) -> Path | None:
    """The BIOS beside a QEMU that is at a path, or in a root."""
    if source.root is not None:
        program = foreign_root.find(source.root, source.program)
        return foreign_root.default_firmware(source.root, program)
    assert source.path is not None
    return own_qemu.default_firmware(own_qemu.find(source.path), source.data)
