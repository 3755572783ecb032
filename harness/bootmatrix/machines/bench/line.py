"""A board's serial line: open as long as the board is held, over all that happens to its power.

What comes goes to the console that is attached, and is counted: how much of it is no text, and
how many of the guest's beats arrive damaged, is what tells a bad line from a bad firmware.
"""

from __future__ import annotations

import codecs
import contextlib
import re
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from bootmatrix.deadline import Deadline

# Where more than this part of what came is no text, the line is to blame: a good one has none.
_NOISE = 0.002
_ENOUGH = 200  # characters, of which a part can be said
# What terminals and firmware send beside text: BEL, BS, TAB, LF, VT, FF, CR, ESC, and NUL, which a
# port says as it gets power.
_CONTROLS = frozenset("\0\a\b\t\n\v\f\r\x1b")
_BEAT = re.compile(r"BOOTMATRIX beat boot=\d+ beat=\d+")
_LINE_ENDS = re.compile(r"[\r\n]+")
_LONGEST_LINE = 4096


class Port(Protocol):
    """Both ends of a serial line. Each raises OSError where it is gone."""

    def read(self) -> bytes:
        """What has come; nothing, after a moment without any."""

    def write(self, data: bytes) -> None:
        """Send it."""


class Hearing:
    """What is counted of all that comes: characters, those that are no text, beats, guests."""

    def __init__(self) -> None:
        self.bytes = self.characters = self.odd = self.beats = self.damaged = self.guests = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""

    def hear(self, data: bytes) -> None:
        """More has come."""
        self.bytes += len(data)
        text = self._decoder.decode(data)
        self.characters += len(text)
        self.odd += sum(1 for one in text if one not in _CONTROLS and (
            one == "\ufffd" or ord(one) < 0x20 or 0x7f <= ord(one) < 0xa0))
        *lines, self._line = _LINE_ENDS.split(self._line + text)
        self._line = self._line[-_LONGEST_LINE:]
        for line in lines:
            self.guests += "BOOTMATRIX up" in line
            if "BOOTMATRIX beat" in line or " beat=" in line:
                whole = _BEAT.fullmatch(line) or "nonce=" in line or " beat " not in line
                self.beats += 1
                self.damaged += not whole

    def cut(self) -> None:
        """Who spoke was cut off: the rest of its line does not come, and is not lost."""
        self._line = ""
        self._decoder.reset()

    @property
    def noise(self) -> float:
        """The part of what came that is no text; 0 where too little came to say so."""
        return self.odd / self.characters if self.characters >= _ENOUGH else 0.0

    def complaint(self) -> str | None:
        """What is wrong with the line; None where nothing is known to be."""
        if self.noise > _NOISE:
            return (f"the console garbles what the board says: {self.odd} of {self.characters} "
                    f"characters are no text ({self.noise:.1%})")
        if self.damaged:
            return (f"the console loses what the board says: {self.damaged} of {self.beats} beats "
                    "of the guest arrived damaged")
        return None


class SerialLine:
    """A serial line that two threads serve until it is closed."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self.hearing = Hearing()
        self.lost: str | None = None
        self._to: socket.socket | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._threads: list[threading.Thread] = []
        self._start(self._listen)

    def _start(self, what: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=what, args=arguments, name="serial line", daemon=True)
        self._threads.append(thread)
        thread.start()

    def attach(self) -> socket.socket:
        """A connection that has all that comes from now on, and in the place of any before."""
        ours, theirs = socket.socketpair()
        self.detach()
        with self._changed:
            self._to = theirs
            if self.lost is not None:
                theirs.shutdown(socket.SHUT_RDWR)
        self._start(self._speak, theirs)
        return ours

    def detach(self) -> None:
        """What comes from now on is counted, and goes nowhere."""
        with self._changed:
            to, self._to = self._to, None
        if to is not None:
            with contextlib.suppress(OSError):  # its other end has gone
                to.shutdown(socket.SHUT_RDWR)

    def wait_for_more(self, than: int, deadline: Deadline) -> bool:
        """Whether more bytes than so many have come in all by a deadline."""
        return self._come(lambda: self.hearing.bytes > than, deadline)

    def wait_for_guest(self, than: int, deadline: Deadline) -> bool:
        """Whether more guests than so many have come up in all by a deadline."""
        return self._come(lambda: self.hearing.guests > than, deadline)

    def _come(self, what: Callable[[], bool], deadline: Deadline) -> bool:
        def come(seconds: float) -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: what() or self.lost is not None, seconds)

        deadline.until(come)
        return what()

    def wait_for_quiet(self, seconds: float, deadline: Deadline) -> bool:
        """Whether nothing comes for so long, before a deadline."""
        while not deadline.expired:
            heard = self.hearing.bytes
            if not self.wait_for_more(heard, Deadline.after(seconds)):
                return True
        return False

    def cut(self) -> None:
        """The board was switched off or reset, whatever it was saying."""
        with self._changed:
            self.hearing.cut()

    def send(self, data: bytes) -> None:
        """Type something. Nobody may be there."""
        try:
            self._port.write(data)
        except Exception as error:  # each kind of port has its own
            self._lose(error)

    def give_up(self) -> None:
        """Be as one that has gone."""
        self._lose(InterruptedError("the run was ended"))

    def close(self) -> None:
        """End both threads; the port stays open, and is its owner's."""
        self._closing = True
        self.detach()
        for thread in self._threads:
            thread.join()

    def _listen(self) -> None:
        while not self._closing:
            try:
                data = self._port.read()
            except Exception as error:  # each kind of port has its own
                self._lose(error)
                return
            if not data:
                continue
            with self._changed:
                self.hearing.hear(data)
                to = self._to
                self._changed.notify_all()
            if to is not None:
                with contextlib.suppress(OSError):  # nobody reads any more
                    to.sendall(data)

    def _speak(self, typed: socket.socket) -> None:
        with typed, contextlib.suppress(OSError):
            while data := typed.recv(4096):
                self.send(data)

    def _lose(self, error: Exception) -> None:
        with self._changed:
            self.lost = self.lost or f"{type(error).__name__}: {error}"
            to = self._to
            self._changed.notify_all()
        if to is not None:
            with contextlib.suppress(OSError):
                to.shutdown(socket.SHUT_RDWR)
