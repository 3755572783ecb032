"""The emulator of TPMs that runs beside a QEMU: swtpm, in a root of its own in the cache.

It is made when it is first asked for, so nobody waits for it who has no guest with a TPM.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from functools import lru_cache
from pathlib import Path

from bootmatrix.builds import catalogue
from bootmatrix.builds.catalogue import PackagesEntry
from bootmatrix.errors import ImageError
from bootmatrix.files.shipped import IMAGES
from bootmatrix.model import QemuBuild
from bootmatrix.roots import debian
from bootmatrix.roots.cache import Cache

CATALOGUE = IMAGES / "catalogue.yaml"
BINARY = "/usr/bin/swtpm"
_RECIPE = 1  # to be changed where what is made of an entry changes
_FACTS, _ROOT = "facts.json", "root"


def beside(qemu: QemuBuild, cache: Path) -> QemuBuild:
    """The swtpm that runs beside a QEMU, made first if ``cache`` lacks it; a build as a QEMU's is.

    The first time takes some ten seconds and the package archive. Raises ImageError.
    """
    return _made(*entry_for(qemu), cache)


def entry_for(qemu: QemuBuild) -> tuple[str, PackagesEntry]:
    """Which one that is, by its name in the catalogue: that of the QEMU's suite, or the first."""
    known = catalogue.load(CATALOGUE)
    own = known.qemu.get(qemu.root_name or qemu.name)
    entries = known.swtpm.items()
    return next((found for found in entries if own and found[1].suite == own.suite),
                next(iter(entries)))


@lru_cache
def _cache(home: Path) -> Cache:
    """What is asked of it is in use as long as this process lives."""
    return Cache(home)


def _made(name: str, entry: PackagesEntry, cache: Path) -> QemuBuild:
    recipe = json.dumps([_RECIPE, entry.model_dump(mode="json")], sort_keys=True)
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]

    def fill(place: Path) -> None:
        debian.require_tools()
        root = place / _ROOT
        root.mkdir()
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=place) as work:
            debian.unpack(entry.suite, entry.packages, debian.host_mirror(), Path(work), root)
        packages, contents = debian.seal(root)
        if not (root / BINARY.lstrip("/")).exists():
            raise ImageError(f"{name}: {BINARY} is not in the packages {entry.packages}")
        (place / _FACTS).write_text(json.dumps(
            {"digest": contents.digest, "packages": sorted(packages.items())}))

    place = _cache(cache / "own").entry(f"{name}-{digest}", fill)
    facts = json.loads((place / _FACTS).read_text())
    packages = tuple((package, version) for package, version in facts["packages"]
                     if package in ("swtpm", "libtpms0"))
    return QemuBuild(name, dict(packages)["swtpm"], facts["digest"], place / _ROOT, BINARY,
                     packages, catalogued=True)
