"""What tests on real QEMUs share: the built images, and an engine kept open for a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.engines import Engine, choose
from bootmatrix.lab import Lab
from bootmatrix.machines.qemu import black_box
from bootmatrix.model import FirmwareBuild
from bootmatrix.run.runner import Runner

# A busy machine is no fault of the code: no test is timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

FIRST = ("test_fresh_clone.py", "test_source_builds.py", "test_deploy.py",
         "test_cluster_on_qemu.py", "test_bench.py", "test_boards_on_a_bench.py",
         "test_nothing_left.py", "test_hostile_builds.py", "test_uefi_on_qemu.py",
         "test_uefi_probe.py", "test_three_machines.py", "test_linux.py", "test_own_builds.py")
"""The files whose tests take longest: begun last, they would be waited for by everybody."""
BUILDS = ("debian-bullseye", "debian-bookworm", "debian-trixie", "debian-sid")
ENGINES = ("bubblewrap", pytest.param("docker", marks=pytest.mark.docker))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first; with workers, its later parts go to whoever has none left."""
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(FIRST)))


class Stocked(ImageStore):
    """The shared cache's store; a build that a test asks for and nobody made yet is made.

    So no test leans on what an earlier one, or another day, has left in the cache.
    """

    def _read(self, name: str) -> dict[str, Any]:
        if not self.is_built(name):
            self.build([name], lambda line: None)
        return super()._read(name)


@pytest.fixture(scope="session")
def store() -> ImageStore:
    """The image store with all four Debian builds in it, and any other at first need."""
    store = Stocked()
    store.build(BUILDS, lambda line: None)
    return store


@pytest.fixture(scope="session")
def seabios(store: ImageStore) -> dict[str, FirmwareBuild]:
    """Each suite's SeaBIOS: suites take new packages, so no test says what they are called."""
    return {name.removeprefix("debian-"): store.beside(name, "seabios") for name in BUILDS}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Both engines, one after the other."""
    with choose(request.param) as engine:
        yield engine


@pytest.fixture(scope="module")
def bubblewrap() -> Iterator[Engine]:
    """The engine that is always there."""
    with choose("bubblewrap") as engine:
        yield engine


@pytest.fixture
def ample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for all of a black box, however busy the machine is."""
    for name in ("SECONDS", "_ANSWER_SECONDS", "_SAMPLING_SECONDS"):
        monkeypatch.setattr(black_box, name, 20.0)


@pytest.fixture
def lab(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[Lab]:
    """Guests by name, in bubblewrap."""
    with Builds(store) as builds, Lab(builds, bubblewrap, tmp_path) as lab:
        yield lab


@pytest.fixture
def runner(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[Runner]:
    """A runner in bubblewrap, with artifacts in the test's directory."""
    with Builds(store) as builds, Runner(builds, bubblewrap, tmp_path) as runner:
        yield runner
