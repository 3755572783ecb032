"""The images of the catalogue, built with mmdebstrap into a cache that is keyed by content.

A build is a root file system in a directory, with a JSON file of facts beside it. The facts are
asked of its QEMU once, when it is built.
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from harness import debian, root_firmware
from harness.catalogue import Catalogue, QemuEntry, load
from harness.errors import ImageError, UserError
from harness.model import Arch, FirmwareBuild, QemuBuild

# Part of every key: a change in how roots are made or described makes all of them anew.
RECIPE = 2
CATALOGUE = Path(__file__).resolve().parent.parent / "images" / "catalogue.yaml"


@dataclass(frozen=True)
class Row:
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
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
    return base / "bootmatrix"


class ImageStore:
    """The builds of one catalogue and the cache they live in.

    The catalogue is read when the store is made: raises UserError for a mistake in it.
    """

    def __init__(self, catalogue: Path = CATALOGUE, cache: Path | None = None) -> None:
        self._file = catalogue
        self._catalogue: Catalogue = load(catalogue)
        self._roots = (cache or cache_home()) / "roots"
        self._facts: dict[str, dict[str, Any]] = {}

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
        return name

    def _alone(self, name: str) -> QemuEntry:
        """A build's entry with nothing but the firmware beside its QEMU."""
        entry, known = self._catalogue.qemu[name], self._catalogue.firmware
        first, *others = entry.firmware
        dropped = {package for short in others for package in known[short].package}
        dropped -= set(known[first].package)
        packages = [package for package in entry.packages if package not in dropped]
        return entry.model_copy(update={"packages": packages, "firmware": [first]})

    def is_built(self, name: str) -> bool:
        """Whether the build, as the catalogue has it now, is in the cache."""
        return self._facts_file(self._known(name)).is_file()

    def qemu(self, name: str) -> QemuBuild:
        """A built QEMU build. Raises UserError for an unknown name, ImageError if not built."""
        facts = self._read(name)
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
        )

    def firmwares(self) -> tuple[FirmwareBuild, ...]:
        """The firmware of all built images, each once, in the catalogue's order."""
        found: dict[str, FirmwareBuild] = {}
        for name in filter(self.is_built, self.names(None)):
            for facts in self._read(name)["firmware"]:
                firmware = self._firmware_build(name, facts)
                other = found.setdefault(firmware.name, firmware)
                if other.sha256 != firmware.sha256:
                    raise ImageError(f"two different images are called {firmware.name}: "
                                     f"{other.path} and {firmware.path}")
        return tuple(found.values())

    def firmware(self, name: str) -> FirmwareBuild:
        """A firmware build by name. Raises UserError if no built image has it."""
        builds = {build.name: build for build in self.firmwares()}
        if name not in builds:
            raise UserError(f"no such firmware build: {name!r}",
                            hint="built: " + (", ".join(builds) or "none"))
        return builds[name]

    def beside(self, name: str, kind: str) -> FirmwareBuild:
        """The firmware of a kind beside a built QEMU build. Raises UserError if it has none."""
        found = {facts["short"]: facts for facts in self._read(name)["firmware"]}
        if kind not in found:
            raise UserError(f"{name} has no {kind}", hint="it has: " + ", ".join(found))
        return self._firmware_build(name, found[kind])

    def _firmware_build(self, name: str, facts: dict[str, Any]) -> FirmwareBuild:
        signing = self._catalogue.firmware[facts["short"]].signing
        return root_firmware.build(facts, self._root(name), signing)

    def listing(self) -> tuple[Row, ...]:
        """A row for each QEMU build of the catalogue, built or not."""
        return tuple(self._row(name) for name in self.names(None))

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
                row = self._row(name)
                for lacking in row.lacks:
                    progress(f"{name}: {place} goes without {lacking}")
                progress(f"{name}: {place} built in {monotonic() - begun:.1f} s, "
                         f"{row.size / 1e6:.0f} MB, QEMU {row.version}, {row.first_firmware}")

        with ThreadPoolExecutor(jobs, thread_name_prefix="image") as pool:
            futures = [
                pool.submit(one, name, f"{number}/{len(missing)}")
                for number, name in enumerate(missing, 1)
            ]
            try:
                failures = [future.exception() for future in as_completed(futures)]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
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

    def remove(self, names: Sequence[str]) -> int:
        """Remove builds, also those of former catalogue entries; the bytes freed."""
        freed = 0
        for name in dict.fromkeys(names):
            if name not in self.others():
                self._known(name)
            lock = re.compile(re.escape(name) + r"-[0-9a-f]{16}\.lock")
            found = (path for path in self._roots.glob(f"{name}-*") if lock.fullmatch(path.name))
            for stem in sorted(path.stem for path in found):
                with self._lock_file(self._roots / f"{stem}.lock"):
                    freed += debian.usage(self._roots / stem)
                    # The facts go first: without them the root counts for nothing.
                    (self._roots / f"{stem}.json").unlink(missing_ok=True)
                    debian.remove(self._roots / stem)
                    debian.remove(self._roots / f"{stem}.tmp")
                    (self._roots / f"{stem}.lock").unlink()
            self._facts.pop(name, None)
        return freed

    # ---- one build ----------------------------------------------------------------------

    def _build(self, name: str, mirror: str | None) -> None:
        """Make one root. The lock is held: what lies in its way is a dead builder's."""
        root, facts_file, work = self._root(name), self._facts_file(name), self._work(name)
        debian.remove(work)
        debian.remove(root)
        try:
            new = work / "root"
            new.mkdir(parents=True)
            entry = self._catalogue.qemu[name]
            debian.unpack(entry.suite, entry.packages, mirror, work, new)
            facts = self._describe(name, new)
            (work / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
            new.rename(root)
            (work / "facts.json").rename(facts_file)
        except ImageError as error:
            error.message = f"{name}: {error.message}"
            raise
        finally:
            debian.remove(work)

    def _describe(self, name: str, root: Path) -> dict[str, Any]:
        """Seal a fresh root, and find out what it is."""
        entry = self._catalogue.qemu[name]
        packages, digest, size = debian.seal(root)
        for needed in (entry.binary, "bin/busybox"):
            if not (root / needed).exists():
                raise ImageError(f"{needed} is not in the packages {entry.packages}")
        # QEMU 5.2: "QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11+deb11u5)"
        printed = debian.ask(root, entry.binary, "--version")
        version = re.search(r"version (\d+(?:\.\d+)+)", printed)
        if not version:
            raise ImageError(f"{entry.binary} tells no version", tail=printed)
        machines, default = parse_machines(debian.ask(root, entry.binary, "-M", "help"))
        firmware, lacks = self._firmware(name, root, packages)
        return {
            "suite": entry.suite,
            "version": version[1],
            "digest": digest,
            "size": size,
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
        recipe = json.dumps([RECIPE, self._catalogue.recipe(name)], sort_keys=True)
        return self._roots / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"

    def _facts_file(self, name: str) -> Path:
        return Path(f"{self._root(name)}.json")

    def _work(self, name: str) -> Path:
        return Path(f"{self._root(name)}.tmp")

    def _read(self, name: str) -> dict[str, Any]:
        if self._known(name) not in self._facts:
            file = self._facts_file(name)
            try:
                self._facts[name] = json.loads(file.read_text())
            except FileNotFoundError:
                raise ImageError(f"{name} is not built; build it: bootmatrix images build {name}"
                                 ) from None
            except ValueError as error:
                raise ImageError(f"{file} is damaged ({error}); make it anew: "
                                 f"bootmatrix images rm {name}") from error
        return self._facts[name]

    def _row(self, name: str) -> Row:
        entry = self._catalogue.qemu[name]
        row = Row(name, entry.suite, built=False, architecture=entry.architecture.value)
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

    @contextlib.contextmanager
    def _lock_file(self, path: Path) -> Iterator[None]:
        """Hold a build's lock; the kernel lets go of it when its holder dies."""
        while True:
            held = False
            with path.open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # The one who held it may have removed the file: then this lock is nobody's.
                with contextlib.suppress(FileNotFoundError):
                    held = os.path.samestat(os.fstat(file.fileno()), path.stat())
                if held:
                    yield
                    return


def parse_machines(text: str) -> tuple[list[str], str]:
    """The concrete machine types in the output of ``-M help``, and the default one.

    Aliases ("pc  Standard PC (alias of pc-i440fx-7.2)") are left out: what they mean changes.
    """
    machines, default = [], ""
    for line in text.splitlines()[1:]:
        name, _, rest = line.partition(" ")
        if name and "(alias of " not in rest:
            machines.append(name)
            if "(default)" in rest:
                default = name
    return machines, default
