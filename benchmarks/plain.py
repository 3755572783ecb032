"""The plain driver: boot, live migration, reset by the same QEMU commands, and nothing around them.

No library, no record, no expectation: unix sockets that QEMU connects to, JSON lines, select.
It is what a cell of the harness is compared with.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SECONDS = 20.0


class Plain:
    """A QEMU in a bubblewrap of its own, its monitor and its console."""

    def __init__(self, root: Path, cell: Path, name: str, argv: Sequence[str]) -> None:
        self._cell = cell
        directory = cell / name
        directory.mkdir()
        listeners = []
        for kind in ("monitor", "console"):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(directory / f"{kind}.sock"))
            listener.listen(1)
            listener.settimeout(SECONDS)
            listeners.append(listener)
        self._listeners = listeners
        with (directory / "qemu.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["bwrap", "--ro-bind", str(root), "/", "--dev", "/dev", "--proc", "/proc",
                 "--tmpfs", "/tmp",  # noqa: S108
                 "--bind", str(cell), "/cell", "--chdir", "/cell", "--unshare-all",
                 "--cap-drop", "ALL", "--die-with-parent", *argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._text = b""

    def connect(self) -> None:
        """Take QEMU's connections, and leave the monitor's negotiation mode."""
        monitor, console = self._listeners
        self.monitor = monitor.accept()[0].makefile("rwb", buffering=0)
        self.console = console.accept()[0]
        self.console.settimeout(SECONDS)
        for listener in self._listeners:
            listener.close()
        self.monitor.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """A monitor command's result."""
        message = {"execute": command} | ({"arguments": arguments} if arguments else {})
        self.monitor.write(json.dumps(message).encode())
        while True:
            answer = json.loads(self.monitor.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(answer["error"])

    def until_migrated(self) -> None:
        """Wait for the event that tells of a completed migration."""
        while True:
            event = json.loads(self.monitor.readline())
            if event.get("event") == "MIGRATION" and event["data"]["status"] == "completed":
                return

    def until_up(self) -> None:
        """Wait for the probe guest's line."""
        while True:
            if b"BOOTMATRIX up " in self._text and self._text.endswith(b"\n"):
                self._text = b""
                return
            data = self.console.recv(65536)
            if not data:
                raise RuntimeError("QEMU has gone")
            self._text += data

    def quit(self) -> None:
        """End QEMU and wait for it."""
        with contextlib.suppress(ValueError):  # gone before it had answered
            self.ask("quit")
        self.process.wait(SECONDS)
        self.monitor.close()
        self.console.close()


def run(source: tuple[Path, Sequence[str]], destination: tuple[Path, Sequence[str]],
        files: dict[str, Path]) -> None:  # fmt: skip
    """One cell: ``source`` and ``destination`` are (root, argv) as the harness would use them.

    ``files`` are copied into the cell's directory under their names.
    """
    with tempfile.TemporaryDirectory() as place:
        cell = Path(place)
        for name, path in files.items():
            (cell / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, cell / name)
        vms = [
            Plain(root, cell, name, argv)
            for name, (root, argv) in (("1-source", source), ("2-destination", destination))
        ]
        one, two = vms
        for vm in vms:
            vm.connect()
        one.until_up()
        events = [{"capability": "events", "state": True}]
        for vm in vms:
            vm.ask("migrate-set-capabilities", capabilities=events)
        one.ask("migrate-set-parameters", **{"max-bandwidth": 100 << 30})
        uri = "unix:/cell/2-destination/migration.sock"
        two.ask("migrate-incoming", uri=uri)
        one.ask("migrate", uri=uri)
        two.until_migrated()
        one.quit()
        two.ask("system_reset")
        two.until_up()
        two.quit()
