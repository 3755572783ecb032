"""The test suite's own rules: pytester for the faces, and what needs a Docker engine."""

from __future__ import annotations

import os
from typing import Any

import pytest

pytest_plugins = ["pytester"]

REQUIRED = "BOOTMATRIX_REQUIRE_DOCKER"
LEFT_OUT = "bootmatrix_left_out"
left_out_key = pytest.StashKey[int]()


def docker_complaint() -> str | None:
    """Why no Docker engine can be used here, in one line; None if one answers."""
    from harness.engines import choose
    from harness.errors import EngineError

    try:
        choose("docker").close()
    except EngineError as error:
        return error.message.splitlines()[0]
    return None


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and fail at once where an engine is required but does not answer."""
    config.addinivalue_line("markers", "docker: needs a Docker engine that answers")
    if os.environ.get(REQUIRED) == "1" and not hasattr(config, "workerinput"):
        complaint = docker_complaint()
        if complaint:
            raise pytest.UsageError(f"{REQUIRED}=1, but {complaint}")


@pytest.hookimpl(trylast=True)  # after -k and -m have taken their part
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and count, what cannot run without an engine."""
    marked = [item for item in items if item.get_closest_marker("docker")]
    if not marked or docker_complaint() is None:
        return
    items[:] = [item for item in items if item not in marked]
    config.hook.pytest_deselected(items=marked)
    config.stash[left_out_key] = len(marked)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the count to the process with the terminal."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[LEFT_OUT] = session.config.stash.get(left_out_key, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take the count from a worker; each has collected everything, so they agree."""
    count = getattr(node, "workeroutput", {}).get(LEFT_OUT, 0)
    if count:
        node.config.stash[left_out_key] = count


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name in one line what was not run."""
    count = config.stash.get(left_out_key, 0)
    if count:
        terminalreporter.write_line(f"not run without a Docker engine: {count} tests")
