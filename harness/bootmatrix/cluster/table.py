"""The builds of a run as data, by their content: what a worker has of it, and what it lacks.

A file system or a directory is a *tree*, called by the digest over all in it; of a file it is that
of its bytes. Where they are on the machine of the run, the table does not say.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from bootmatrix.builds import board_file
from bootmatrix.builds.host import Builds, recognisable
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cluster.model import Digest
from bootmatrix.errors import HarnessError, ImageError, UserError
from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.model import BoardSource, FirmwareBuild, Host, HostSpec, QemuBuild, Signing
from bootmatrix.roots import archive
from bootmatrix.roots.cache import Cache
from bootmatrix.roots.manifest import Manifest

_QEMU, _FIRMWARE = TypeAdapter(QemuBuild), TypeAdapter(FirmwareBuild)
_FILES = ("path", "variables", "payload", "symbols")
_TREE, _FILE = "tree", "file"


class TreeRef(BaseModel):
    """A place in a tree."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tree: Digest
    below: str = ""

    def within(self, tree: Path) -> Path:
        """That place, where the tree is here. Raises HarnessError for one that is not in it."""
        if self.below.startswith("/") or ".." in self.below.split("/"):
            raise HarnessError(f"{self.below!r} leaves its tree")
        return tree / self.below


class HostBuilds(BaseModel):
    """A host's builds: ``qemu`` and ``firmware`` as they are, but for their places.

    A board has no ``root``, but the digest by which its bench knows it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    qemu: dict[str, Any]
    root: TreeRef | None
    board: Digest | None
    restore: bool
    mounts: list[tuple[TreeRef, str]]
    firmware: dict[str, Any]
    files: dict[str, Digest]


class Table(BaseModel):
    """The builds of a run: hosts by their keys, and all firmware that can be recognised.

    ``named`` has the names of the catalogue's builds among the trees, ``disks`` the digests of the
    disk images that guests of the user's boot from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    hosts: dict[Digest, HostBuilds]
    firmwares: list[dict[str, Any]]
    named: dict[str, str]
    disks: list[Digest]

    @property
    def trees(self) -> list[str]:
        """The digests of all trees."""
        return list(dict.fromkeys(
            ref.tree for host in self.hosts.values()
            for ref in (host.root, *(mount for mount, _ in host.mounts)) if ref is not None))

    @property
    def files(self) -> list[str]:
        """The digests of all files."""
        return list(dict.fromkeys((*self.disks, *(
            digest for host in self.hosts.values() for digest in host.files.values()))))


def read_table(data: bytes) -> Table:
    """The table that has come. Raises HarnessError for what is none."""
    try:
        return Table.model_validate_json(data)
    except ValidationError as error:
        raise HarnessError(f"what came is no table of builds: {error.errors()[0]['msg']}"
                           ) from None


# ---- on the machine of the run ------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """Something that workers may lack: a tree, or a file."""

    digest: str
    path: Path
    is_tree: bool

    def write(self, file: IO[bytes]) -> None:
        """Write it as it goes to a worker."""
        if self.is_tree:
            archive.write(cast(BinaryIO, file), [archive.Packed(_TREE, self.path, b"{}")])
        else:
            with self.path.open("rb") as content:
                shutil.copyfileobj(content, file)


