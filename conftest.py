"""The test suite's own rules: pytester for the faces, and what not every machine has."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

# A worker collects seven thousand tests, and nothing of them is garbage before its end: to look
# for some was a sixth of the time that collecting takes.
gc.disable()

CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
LEFT_OUT = "bootmatrix_left_out"
left_out_key = pytest.StashKey[dict[str, int]]()


def docker_complaint() -> str | None:
    """Why no Docker engine can be used here, in one line; None if one answers."""
    from bootmatrix.engines import choose
    from bootmatrix.errors import EngineError

    try:
        choose("docker").close()
    except EngineError as error:
        return error.message.splitlines()[0]
    return None


def kvm_complaint() -> str | None:
    """Why no sandbox can use KVM here, in one line; None if it can."""
    from bootmatrix.engines import confinement

    return confinement.kvm_complaint()


def userfaultfd_complaint() -> str | None:
    """Why no sandbox can use userfaultfd here, in one line; None if it can."""
    from bootmatrix.engines import confinement
    from bootmatrix.model import Grant

    return confinement.complaint({Grant.USERFAULTFD})


@dataclass(frozen=True)
class Need:
    """What tests with a marker need: its name, why it is not here, and what demands it."""

    name: str
    complaint: Callable[[], str | None]
    required: str


NEEDS = {
    "docker": Need("a Docker engine", docker_complaint, "BOOTMATRIX_REQUIRE_DOCKER"),
    "kvm": Need("KVM", kvm_complaint, "BOOTMATRIX_REQUIRE_KVM"),
    "userfaultfd": Need(
        "/dev/userfaultfd", userfaultfd_complaint, "BOOTMATRIX_REQUIRE_USERFAULTFD"),
}
"""By their markers."""


class AtOnce:
    """Names a failure as it comes: a suite that is ended from outside prints no summary."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One line: which test, in which of its phases, and why."""
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = (crash.message if crash else str(report.longrepr)).strip().partition("\n")[0]
            self._reporter.write_line(f"\n{report.when} of {report.nodeid[:200]}: {why[:300]}")


MARKERS = (
    "slow: minutes, or needs what no other test needs: `make test-all` alone runs it",
    "thorough: seconds of a processor, for more of what a quicker test shows: "
    "`make test` leaves it out, CI and `make test-all` run it",
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and fail at once where something is required but not there."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    for marker, need in NEEDS.items():
        config.addinivalue_line("markers", f"{marker}: needs {need.name} that can be used here")
        if os.environ.get(need.required) == "1" and not hasattr(config, "workerinput"):
            complaint = need.complaint()
            if complaint:
                raise pytest.UsageError(f"{need.required}=1, but {complaint}")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Listen where the terminal is: there is none before, and none in a worker."""
    manager = session.config.pluginmanager
    reporter = manager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(session.config, "workerinput"):
        manager.register(AtOnce(reporter))


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """pytest's own: its sessions import no plugin that has nothing to do there, each anew.

    And though it gives them another home, they have the images of this one: nobody builds them.
    """
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:labgrid -p no:hypothesispytest")
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    return pytester


@pytest.hookimpl(trylast=True)  # after -k and -m have taken their part
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and count, what cannot run here."""
    left_out = config.stash[left_out_key] = {}
    for marker, need in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and need.complaint() is not None:
            items[:] = [item for item in items if item not in marked]
            config.hook.pytest_deselected(items=marked)
            left_out[marker] = len(marked)


def pytest_collection_finish() -> None:
    """From here on there is garbage, but not of what was collected."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the counts to the process with the terminal."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[LEFT_OUT] = session.config.stash.get(left_out_key, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take the counts from a worker; each has collected everything, so they agree."""
    left_out = getattr(node, "workeroutput", {}).get(LEFT_OUT, {})
    if left_out:
        node.config.stash[left_out_key] = left_out


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name in one line each what was not run."""
    for marker, count in config.stash.get(left_out_key, {}).items():
        terminalreporter.write_line(f"not run without {NEEDS[marker].name}: {count} tests")
