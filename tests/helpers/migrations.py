"""A QEMU of which only the monitor and its end are there, for migrations."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from bootmatrix.deadline import Deadline
from bootmatrix.errors import DeadlineExceeded


class Vm:
    """Says ``said`` of a migration; ``asked`` is what its monitor was told, ``log`` the same.

    ``says`` and ``infos``, where there are any, come before ``said`` and ``info``.
    """

    def __init__(
        self, said: str, info: dict[str, Any] | None = None, *, name: str = "vm",
        log: list[str] | None = None, tail: str = "", status: int | None = None,
        hangs: bool = False,
    ) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.waited: list[tuple[str, int, Sequence[str]]] = []
        self.given: list[tuple[str, int]] = []
        self.hung = 0
        self.at_once: list[str] = []
        self.says: list[str] = []
        self.infos: list[dict[str, Any]] = []
        self._said, self._info, self._name, self._hangs = said, info or {}, name, hangs
        self._log = [] if log is None else log
        monitor = SimpleNamespace(execute=self._execute, execute_with_fd=self._give,
                                  mark=self._mark, wait=self._wait)
        process = SimpleNamespace(wait=self.wait_process, poll=lambda: status)
        self.of_qemu: Any = SimpleNamespace(
            name=name, monitor=monitor, process=process, log_tail=lambda: tail,
            capabilities=frozenset())

    def _execute(
        self, command: str, arguments: Any = None, *, deadline: Deadline, at_once: bool = False
    ) -> Any:
        self.asked.append((command, arguments))
        self.at_once += [command] * at_once
        self._log.append(f"{self._name} {command}")
        if command == "query-migrate" and self.infos:
            return self.infos.pop(0)
        return self._info

    def _give(self, command: str, arguments: Any, fd: int, *, deadline: Deadline) -> None:
        self.given.append((arguments["fdname"], fd))
        self._log.append(f"{self._name} {command}")

    def _mark(self) -> int:
        self.asked.append(("mark", None))
        return 7

    def _wait(
        self, event: str, *, since: int, deadline: Deadline, status: Sequence[str] = ()
    ) -> Any:
        if not status:
            self._log.append(f"{self._name} {event}")
            return None
        self.waited.append((event, since, status))
        self._log.append(f"{self._name} wait")
        return SimpleNamespace(data={"status": self.says.pop(0) if self.says else self._said})

    def wait_process(self, deadline: Deadline) -> int:
        """Until it has ended."""
        if self._hangs:
            self.hung += 1
            raise DeadlineExceeded("it runs")
        return 0
