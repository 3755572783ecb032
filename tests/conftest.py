"""What tests on real QEMUs share: the built images, and an engine kept open for a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.builds import Builds
from harness.engines import Engine, choose
from harness.images import ImageStore
from harness.lab import Lab
from harness.runner import Runner

BUILDS = ("debian-bullseye", "debian-bookworm", "debian-trixie", "debian-sid")
ENGINES = ("bubblewrap", pytest.param("docker", marks=pytest.mark.docker))


@pytest.fixture(scope="session")
def store() -> ImageStore:
    """The image store with all four Debian builds in it."""
    store = ImageStore()
    store.build(BUILDS, lambda line: None)
    return store


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
def lab(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[Lab]:
    """Guests by name, in bubblewrap."""
    with Builds(store) as builds, Lab(builds, bubblewrap, tmp_path) as lab:
        yield lab


@pytest.fixture
def runner(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[Runner]:
    """A runner in bubblewrap, with artifacts in the test's directory."""
    with Builds(store) as builds, Runner(builds, bubblewrap, tmp_path) as runner:
        yield runner
