"""The images of the catalogue, built with mmdebstrap into a cache that is keyed by content.

A build is a root file system in a directory, with a JSON file of facts and a manifest beside it.
The facts are asked of its QEMU once, when it is built. That the root is still the one they are
about is looked at once by each process that uses it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import os
import re
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import IO, Any, BinaryIO

from bootmatrix.builds import root_firmware
from bootmatrix.builds.catalogue import Catalogue, PackagesEntry, QemuEntry, load
from bootmatrix.errors import ImageError, UserError
from bootmatrix.files.shipped import IMAGES
from bootmatrix.firmware import names
from bootmatrix.firmware.identity import sha256
from bootmatrix.model import Arch, FirmwareBuild, QemuBuild
from bootmatrix.roots import archive, debian, manifest
from bootmatrix.roots.manifest import Manifest

# Part of every key: a change in how roots are made or described makes all of them anew.
RECIPE = 2
NOT_RUN = ("usr/share/doc", "usr/share/locale", "usr/share/man")
"""Where most of a root's files are, and none that takes part in a run."""
OWN_BUILDS = "own"
"""What `images rm` calls all that is cached and not the catalogue's."""
TOOLCHAINS = "toolchains"
"""Where roots are that sources are built in, in the user's cache."""
CATALOGUE = IMAGES / "catalogue.yaml"


@dataclass(frozen=True)
class BuildRow:
    """What there is to say of one QEMU build of the catalogue; ``size`` in bytes, as on disk.

    ``lacks`` says which firmware of its entry its packages turned out not to have.
    """

    name: str
    suite: str
    built: bool
    version: str = ""
    firmware: str = ""
    size: int = 0
    digest: str = ""
    when: str = ""
    architecture: str = Arch.X86_64.value
    lacks: tuple[str, ...] = ()

    @property
    def first_firmware(self) -> str:
        """The firmware beside the QEMU, and how many others there are."""
        first, *others = self.firmware.split(", ")
        return f"{first} (+{len(others)})" if others else first


