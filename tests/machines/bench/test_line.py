"""A serial line is heard as long as it is open, and what is wrong with it is counted."""

from __future__ import annotations

import queue
import random
from collections.abc import Iterator

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.machines.bench.line import Hearing, SerialLine

BOOT = (b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.3-debian-1.16.3-2)\r\n"
        b"Booting from Hard Disk..\r\nBOOTMATRIX up boot=1 disk=\"A\"\r\n")
BEATS = b"".join(b"BOOTMATRIX beat boot=1 beat=%d\r\n" % n for n in range(1, 40))


class Port:
    """What is put into it has come; what is written is kept."""

    def __init__(self) -> None:
        self.comes: queue.Queue[bytes | Exception] = queue.Queue()
        self.written = b""

    def read(self) -> bytes:
        """The next."""
        try:
            found = self.comes.get(timeout=0.02)
        except queue.Empty:
            return b""
        if isinstance(found, Exception):
            raise found
        return found

    def write(self, data: bytes) -> None:
        """Kept."""
        self.written += data


@pytest.fixture
def port() -> Port:
    """A port."""
    return Port()


@pytest.fixture
def line(port: Port) -> Iterator[SerialLine]:
    """Its line."""
    opened = SerialLine(port)
    yield opened
    opened.close()


def soon() -> Deadline:
    """Long enough."""
    return Deadline.after(10)


def test_what_comes_goes_to_who_is_attached_and_back(port: Port, line: SerialLine) -> None:
    port.comes.put(b"before")
    assert line.wait_for_more(0, soon())
    with line.attach() as console:
        port.comes.put(b"banner")
        assert console.recv(100) == b"banner"
        console.sendall(b"?")
        port.comes.put(b"answer")
        assert console.recv(100) == b"answer"
        assert Deadline.after(10).until(lambda _: port.written == b"?")
    with line.attach() as another:
        port.comes.put(b"again")
        assert another.recv(100) == b"again"
    assert line.hearing.bytes == len("beforebanneranswer" "again")


def test_a_port_that_goes_ends_the_console(port: Port, line: SerialLine) -> None:
    with line.attach() as console:
        port.comes.put(OSError("the adapter was unplugged"))
        assert console.recv(100) == b""
        assert line.lost == "OSError: the adapter was unplugged"
        assert not line.wait_for_more(line.hearing.bytes, soon()), "and nothing waits any more"
    with line.attach() as late:
        assert late.recv(100) == b""


def test_one_that_is_given_up_is_as_one_that_has_gone(line: SerialLine) -> None:
    with line.attach() as console:
        line.give_up()
        assert console.recv(100) == b""
        assert line.lost is not None


def test_quiet_is_when_nothing_comes(port: Port, line: SerialLine) -> None:
    assert line.wait_for_quiet(0.05, soon())
    for _ in range(30):
        port.comes.put(b"BOOTMATRIX beat")
    assert line.wait_for_quiet(0.2, soon())
    assert not line.wait_for_quiet(1, Deadline.after(0)), "there is no time to tell"


# ---- whose fault it is ----------------------------------------------------------------------


def heard(data: bytes, piece: int = 7) -> Hearing:
    """What is counted of it, in pieces."""
    hearing = Hearing()
    for at in range(0, len(data), piece):
        hearing.hear(data[at : at + piece])
    return hearing


def test_a_good_line_is_text() -> None:
    hearing = heard(BOOT + BEATS + "│ menü │\r\n".encode() * 9)
    assert (hearing.odd, hearing.damaged, hearing.beats) == (0, 0, 39)
    assert hearing.complaint() is None


def test_a_line_that_garbles_one_byte_in_a_hundred_is_told() -> None:
    chance = random.Random(1)
    garbled = bytes(chance.randrange(256) if chance.random() < 0.01 else byte
                    for byte in BOOT + BEATS)
    complaint = heard(garbled).complaint()
    assert complaint is not None
    assert complaint.startswith("the console garbles what the board says: ")


def test_another_speed_is_told() -> None:
    hearing = heard(bytes(random.Random(2).randbytes(4000)))
    assert hearing.noise > 0.3


def test_of_a_few_characters_nothing_is_said() -> None:
    assert heard(b"\xff\xfe\x00").complaint() is None


def test_a_line_that_drops_bytes_is_told() -> None:
    dropped = BEATS.replace(b"beat=7\r", b"bet=7\r").replace(b"boot=1 beat=9", b"bot=1 beat=9")
    assert heard(dropped).complaint() == (
        "the console loses what the board says: 2 of 39 beats of the guest arrived damaged")


def test_a_beat_that_the_power_cut_off_is_none(port: Port, line: SerialLine) -> None:
    for data in (BEATS, b"BOOTMATRIX beat bo"):
        port.comes.put(data)
    assert line.wait_for_more(len(BEATS), soon())
    line.cut()
    port.comes.put(BOOT + BEATS)
    assert line.wait_for_more(len(BEATS) + 20, soon())
    assert line.hearing.complaint() is None


def test_answers_have_beats_in_them() -> None:
    assert heard(b"BOOTMATRIX here nonce=1 boot=1 beat=3 disk=\"A\"\r\n" * 9).damaged == 0
