"""With ``--cluster``: cells go to workers, and each is reported when its record has come.

The items are the very same, and so is what is done with each: its protocol is run when it is over.
"""

from __future__ import annotations

import pytest

from bootmatrix.errors import HarnessError, UserError
from bootmatrix.plugin.cells import CellItem
from bootmatrix.plugin.collection import progress_of
from bootmatrix.plugin.session import is_worker, only_looks, rig_of, wishes_of
from bootmatrix.run.rig import Begun
from bootmatrix.terminal import visible

_WAIT_SECONDS = 0.2


def register(config: pytest.Config) -> None:
    """Have the session's cells go to a cluster, if one is asked for.

    Raises UsageError for one that cannot be, or must not be, used.
    """
    wishes = wishes_of(config)
    if wishes is None or is_worker(config) or only_looks(config):
        return
    if config.getoption("numprocesses", None):
        raise pytest.UsageError("-n is for one machine, and --cluster for several: each worker "
                                "says itself how many cells it runs side by side")
    try:
        wishes.check()
    except UserError as error:
        raise pytest.UsageError(visible(str(error))) from None
    config.pluginmanager.register(_Loop(), "bootmatrix-cluster")


class _Loop:
    """The loop over a session's items."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> object:
        """Run the session's items, the cells among them on the workers of a cluster."""
        if session.config.option.collectonly or (
                session.testsfailed and not session.config.option.continue_on_collection_errors):
            return None
        cells = [item for item in session.items if isinstance(item, CellItem)]
        if not cells:
            return None
        Spread(session).run(cells)
        return True


class Spread:
    """Gives a session's cells to a cluster, a few more at a time than run there."""

    def __init__(self, session: pytest.Session) -> None:
        from bootmatrix.cluster.rig import ClusterRig

        rig = rig_of(session.config)
        assert isinstance(rig, ClusterRig)
        self._session = session
        self._rig = rig
        self._flying: dict[Begun, CellItem] = {}

    def run(self, cells: list[CellItem]) -> None:
        """Run all items; those that are no cells here, and first."""
        new = [item for item in cells if not item.is_finished]
        try:
            if new:
                self._rig.open([item.cell for item in new], progress_of(self._session.config))
        except (HarnessError, UserError):
            pass  # the first cell tells it
        waiting = self._session.items[::-1]
        while waiting or self._flying:
            while waiting and (not self._flying or self._rig.has_capacity):
                item = waiting.pop()
                begun = item.send(self._rig) if isinstance(item, CellItem) else None
                if begun is not None and not begun.is_complete:
                    self._flying[begun] = item  # type: ignore[assignment]
                else:
                    self._report(item)
            for begun in self._rig.wait(_WAIT_SECONDS) if self._flying else ():
                if (of_it := self._flying.pop(begun, None)) is not None:
                    self._report(of_it)

    def _report(self, item: pytest.Item) -> None:
        """Run an item's protocol, as pytest's own loop does."""
        self._session.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)