def cache_home() -> Path:
    """The user's cache for this program (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # no HOME, and no entry in passwd(5)
        raise UserError("this user has no home directory, and so no cache",
                        hint="set XDG_CACHE_HOME to a directory") from None
    return base / "bootmatrix"


class Damaged(ImageError):
    """A build in the cache is not what it was: in which way, and what makes it anew."""

    def __init__(self, name: str, found: str, again: str) -> None:
        super().__init__(f"{name} is damaged in the cache: {found}; make it anew: {again}")
        self.found = found
        self.again = again


class ImageStore:
    """The builds of one catalogue and the cache they live in.

    The catalogue is read when the store is made: raises UserError for a mistake in it.
    """

    def __init__(self, catalogue: Path = CATALOGUE, cache: Path | None = None) -> None:
        self._file = catalogue
        self._catalogue: Catalogue = load(catalogue)
        self._roots = (cache or cache_home()) / "roots"
        self.toolchain_home = (cache or cache_home()) / TOOLCHAINS
        self._facts: dict[str, dict[str, Any]] = {}
        # Asked for hundreds of times a cell: a root is called by a hash over its recipe.
        self._places: dict[str, Path] = {}
        self._made: dict[str, dict[str, FirmwareBuild]] = {}
        self._intact: set[str] = set()
        self._of_suites: set[str] = set()
        self._used: dict[str, int] = {}
        weakref.finalize(self, _let_go, self._used)

    def names(self, arch: Arch | None = Arch.X86_64) -> tuple[str, ...]:
        """The QEMU builds of the catalogue, in its order; only those of PCs unless asked for more.

        ``arch`` None: of all architectures.
        """
        entries = self._catalogue.qemu.items()
        return tuple(name for name, entry in entries if arch in (None, entry.architecture))

    def for_arch(self, name: str, arch: Arch) -> str:
        """The build that ``name`` means on a host of an architecture: itself, or its sibling.

        ``debian-sid`` is ``debian-sid-aarch64`` there. Raises UserError where there is none.
        """
        for found in (name, f"{name}-{arch.value}"):
            entry = self._catalogue.qemu.get(found)
            if entry and entry.architecture is arch:
                return found
        known = self._catalogue.qemu[self._known(name)].architecture
        raise UserError(f"{name} emulates {known.value}, not {arch.value}",
                        hint=f"for {arch.value}: " + (", ".join(self.names(arch)) or "none"))

    def kinds(self, name: str | None = None) -> tuple[str, ...]:
        """The firmware of the catalogue, or of one build's entry, as called without a version."""
        known = self._catalogue.firmware
        return tuple(known if name is None else self._catalogue.qemu[self._known(name)].firmware)

    def add_suite(self, suite: str, version: str | None = None) -> str:
        """A build of a suite that the file need not name; its name, to ask for it by.

        It has the packages of the catalogue's build of this suite, qemu-system-x86 at ``version``
        if that is given. Of another suite it has the last build's, but for further firmware.
        """
        entries = self._catalogue.qemu
        same = [name for name in self.names() if entries[name].suite == suite]
        if same and version is None:
            return same[0]
        # Which packages hold UEFI firmware is not the same in each suite.
        last = entries[same[0]] if same else self._alone(self.names()[-1])
        # Both are built from one source at one time, and the one depends on just that other.
        pinned = {name: f"{name}={version}" for name in ("qemu-system-x86", "qemu-system-common")}
        packages = [name for name in last.packages
                    if not version or name.partition("=")[0] not in pinned]
        packages += pinned.values() if version else ()
        name = re.sub(r"[^a-z0-9.]+", "-", f"debian-{suite}-{version or 'own'}".lower()).strip("-.")
        entry = last.model_copy(update={"suite": suite, "packages": packages})
        self._catalogue = self._catalogue.model_copy(update={"qemu": {**entries, name: entry}})
        self._places.pop(name, None)
        self._of_suites.add(name)
        return name

    def _alone(self, name: str) -> QemuEntry:
        """A build's entry with nothing but the firmware beside its QEMU."""
        entry, known = self._catalogue.qemu[name], self._catalogue.firmware
        first, *others = entry.firmware
        dropped = {package for short in others for package in known[short].package}
        dropped -= set(known[first].package)
        packages = [package for package in entry.packages if package not in dropped]
        return entry.model_copy(update={"packages": packages, "firmware": [first]})

    @property
    def toolchains(self) -> Mapping[str, PackagesEntry]:
        """What sources are built with, by what they are of."""
        return self._catalogue.toolchains

    def suites(self) -> tuple[str, ...]:
        """The suites that builds of PCs in the catalogue are of."""
        return tuple(dict.fromkeys(self._catalogue.qemu[name].suite for name in self.names()))

    def is_built(self, name: str) -> bool:
        """Whether the build, as the catalogue has it now, is in the cache."""
        return self._facts_file(self._known(name)).is_file()

    def qemu(self, name: str) -> QemuBuild:
        """A built QEMU build.

        Raises UserError for an unknown name, ImageError if it is not built, or damaged.
        """
        facts = self._read(name)
        self.check(name)
        entry = self._catalogue.qemu[name]
        # A root has some 150 packages, and each record names those of its builds: the digest
        # covers all, the names only what makes a difference to a person.
        asked = {package.partition("=")[0] for package in entry.packages}
        return QemuBuild(
            name=name,
            version=facts["version"],
            digest=facts["digest"],
            root=self._root(name),
            binary="/" + entry.binary,
            packages=tuple(
                (package, version) for package, version in facts["packages"]
                if package in asked or package.startswith("qemu-system")
            ),
            machines=tuple(facts["machines"]),
            default_machine=facts["default_machine"],
            firmware=facts["firmware"][0]["name"],
            arch=entry.architecture,
            catalogued=True,
        )

    def firmwares(self) -> tuple[FirmwareBuild, ...]:
        """The firmware of all built images, each once, in the catalogue's order."""
        return tuple(build for build, _ in self._firmwares().values())

    def firmware(self, name: str) -> FirmwareBuild:
        """A firmware build by its name, its upstream version or a glob (``firmware_names``).

        Raises UserError if no built image has it or several are meant, ImageError if the image
        is damaged.
        """
        builds = self._firmwares()
        return self._intact_firmware(*builds[names.resolve(name, builds, self.kinds())])

    def may_have(self, firmware: str) -> tuple[str, ...]:
        """The images of the catalogue, of whatever architecture, that could have a firmware."""
        kinds = {kind for kind in self.kinds() if names.could_be(firmware, kind)}
        return tuple(name for name, entry in self._catalogue.qemu.items()
                     if kinds & set(entry.firmware))

    def _firmwares(self) -> dict[str, tuple[FirmwareBuild, str]]:
        """By its name, each firmware, and the first image that has it."""
        found: dict[str, tuple[FirmwareBuild, str]] = {}
        for name in filter(self.is_built, self.names(None)):
            for facts in self._read(name)["firmware"]:
                firmware = self._firmware_build(name, facts)
                other, _ = found.setdefault(firmware.name, (firmware, name))
                if other.sha256 != firmware.sha256:
                    raise ImageError(f"two different images are called {firmware.name}: "
                                     f"{other.path} and {firmware.path}")
        return found

    def beside(self, name: str, kind: str) -> FirmwareBuild:
        """The firmware of a kind beside a built QEMU build.

        Raises UserError if it has none, ImageError if the image is damaged.
        """
        found = {facts["short"]: facts for facts in self._read(name)["firmware"]}
        if kind not in found:
            raise UserError(f"{name} has no {kind}", hint="it has: " + ", ".join(found))
        return self._intact_firmware(self._firmware_build(name, found[kind]), name)

    def _intact_firmware(self, build: FirmwareBuild, name: str) -> FirmwareBuild:
        """The firmware, read and compared: it is small, and what all verdicts are about."""
        if build.name not in self._intact:
            self.check(name)
            try:
                digest = sha256(build.code_of(build.path.read_bytes()))
            except OSError as error:
                raise self._damaged(name, f"{build.path.name}: {error.strerror}") from None
            if digest != build.sha256:
                raise self._damaged(name, f"{build.path.relative_to(self._root(name))} is not what "
                                          "it was")
            self._intact.add(build.name)
        return build

    def check(self, name: str, *, whole: bool = False) -> None:
        """Raise Damaged unless the root of a build is what it was when it was built.

        What looks untouched is believed; with ``whole`` all of it is read.
        """
        if name in self._intact and not whole:
            return
        found = manifest.damage(
            self._root(name), self._manifest_file(name), self._read(name)["digest"], whole=whole,
            passed_over=NOT_RUN,
        )
        if found is not None:
            raise self._damaged(name, found)
        self._intact.add(name)

    def _damaged(self, name: str, found: str) -> Damaged:
        again = f"bootmatrix images rm {name} && bootmatrix images build {name}"
        if name in self._of_suites:  # a run builds it, as it is asked for
            again = f"bootmatrix images rm {OWN_BUILDS}"
        return Damaged(name, found, again)

    def _firmware_build(self, name: str, facts: dict[str, Any]) -> FirmwareBuild:
        made, short = self._made.setdefault(name, {}), facts["short"]
        if short not in made:
            signing = self._catalogue.firmware[short].signing
            made[short] = root_firmware.build(facts, self._root(name), signing)
        return made[short]

    def listing(self) -> tuple[BuildRow, ...]:
        """A row for each QEMU build of the catalogue, built or not."""
        return tuple(map(self.row, self.names(None)))

    def build(
        self, names: Sequence[str], progress: Callable[[str], None], jobs: int = 2
    ) -> None:
        """Build what is missing of ``names``, ``jobs`` side by side; what is there stays.

        ``progress`` gets one line for each thing that happens, from any thread. Raises
        ImageError of the first build that failed, after the others have ended.
        """
        missing = [name for name in dict.fromkeys(names) if not self.is_built(name)]
        if not missing:
            return
        debian.require_tools()
        mirror = debian.host_mirror()

        def one(name: str, place: str) -> None:
            with self._lock(name):
                if self.is_built(name):
                    progress(f"{name}: {place} built by another process")
                    return
                progress(f"{name}: {place} building")
                begun = monotonic()
                self._build(name, mirror)
                row = self.row(name)
                for lacking in row.lacks:
                    progress(f"{name}: {place} goes without {lacking}")
                progress(f"{name}: {place} built in {monotonic() - begun:.1f} s, "
                         f"{row.size / 1e6:.0f} MB, QEMU {row.version}, {row.first_firmware}")

        with ThreadPoolExecutor(jobs, thread_name_prefix="image") as pool:
            try:
                futures = [
                    pool.submit(one, name, f"{number}/{len(missing)}")
                    for number, name in enumerate(missing, 1)
                ]
                failures = [future.exception() for future in as_completed(futures)]
            except BaseException:
                with debian.ending_all():
                    pool.shutdown(cancel_futures=True)
                raise
        for failure in failures:
            if failure:
                raise failure

    def others(self) -> tuple[str, ...]:
        """Builds in the cache that the catalogue does not have: of suites that were asked for."""
        found = (re.fullmatch(r"(.+)-[0-9a-f]{16}\.lock", path.name)
                 for path in self._roots.glob("*.lock"))
        names = {name[1] for name in found if name}
        return tuple(sorted(names - set(self.names(None))))

    def check_unused(self, names: Sequence[str]) -> None:
        """Raise UserError for the first build that another process uses now."""
        for name in dict.fromkeys(names):
            lock = Path(f"{self._root(name)}.lock")
            if name not in self._used and lock.exists():
                with self._lock_file(lock, unused=name):
                    pass

    def remove(self, names: Sequence[str]) -> int:
        """Remove builds, also those of former catalogue entries; the bytes freed.

        Raises UserError for one that another process uses: it may be a run in the middle of it.
        """
        freed = 0
        for name in dict.fromkeys(names):
            if name not in self.others():
                self._known(name)
            lock = re.compile(re.escape(name) + r"-[0-9a-f]{16}\.lock")
            found = (path for path in self._roots.glob(f"{name}-*") if lock.fullmatch(path.name))
            if name in self._used:
                os.close(self._used.pop(name))
            for stem in sorted(path.stem for path in found):
                with self._lock_file(self._roots / f"{stem}.lock", unused=name):
                    freed += debian.usage(self._roots / stem)
                    # The facts go first: without them the root counts for nothing.
                    (self._roots / f"{stem}.json").unlink(missing_ok=True)
                    debian.remove(self._roots / stem)
                    debian.remove(self._roots / f"{stem}.tmp")
                    debian.remove(self._roots / f"{stem}.manifest")
                    debian.remove(self._roots / f"{stem}.docker")  # an engine's
                    (self._roots / f"{stem}.lock").unlink()
            self._facts.pop(name, None)
            self._made.pop(name, None)
            self._intact.clear()
        return freed

    # ---- carried in a file --------------------------------------------------------------

    def export(self, names: Sequence[str], file: BinaryIO) -> str:
        """Write builds to a file, each of which is read whole before; the file's sha256.

        Raises ImageError for one that is not built, or damaged.
        """
        for name in names:
            self.check(name, whole=True)
        # In one order: two that take them in at once do not wait for each other.
        return archive.write(file, (
            archive.Packed(self._root(name).name, self._root(name),
                           self._facts_file(name).read_bytes()) for name in sorted(names)))

    def unnamed_file(self) -> IO[bytes]:
        """A file in the cache that nobody else can open, and that is gone when it is closed."""
        self._roots.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self._roots)

    def take_in(self, file: IO[bytes]) -> tuple[str, ...]:
        """Take the builds of such a file into the cache, all or none; the names of those.

        What is there stays. What is in a root is compared with the digest in the file, and the rest
        that is said of it asked of it anew: of its QEMU in the sandbox of a QEMU that nobody
        trusts. Raises ImageError for what is damaged, or of another recipe than the catalogue's.
        """
        stems = {self._root(name).name: name for name in self.names(None)}
        taken: dict[str, dict[str, Any]] = {}
        with contextlib.ExitStack() as held:
            def place(stem: str, facts: bytes) -> Path | None:
                if stem not in stems:
                    raise ImageError(f"{stem} is no build of this catalogue, or made by another "
                                     "version of bootmatrix")
                name = stems[stem]
                if self.is_built(name):  # and maybe in use: its lock is not to be had
                    return None
                held.enter_context(self._lock(name))
                if self.is_built(name):
                    return None
                taken[name] = _said(facts)
                work = self._work(name)
                held.callback(debian.remove, work)
                debian.remove(work)
                debian.remove(self._root(name))
                work.mkdir()
                return work / "root"

            archive.read(file, place)
            made = [(name, *self._found(name, said)) for name, said in taken.items()]
            for name, facts, contents in made:
                self._keep(name, facts, contents)
        return tuple(taken)

    def _found(self, name: str, said: Mapping[str, Any]) -> tuple[dict[str, Any], Manifest]:
        """What a root is that came in a file. Raises ImageError unless it is what was said."""
        root, entry = self._work(name) / "root", self._catalogue.qemu[name]
        if not root.is_dir():
            raise ImageError(f"{name}: nothing of it is in the file")
        debian.check_sealed(root)
        contents = Manifest.of(root)
        if contents.digest != said["digest"]:
            raise ImageError(f"{name}: its sha256 is {contents.digest}, not {said['digest']}")
        from bootmatrix.builds import asking  # which imports an engine

        build = QemuBuild(name, "", contents.digest, root, "/" + entry.binary,
                          arch=entry.architecture)
        return self._describe(name, root, dict(said["packages"]), contents,
                              partial(asking.ask, build)), contents

    # ---- one build ----------------------------------------------------------------------

    def _build(self, name: str, mirror: str | None) -> None:
        """Make one root. The lock is held: what lies in its way is a dead builder's."""
        work = self._work(name)
        debian.remove(work)
        debian.remove(self._root(name))
        try:
            new = work / "root"
            new.mkdir(parents=True)
            entry = self._catalogue.qemu[name]
            debian.unpack(entry.suite, entry.packages, mirror, work, new)
            packages, contents = debian.seal(new)
            ask = partial(debian.ask, new, entry.binary)
            self._keep(name, self._describe(name, new, packages, contents, ask), contents)
        except ImageError as error:
            error.message = f"{name}: {error.message}"
            raise
        finally:
            debian.remove(work)

    def _keep(self, name: str, facts: dict[str, Any], contents: Manifest) -> None:
        """Put a root in its place that is complete in its work directory."""
        work = self._work(name)
        (work / "facts.json").write_text(facts_text(facts))
        (work / "root").rename(self._root(name))
        contents.write(self._manifest_file(name))
        (work / "facts.json").rename(self._facts_file(name))

    def _describe(
        self, name: str, root: Path, packages: dict[str, str], contents: Manifest,
        ask: Callable[..., str],
    ) -> dict[str, Any]:
        """Find out what a root is; ``ask`` is for what its QEMU prints."""
        entry = self._catalogue.qemu[name]
        for needed in (entry.binary, "bin/busybox"):
            if not (root / needed).exists():
                raise ImageError(f"{needed} is not in the packages {entry.packages}")
        # QEMU 5.2: "QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11+deb11u5)"
        printed = ask("--version")
        version = re.search(r"version (\d+(?:\.\d+)+)", printed)
        if not version:
            raise ImageError(f"{entry.binary} tells no version", tail=printed)
        machines, default = parse_machines(ask("-M", "help"))
        firmware, lacks = self._firmware(name, root, packages)
        return {
            "suite": entry.suite,
            "version": version[1],
            "digest": contents.digest,
            "size": contents.size,
            "built": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "packages": sorted(packages.items()),
            "machines": machines,
            "default_machine": default,
            "firmware": firmware,
            "lacks": lacks,
        }

    def _firmware(
        self, name: str, root: Path, packages: dict[str, str]
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """What a root has of its entry's firmware, and what it lacks, with the reason.

        A package's descriptor can name a file that the package forgot. The firmware beside the
        QEMU must be there.
        """
        entry = self._catalogue.qemu[name]
        found, lacks = [], []
        for short in entry.firmware:
            known = self._catalogue.firmware[short]
            try:
                found.append(
                    root_firmware.describe(short, known, root, packages, entry.architecture))
            except ImageError as error:
                if not found:
                    raise
                lacks.append(f"{short}: {error.message}")
        return found, lacks

    # ---- where things are ---------------------------------------------------------------

    def _known(self, name: str) -> str:
        if name not in self._catalogue.qemu:
            raise UserError(f"no such QEMU build: {name!r}", file=self._file,
                            hint="accepted: " + ", ".join(self._catalogue.qemu))
        return name

    def _root(self, name: str) -> Path:
        if name not in self._places:
            recipe = json.dumps([RECIPE, self._catalogue.recipe(name)], sort_keys=True)
            digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
            self._places[name] = self._roots / f"{name}-{digest}"
        return self._places[name]

    def _facts_file(self, name: str) -> Path:
        return Path(f"{self._root(name)}.json")

    def _manifest_file(self, name: str) -> Path:
        return Path(f"{self._root(name)}.manifest")

    def _work(self, name: str) -> Path:
        return Path(f"{self._root(name)}.tmp")

    def _read(self, name: str) -> dict[str, Any]:
        if self._known(name) not in self._facts:
            file = self._facts_file(name)
            self._use(name)
            try:
                facts = json.loads(file.read_text())
                if not isinstance(facts, dict) or facts.get("checksum") != _checksum(facts):
                    raise ValueError("what is recorded there was changed")
                self._facts[name] = facts
            except FileNotFoundError:
                raise ImageError(f"{name} is not built; build it: bootmatrix images build {name}"
                                 ) from None
            except (OSError, ValueError, RecursionError) as error:
                raise self._damaged(name, f"{file.name}: {error}") from error
        return self._facts[name]

    def row(self, name: str) -> BuildRow:
        """What there is to say of a QEMU build of the catalogue."""
        entry = self._catalogue.qemu[name]
        row = BuildRow(name, entry.suite, built=False, architecture=entry.architecture.value)
        if not self.is_built(name):
            return row
        facts = self._read(name)
        return dataclasses.replace(
            row, built=True, version=facts["version"],
            firmware=", ".join(firmware["name"] for firmware in facts["firmware"]),
            size=facts["size"], digest=facts["digest"], when=facts["built"],
            lacks=tuple(facts["lacks"]),
        )

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        self._roots.mkdir(parents=True, exist_ok=True)
        with self._lock_file(Path(f"{self._root(name)}.lock")):
            yield

    def _use(self, name: str) -> None:
        """Hold a build's lock with all others who use it, as long as this store is there."""
        if name in self._used or not self.is_built(name):
            return
        with contextlib.suppress(OSError):  # in a cache of somebody else's nothing can be removed
            used = os.open(f"{self._root(name)}.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC,
                           0o644)
            try:
                fcntl.flock(used, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:  # it is being removed: then its facts are gone, too
                os.close(used)
                return
            self._used[name] = used

    @contextlib.contextmanager
    def _lock_file(self, path: Path, unused: str = "") -> Iterator[None]:
        """Hold a build's lock; the kernel lets go of it when its holder dies.

        Raises UserError where others use the build called ``unused``; its builder is waited for.
        """
        while True:
            held = False
            with path.open("a") as file:
                if unused:
                    _check_unused(file.fileno(), unused)
                fcntl.flock(file, fcntl.LOCK_EX)
                # The one who held it may have removed the file: then this lock is nobody's.
                with contextlib.suppress(FileNotFoundError):
                    held = os.path.samestat(os.fstat(file.fileno()), path.stat())
                if held:
                    yield
                    return


def _let_go(used: dict[str, int]) -> None:
    while used:
        os.close(used.popitem()[1])


def _check_unused(lock: int, name: str) -> None:
    """Raise UserError if a lock is shared now, as those hold it who use a build."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(BlockingIOError):  # its builder has it alone
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            raise UserError(f"{name} is in use by another process",
                            hint="a run, most likely: wait for its end") from None


def _said(text: bytes) -> dict[str, Any]:
    """What a file says of a root, as far as it is believed. Raises ImageError."""
    with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError, AttributeError):
        facts = json.loads(text)
        packages = [(str(name), str(version)) for name, version in facts["packages"]]
        if facts["checksum"] == _checksum(facts):
            return {"digest": str(facts["digest"]), "packages": packages}
    raise ImageError("what it says of a root was changed")


def _checksum(facts: Mapping[str, Any]) -> str:
    """The sha256 of facts, without this one itself."""
    others = {key: value for key, value in facts.items() if key != "checksum"}
    return sha256(json.dumps(others, sort_keys=True).encode())


def facts_text(facts: Mapping[str, Any]) -> str:
    """Facts as they are written down: with a checksum, as nothing else tells of a change."""
    return json.dumps({**facts, "checksum": _checksum(facts)}, indent=1) + "\n"


MACHINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""The name of a machine type."""


def parse_machines(text: str) -> tuple[list[str], str]:
    """The concrete machine types in the output of ``-M help``, and the default one.

    Aliases ("pc  Standard PC (alias of pc-i440fx-7.2)") are left out: what they mean changes. So
    are names that no QEMU has: they would stand in records and ids.
    """
    machines, default = [], ""
    for line in text.splitlines()[1:]:
        name, _, rest = line.partition(" ")
        if MACHINE.fullmatch(name) and "(alias of " not in rest:
            machines.append(name)
            if "(default)" in rest:
                default = name
    return machines, default
