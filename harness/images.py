"""The images of the catalogue, built with mmdebstrap into a cache that is keyed by content.

A build is a root file system in a directory, with a JSON file of facts beside it. The facts are
asked of its QEMU once, when it is built.
"""

from __future__ import annotations

import contextlib
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

from harness import debian
from harness.catalogue import Catalogue, load
from harness.errors import ImageError, UserError
from harness.identity import printed_version
from harness.model import FirmwareBuild, Interface, QemuBuild

# Part of every key: a change in how roots are made or described makes all of them anew.
RECIPE = 1
CATALOGUE = Path(__file__).resolve().parent.parent / "images" / "catalogue.yaml"


@dataclass(frozen=True)
class Row:
    """What there is to say of one QEMU build of the catalogue; ``size`` in bytes, as on disk."""

    name: str
    suite: str
    built: bool
    version: str = ""
    firmware: str = ""
    size: int = 0
    digest: str = ""
    when: str = ""


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

    def names(self) -> tuple[str, ...]:
        """The QEMU builds of the catalogue, in its order."""
        return tuple(self._catalogue.qemu)

    def add_suite(self, suite: str, version: str | None = None) -> str:
        """A build of a suite that the file need not name; its name, to ask for it by.

        It has the packages of the catalogue's last build, qemu-system-x86 at ``version`` if that
        is given. Without, a build that the catalogue has of the suite is it.
        """
        entries = self._catalogue.qemu
        if version is None:
            for name, entry in entries.items():
                if entry.suite == suite:
                    return name
        last = list(entries.values())[-1]
        # Both are built from one source at one time, and the one depends on just that other.
        pinned = {name: f"{name}={version}" for name in ("qemu-system-x86", "qemu-system-common")}
        packages = [name for name in last.packages if not version or name not in pinned]
        packages += pinned.values() if version else ()
        name = re.sub(r"[^a-z0-9.]+", "-", f"debian-{suite}-{version or 'own'}".lower()).strip("-.")
        entry = last.model_copy(update={"suite": suite, "packages": packages})
        self._catalogue = self._catalogue.model_copy(update={"qemu": {**entries, name: entry}})
        return name

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
        )

    def firmwares(self) -> tuple[FirmwareBuild, ...]:
        """The firmware of all built images, each once, in the catalogue's order."""
        found: dict[str, FirmwareBuild] = {}
        for name in filter(self.is_built, self.names()):
            for facts in self._read(name)["firmware"]:
                firmware = FirmwareBuild(
                    name=facts["name"],
                    sha256=facts["sha256"],
                    size=facts["size"],
                    path=self._root(name) / facts["file"],
                    interface=Interface(facts["interface"]),
                    prints=facts["prints"],
                )
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

    def listing(self) -> tuple[Row, ...]:
        """A row for each QEMU build of the catalogue, built or not."""
        return tuple(self._row(name) for name in self.names())

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
                progress(f"{name}: {place} built in {monotonic() - begun:.1f} s, "
                         f"{row.size / 1e6:.0f} MB, QEMU {row.version}, {row.firmware}")

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
        return tuple(sorted(names - set(self.names())))

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
        return {
            "suite": entry.suite,
            "version": version[1],
            "digest": digest,
            "size": size,
            "built": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "packages": sorted(packages.items()),
            "machines": machines,
            "default_machine": default,
            "firmware": [self._firmware(short, root, packages) for short in entry.firmware],
        }

    def _firmware(self, short: str, root: Path, packages: dict[str, str]) -> dict[str, Any]:
        entry = self._catalogue.firmware[short]
        try:
            image = (root / entry.file).read_bytes()
        except OSError as error:
            raise ImageError(f"{entry.package} brings no {entry.file}: {error.strerror}") from error
        return {
            "name": f"{short}-{packages[entry.package]}",
            "file": entry.file,
            "sha256": hashlib.sha256(image).hexdigest(),
            "size": len(image),
            "interface": entry.interface.value,
            "prints": printed_version(image),
        }

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
        suite = self._catalogue.qemu[name].suite
        if not self.is_built(name):
            return Row(name, suite, built=False)
        facts = self._read(name)
        firmware = ", ".join(firmware["name"] for firmware in facts["firmware"])
        return Row(name, suite, True, facts["version"], firmware, facts["size"],
                   facts["digest"], facts["built"])

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
