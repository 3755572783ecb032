"""A board to try a bench with: a serial port, a power switch and a flash chip, behind them a QEMU.

Nobody talks to that QEMU but its serial port: what a harness can see of the board is what it could
see of one on a bench. The serial port is a pty that stays open over power cycles, the power switch
a command, the chip a file that flashrom programs with its ``dummy`` programmer:

    virtual_board.py serve DIR --root ROOT --chip bios.bin --disk probe.img
    virtual_board.py power DIR on|off|cycle|get
    flashrom -p dummy:emulate=VARIABLE_SIZE,size=262144,image=DIR/chip.bin -w bios.bin

``serve`` runs until it is told to end. In DIR are ``tty``, a link to the pty, ``chip.bin``,
``stick.img`` and ``update.bin``, which the board's guest programs its own flash with. The board
reads its chip at each reset, as boards do: its QEMU then ends, and another one is started.

Where there is a file ``reset`` in DIR, it is the board's reset line: "1" in it holds the board.

``faults.json`` in DIR has what is wrong with it, from the next moment on: ``dead`` (it does
nothing), ``stuck`` (its power switch does nothing), ``garble`` (so large a part of the bytes that
it sends is another one), ``boots`` (a file in DIR with another image than the chip's).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
import tty
from pathlib import Path
from typing import Any

CHIP, DISK, UPDATE, TTY, CONTROL, FAULTS, RESET = (
    "chip.bin", "stick.img", "update.bin", "tty", "control", "faults.json", "reset")
_FLASH_SECONDS = 0.5
"""How long sixteen blocks of its flash take."""
_LINE_SECONDS = 0.05
"""How often its reset line is looked at."""
_INSIDE = Path("/cell")
"""Where DIR is for QEMU: a directory that each root of bootmatrix has."""


class VirtualBoard:
    """The board in a directory."""

    def __init__(self, directory: Path, root: Path, mib: int = 32) -> None:
        self._directory, self._root, self._mib = directory, root, mib
        self._powered = False
        self._ending = False
        self._pulled = False
        self._held = 0.0  # until then its flash is busy
        self._qemu: subprocess.Popen[bytes] | None = None
        self._events = selectors.DefaultSelector()
        self._random = random.Random(15)
        self._line, slave = os.openpty()
        # Held open here, too: a pty whose last user has gone is hung up.
        self._slave = slave
        tty.setraw(slave)
        os.set_blocking(self._line, False)
        link = directory / TTY
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(slave))
        (directory / CONTROL).unlink(missing_ok=True)
        self._control = socket.socket(socket.AF_UNIX)
        self._control.bind(str(directory / CONTROL))
        self._control.listen()
        self._events.register(self._control, selectors.EVENT_READ, self._command)
        self._events.register(self._line, selectors.EVENT_READ, self._typed)

    def serve(self) -> None:
        """Until it is told to end."""
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_ending", True))
        self._events.register(wake, selectors.EVENT_READ, lambda: os.read(wake, 64))
        print("ready", flush=True)
        try:
            while not self._ending:
                line = self._directory / RESET
                looks = _LINE_SECONDS if line.exists() else _FLASH_SECONDS if self._held else None
                for key, _ in self._events.select(looks):
                    key.data()
                if line.exists():
                    self._pull(line.read_text().strip() == "1")
                if self._held and time.monotonic() > self._held:
                    self._let_go()
        finally:
            self._stop()
            (self._directory / TTY).unlink(missing_ok=True)
            (self._directory / CONTROL).unlink(missing_ok=True)

    def _fault(self, name: str) -> Any:
        try:
            return json.loads((self._directory / FAULTS).read_text()).get(name)
        except FileNotFoundError:
            return None

    # -- its power switch ------------------------------------------------------------------------

    def _command(self) -> None:
        peer, _ = self._control.accept()
        with peer, contextlib.suppress(OSError):
            word = peer.recv(64).decode()
            stuck = self._fault("stuck")
            if word in ("off", "cycle") and not stuck:
                self._powered = False
                self._stop()
            if word in ("on", "cycle") and not self._powered:
                self._powered = True
                self._start()
            peer.sendall(b"on" if self._powered else b"off")

    def _pull(self, pulled: bool) -> None:
        """The reset line is what it is."""
        if pulled and not self._pulled:
            self._stop()
        elif self._pulled and not pulled and self._powered:
            self._start()
        self._pulled = pulled

    # -- its serial port -------------------------------------------------------------------------

    def _typed(self) -> None:
        data = os.read(self._line, 4096)
        if self._qemu is not None and self._qemu.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._qemu.stdin.write(data)

    def _said(self, qemu: subprocess.Popen[bytes]) -> None:
        if qemu is not self._qemu:
            return  # its switch was used at the same moment, and was heard first
        assert self._qemu.stdout is not None
        data = os.read(self._qemu.stdout.fileno(), 4096)
        if not data:
            # A reset has ended it, and the chip is read anew; one that broke stays dark.
            reset = self._qemu.wait() == 0
            self._stop()
            if reset:
                self._start()
            return
        if b"BOOTMATRIX flashing" in data:
            # A flash chip is slow, QEMU's is not: nobody could pull a plug meanwhile.
            os.killpg(self._qemu.pid, signal.SIGSTOP)
            self._held = time.monotonic() + _FLASH_SECONDS
        share = self._fault("garble") or 0
        noisy = bytes(self._random.randrange(256) if self._random.random() < share else byte
                      for byte in data) if share else data
        with contextlib.suppress(BlockingIOError):  # nobody listens: a serial line waits for no one
            os.write(self._line, noisy)

    # -- what is behind them ---------------------------------------------------------------------

    def _start(self) -> None:
        if self._fault("dead"):
            return
        self._qemu = subprocess.Popen(
            self._argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=(self._directory / "qemu.log").open("ab"), bufsize=0, start_new_session=True)
        assert self._qemu.stdout is not None
        self._events.register(self._qemu.stdout, selectors.EVENT_READ,
                              functools.partial(self._said, self._qemu))

    def _let_go(self) -> None:
        if self._held and self._qemu is not None:
            os.killpg(self._qemu.pid, signal.SIGCONT)
        self._held = 0.0

    def _stop(self) -> None:
        if self._qemu is None:
            return
        self._let_go()
        assert self._qemu.stdin is not None
        assert self._qemu.stdout is not None
        self._events.unregister(self._qemu.stdout)
        os.killpg(self._qemu.pid, signal.SIGKILL)  # the sandbox, and what has not begun in it yet
        self._qemu.wait()
        self._qemu.stdin.close()
        self._qemu.stdout.close()
        self._qemu = None

    def _argv(self) -> list[str]:
        chip = _INSIDE / (self._fault("boots") or CHIP)
        sandbox = [
            "bwrap", "--die-with-parent", "--unshare-all", "--ro-bind", str(self._root), "/",
            "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",  # its own
            "--bind", str(self._directory), str(_INSIDE), "--",
        ]
        update = [] if not (self._directory / UPDATE).exists() else [
            "-fw_cfg", f"name=opt/bootmatrix/flash,file={_INSIDE / UPDATE}"]
        return [
            *sandbox, "/usr/bin/qemu-system-x86_64", "-nodefaults", "-no-user-config",
            "-display", "none", "-vga", "none", "-machine", "pc,accel=tcg,graphics=off",
            "-m", str(self._mib),
            "-drive", f"if=pflash,format=raw,file={chip},file.locking=off",
            "-blockdev", "driver=raw,node-name=disk,file.driver=file,file.locking=off,"
                         f"file.filename={_INSIDE / DISK}",
            "-device", "ide-hd,drive=disk", *update,
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            "-no-reboot",  # a reset ends it, so that the next one reads the chip
        ]  # fmt: skip


def make(directory: Path, chip: Path, disk: Path) -> None:
    """What a board has at first: ``chip`` is what is in its flash, ``disk`` what is plugged in."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / CHIP).exists():
        shutil.copyfile(chip, directory / CHIP)
    shutil.copyfile(disk, directory / DISK)


def power(directory: Path, word: str) -> str:
    """Use its switch; what it is then, on or off."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(directory / CONTROL))
        control.sendall(word.encode())
        return control.recv(64).decode()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    serve.add_argument("directory", type=Path)
    serve.add_argument("--root", type=Path, required=True)
    serve.add_argument("--chip", type=Path, required=True)
    serve.add_argument("--disk", type=Path, required=True)
    serve.add_argument("--mib", type=int, default=32, help="of memory (default: 32)")
    switch = commands.add_parser("power")
    switch.add_argument("directory", type=Path)
    switch.add_argument("word", choices=("on", "off", "cycle", "get"))
    options = parser.parse_args()
    if options.command == "power":
        print(power(options.directory, options.word))
        return 0
    make(options.directory, options.chip, options.disk)
    VirtualBoard(options.directory.resolve(), options.root, options.mib).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
