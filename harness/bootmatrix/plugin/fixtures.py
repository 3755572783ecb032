"""Fixtures, for those who write tests of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from bootmatrix.plugin.console_tail import console_tail
from bootmatrix.plugin.session import reused_options, rig_of, shown
from bootmatrix.run.rig import Rig
from bootmatrix.terminal import visible

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.engines import Engine
    from bootmatrix.lab import Lab

_lab_key = pytest.StashKey["Lab"]()


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
        request.node.stash[_lab_key] = lab
        yield lab


def tell_of_guests(item: pytest.Item, report: pytest.TestReport) -> None:
    """Put into the report of a test that failed what a cell that failed tells of its guest."""
    lab = item.stash.get(_lab_key, None)
    if lab is None or not report.failed or report.when == "teardown":
        return
    from bootmatrix.records.words import command_line, joined

    for number, made in enumerate(lab.made, 1):
        lines = [*map(command_line, made.processes)]
        tail = console_tail(made.consoles, made.consoles.parent)
        if tail:
            lines += ["", "the console's last lines:", *(f"    {line}" for line in tail)]
        lines += ["", f"logs: {shown(made.logs)}"]
        report.sections.append((f"bootmatrix guest {number}", visible("\n".join(lines))))
    options = [word for option, value in reused_options(item.config)
               for word in option.words(value)]
    file, _, name = item.nodeid.partition("::")
    again = ["pytest", *options, f"{shown(item.config.rootpath / file)}::{name}"]
    report.sections.append(("bootmatrix", visible(f"again: {joined(again)}")))
