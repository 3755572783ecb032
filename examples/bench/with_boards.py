"""Two virtual boards in build/bench, for as long as a command runs: those of matrices/bench.yaml.

    python examples/bench/with_boards.py bootmatrix run matrices/bench.yaml

The first one's serial port is a pty here, the second one's is on the network by ser2net.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bootmatrix.builds.image_store import ImageStore, cache_home
from bootmatrix.cli.images import build_missing
from bootmatrix.guests import program_of
from bootmatrix.model import Arch, GuestKind

HERE = Path(__file__).resolve().parent
BENCH = HERE.parents[1] / "build" / "bench"
QEMU = "debian-trixie"
"""What is behind a virtual board, which nobody asks."""
PORT = 20017


@contextlib.contextmanager
def board(directory: Path) -> Iterator[None]:
    """A virtual board that has power as soon as it is switched on."""
    store = ImageStore()
    build_missing(store, [] if store.is_built(QEMU) else [QEMU])
    qemu = store.qemu(QEMU)
    firmware = store.firmware(qemu.firmware)
    disk = program_of(GuestKind.PROBE, firmware, Arch.X86_64).disk(
        "A", cache_home(), Arch.X86_64, firmware)
    serve = subprocess.Popen(
        [sys.executable, str(HERE / "virtual_board.py"), "serve", str(directory),
         "--root", str(qemu.root), "--chip", str(firmware.path), "--disk", str(disk)],
        stdout=subprocess.PIPE)
    try:
        assert serve.stdout is not None
        if serve.stdout.readline() != b"ready\n":
            raise SystemExit(f"no virtual board in {directory}")
        yield
    finally:
        serve.terminate()
        serve.wait()
        if serve.stdout is not None:
            serve.stdout.close()


@contextlib.contextmanager
def on_the_network(tty: Path, port: int) -> Iterator[None]:
    """A serial port by ser2net, with RFC 2217."""
    server = subprocess.Popen([
        "ser2net", "-d", "-n",
        "-Y", f"connection: &con01#  accepter: telnet(rfc2217,mode=server),tcp,127.0.0.1,{port}",
        "-Y", f"  connector: serialdev(nouucplock=true),{tty},115200n81,local",
        "-Y", "  options:", "-Y", "    max-connections: 10",
    ], stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        while not _answers(port):
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise SystemExit(f"ser2net has ended with {server.wait(0.05)}")
        yield
    finally:
        server.terminate()
        server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def main() -> int:
    """Run the command between their start and their end; its exit status."""
    with contextlib.ExitStack() as stack:
        for name in ("one", "two"):
            stack.enter_context(board(BENCH / name))
        tty = BENCH.joinpath("two", "tty").resolve()  # ser2net wants the device itself
        stack.enter_context(on_the_network(tty, PORT))
        return subprocess.run(sys.argv[1:], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