class Packing:
    """Makes the table of hosts, and knows where what stands in it is here."""

    def __init__(self) -> None:
        self.sent: dict[str, Sent] = {}
        self._hosts: dict[str, HostBuilds] = {}
        self._named: dict[str, str] = {}
        self._keys: dict[Host, str] = {}
        self._disks: dict[Path, str] = {}
        self._entries: dict[Path, tuple[Path, str]] = {}

    def key(self, host: Host) -> str:
        """The key of a host's builds in the table. Raises ImageError."""
        if host not in self._keys:
            data = self._data(host)
            key = hashlib.sha256(data.model_dump_json().encode()).hexdigest()
            self._hosts[key] = data
            self._keys[host] = key
        return self._keys[host]

    def disk(self, path: Path) -> str:
        """The digest of a disk image of the user's. Raises UserError for one that is not read."""
        if path not in self._disks:
            try:
                self._disks[path] = self._file(path)
            except OSError as error:
                raise UserError(f"cannot be read: {error.strerror}", file=path) from None
        return self._disks[path]

    def table(self, firmwares: Iterable[FirmwareBuild]) -> Table:
        """The table of all hosts and disks that were asked for."""
        disks = list(self._disks.values())
        return Table(hosts=self._hosts, named=self._named, disks=disks, firmwares=[
            _FIRMWARE.dump_python(_without_places(firmware), mode="json")
            for firmware in firmwares])

    def _data(self, host: Host) -> HostBuilds:
        qemu, firmware = host.qemu, host.firmware
        files = {name: self._file(place) for name in _FILES
                 if (place := getattr(firmware, name)) is not None}
        if firmware.signing is not None:
            files |= {"key": self._file(firmware.signing.key),
                      "certificate": self._file(firmware.signing.certificate)}
        root = None if qemu.board else self._tree(qemu.root)
        if root is not None and qemu.catalogued:
            self._named[root.tree] = qemu.root_name or qemu.name
        return HostBuilds(
            qemu=_QEMU.dump_python(replace(qemu, root=Path(), mounts=(), board=None), mode="json"),
            root=root, board=qemu.digest if qemu.board else None,
            restore=bool(qemu.board and qemu.board.restore),
            mounts=[(self._tree(place), inside) for place, inside in qemu.mounts],
            firmware=_FIRMWARE.dump_python(_without_places(firmware), mode="json"), files=files)

    def _file(self, path: Path) -> str:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.sent.setdefault(digest, Sent(digest, path, is_tree=False))
        return digest

    def _tree(self, place: Path) -> TreeRef:
        """The tree in a cache that a directory is, or is in."""
        if place not in self._entries:
            for entry in (place, *place.parents):
                manifest = Manifest.read(entry.with_name(f"{entry.name}.manifest"))
                if manifest is not None:
                    self._entries[place] = entry, manifest.digest
                    break
            else:
                raise ImageError(f"{place}: nothing says what is in it")
        entry, digest = self._entries[place]
        self.sent.setdefault(digest, Sent(digest, entry, is_tree=True))
        return TreeRef(tree=digest, below="" if place == entry else
                       place.relative_to(entry).as_posix())


def _without_places(firmware: FirmwareBuild) -> FirmwareBuild:
    signing = firmware.signing and Signing(Path(), Path(), firmware.signing.passphrase)
    return replace(firmware, path=Path(), variables=None, payload=None, symbols=None,
                   signing=signing)


# ---- on a worker -------------------------------------------------------------------------------


class BuildCache:
    """What a machine has of other machines' builds, in its cache; and its own, by their digests.

    What is asked for stays in use until it is closed.
    """

    def __init__(self, home: Path, store: ImageStore) -> None:
        self._home = home / "own"
        self._cache = Cache(self._home)
        self._store = store
        self._own: dict[str, Path] | None = None

    def close(self) -> None:
        """Nothing of it is in use any more."""
        self._cache.close()

    def own(self) -> dict[str, Path]:
        """The roots of the catalogue's builds that are intact here, by their digests."""
        if self._own is None:
            self._own = {}
            for name in filter(self._store.is_built, self._store.names(None)):
                try:
                    build = self._store.qemu(name)
                except ImageError:  # damaged: it is as if it were not there
                    continue
                self._own[build.digest] = build.root
        return self._own

    def has(self, digest: str) -> bool:
        """Whether a tree or a file is here, undamaged."""
        try:
            self.path(digest)
        except _Absent:
            return False
        return True

    def path(self, digest: str) -> Path:
        """Where a tree is, or a file. Raises HarnessError if it is not here."""
        if (own := self.own().get(digest)) is not None:
            return own
        kind = _TREE if (self._home / f"{_TREE}-{digest}").is_dir() else _FILE
        return self._cache.entry(f"{kind}-{digest}", _absent(digest)) / kind

    def take(self, digest: str, is_tree: bool, file: IO[bytes]) -> None:
        """Keep what has come. Raises HarnessError unless it is what it was called."""
        def fill(entry: Path) -> None:
            if is_tree:
                archive.read(file, lambda stem, facts: entry / _TREE)
                found = Manifest.of(entry / _TREE).digest
            else:
                with (entry / _FILE).open("w+b") as copy:
                    shutil.copyfileobj(file, copy)
                    copy.seek(0)
                    found = hashlib.file_digest(copy, "sha256").hexdigest()
            if found != digest:
                raise ImageError(f"what came as {digest[:16]} has the sha256 {found[:16]}")

        self._cache.entry(f"{_TREE if is_tree else _FILE}-{digest}", fill)


