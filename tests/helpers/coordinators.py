"""labgrid's coordinator and exporter on loopback, for as long as a test runs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers import forked

BIN = Path(sys.executable).parent
CLIENT = "import sys\nfrom labgrid.remote.client import main\nsys.exit(main())\n"


@dataclass(frozen=True)
class Coordinator:
    """Where it listens; ``client`` is labgrid's own command, as somebody's."""

    address: str

    def client(self, *words: str, user: str = "", check: bool = True) -> str:
        """What labgrid-client prints."""
        done = forked.run(
            [BIN / "labgrid-client", "-x", self.address, *words], cwd=Path.cwd(), program=CLIENT,
            imported="labgrid.remote.client",
            env={**os.environ, **({"LG_USERNAME": user} if user else {})})
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait for a program to listen; its end is an error."""
    while True:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"it has ended with {process.wait(0.05)}")


@contextlib.contextmanager
def coordinator(directory: Path) -> Iterator[Coordinator]:
    """The real one, with its state in a directory."""
    directory.mkdir()
    address = f"127.0.0.1:{free_port()}"
    with running([BIN / "labgrid-coordinator", "-l", address], directory) as process:
        until_it_answers(int(address.rpartition(":")[2]), process)
        yield Coordinator(address)


@contextlib.contextmanager
def exporter(at: Coordinator, directory: Path, tty: Path) -> Iterator[None]:
    """The real one, with a serial port that it serves by ser2net: ``bench/board/RawSerialPort``."""
    config = directory / "exporter.yaml"
    config.write_text(f"board:\n  RawSerialPort:\n    port: {tty.resolve()}\n")
    with running([BIN / "labgrid-exporter", "-c", at.address, "--name", "bench", "--hostname",
                  "127.0.0.1", config], directory) as process:
        while "bench/board" not in at.client("resources"):
            assert process.poll() is None, (directory / "labgrid-exporter.log").read_text()
        yield


@contextlib.contextmanager
def running(argv: list[str | Path], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program until it is told to end; what it says is kept."""
    with (directory / f"{Path(argv[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=directory, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()
