"""Fixtures, for those who write tests of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from bootmatrix.plugin.session import rig_of
from bootmatrix.run.rig import Rig

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.engines import Engine
    from bootmatrix.lab import Lab


@pytest.fixture(scope="session")
def bootmatrix_store(pytestconfig: pytest.Config) -> ImageStore:
    """The images that are cached on this machine; ``build`` makes those that are missing."""
    rig = rig_of(pytestconfig)
    assert isinstance(rig, Rig)
    return rig.store


@pytest.fixture(scope="session")
def bootmatrix_builds(pytestconfig: pytest.Config) -> Builds:
    """Those images and builds of your own, by where they are."""
    rig = rig_of(pytestconfig)
    assert isinstance(rig, Rig)
    return rig.builds


@pytest.fixture(scope="session")
def bootmatrix_engine(pytestconfig: pytest.Config) -> Engine:
    """The engine that QEMUs run in: that of ``--bootmatrix-engine``, or the best one here."""
    rig = rig_of(pytestconfig)
    assert isinstance(rig, Rig)
    return rig.engine


@pytest.fixture
def bootmatrix(
    request: pytest.FixtureRequest, bootmatrix_builds: Builds, bootmatrix_engine: Engine
) -> Iterator[Lab]:
    """Makes guests: launch on a host, migrate, reset, and ask which firmware ran."""
    from bootmatrix.lab import Lab

    name = re.sub(r"[^A-Za-z0-9._,-]+", "-", request.node.nodeid.partition("::")[2])
    directory = rig_of(request.config).run_dir / "tests" / name
    with Lab(bootmatrix_builds, bootmatrix_engine, directory) as lab:
        yield lab