class _Absent(HarnessError):
    """A build is not on this machine."""


def _absent(digest: str) -> Callable[[Path], None]:
    def fill(entry: Path) -> None:
        raise _Absent(f"the build {digest[:16]} is not on this machine")

    return fill


def boards_of(files: Iterable[Path]) -> dict[str, BoardSource]:
    """The boards of environment files, by their digests. Raises UserError for a file of none."""
    found = [BoardSource(env=file, target=target)
             for file in files for target in board_file.targets(file)]
    for source in found:
        board_file.ready(source)
    return {board_file.digest(source): source for source in found}


class SentBuilds(Builds):
    """The builds of a run's table, where they are on this machine; ``boards`` are on its bench."""

    def __init__(
        self, store: ImageStore, table: Table, cache: BuildCache, boards: Mapping[str, BoardSource]
    ) -> None:
        super().__init__(store)
        self._boards = boards
        self._table = table
        self._build_cache = cache
        self._made: dict[str, tuple[QemuBuild, FirmwareBuild]] = {}
        self._known = tuple(_FIRMWARE.validate_python(data) for data in table.firmwares)

    def close(self) -> None:
        """They may be removed when they grow old."""
        super().close()
        self._build_cache.close()

    def host(self, spec: HostSpec) -> Host:
        """The builds that a host of a task stands for. Raises HarnessError."""
        key = str(spec.qemu)
        if key not in self._made:
            if key not in self._table.hosts:
                raise HarnessError("a host of the cell is not in the run's table")
            self._made[key] = self._placed(self._table.hosts[key])
        return Host(spec.name, *self._made[key], spec.arguments)

    def disk(self, digest: str) -> Path:
        """Where a disk image of the run's table is. Raises HarnessError."""
        if digest not in self._table.disks:
            raise HarnessError("a disk of the cell is not in the run's table")
        return self._build_cache.path(digest)

    def known_firmware(self, hosts: Sequence[Host], machine: str) -> KnownFirmware:
        """What can be recognised, as on the machine of the run."""
        return recognisable(self._known, hosts, machine)

    def _placed(self, data: HostBuilds) -> tuple[QemuBuild, FirmwareBuild]:
        def place(ref: TreeRef) -> Path:
            return ref.within(self._build_cache.path(ref.tree))

        try:
            qemu = _QEMU.validate_python(data.qemu)
            firmware = _FIRMWARE.validate_python(data.firmware)
        except ValidationError as error:
            raise HarnessError(f"what came is no build: {error.errors()[0]['msg']}") from None
        files: Mapping[str, Path] = {
            name: self._build_cache.path(digest) for name, digest in data.files.items()}
        firmware = replace(
            firmware, path=files.get("path", Path()), variables=files.get("variables"),
            payload=files.get("payload"), symbols=files.get("symbols"))
        if firmware.signing is not None:
            firmware = replace(firmware, signing=Signing(
                files["key"], files["certificate"], firmware.signing.passphrase))
        if data.board is not None:
            return replace(qemu, board=self._board(data)), firmware
        if data.root is None:
            raise HarnessError("what came is neither a QEMU nor a board")
        return replace(qemu, root=place(data.root), mounts=tuple(
            (place(ref), inside) for ref, inside in data.mounts)), firmware

    def _board(self, data: HostBuilds) -> BoardSource:
        """The board, if it is still the one that was announced. Raises HarnessError."""
        source = self._boards.get(data.board or "")
        if source is None or board_file.digest(source) != data.board:
            raise HarnessError("the board of the cell is not on this machine's bench (any more)")
        return replace(source, restore=data.restore)
