"""A machine without a process: its memory is bytes, its guest a thread that does what it is typed.

It keeps to the protocols of ``machines.base`` on the very files that QEMU would be given, so that
a guest's life, its policies, and what is judged of them can be tried in milliseconds. Its firmware
is ``firmware``'s: an image that begins with the version that it prints.
"""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Self

from bootmatrix.boards import host_label
from bootmatrix.deadline import Deadline, awake
from bootmatrix.engines.scratch import CONSOLE_LOG, Scratch
from bootmatrix.errors import DeadlineExceeded, EngineError, HarnessError, QemuError
from bootmatrix.firmware.identity import sha256
from bootmatrix.machines.console import Console
from bootmatrix.machines.qemu.files import GuestFiles, Prepared
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Channel, FirmwareBuild, MigrationEnd, role_name
from bootmatrix.nvram import Nvram
from bootmatrix.policies.base import Swap
from bootmatrix.witnesses.observation import BlackBox
from bootmatrix.witnesses.refusal import Refusal
from bootmatrix.witnesses.resets import ENDLESS

SIZE = 64 << 10
"""Bytes of a fake's firmware."""

_RESETS = {b"c": "cf9", b"k": "keyboard", b"t": "triple-fault"}
_SUSPEND, _SHUTDOWN, _FLASH = b"z", b"s", b"f"


def firmware(version: str, directory: Path, size: int = SIZE) -> FirmwareBuild:
    """A firmware build that a fake can boot, its image in ``directory``."""
    image = version.encode().ljust(size, b"\0")
    path = directory / f"{version}.bin"
    path.write_bytes(image)
    return FirmwareBuild(f"seabios-{version}", sha256(image), size, path, prints=version)


STOPPED = "internal-error"
"""Why a fake has stopped its guest."""


@dataclass
class Script:
    """What does not go as it should; boots are counted from 1, over all machines of a guest.

    In ``silent`` nothing is said, in ``hangs`` nothing but the firmware's name, in ``stops`` the
    machine stops its guest and goes no further, and in ``ends`` it ends, with ``last_words``; what
    is in ``waits`` comes up so many seconds later.
    ``deaf``: the guest does not answer, nor do anything. ``no_swap``: firmware that is to be
    replaced at a reset stays. ``refuses_start`` are the last words of a machine that does not
    start, ``refuses`` the reason for which no guest moves. ``leaves_first``: it moves out of one
    machine before there is another. ``resets_itself``: the guest resets the machine unasked while
    it is asked how it is. In ``resets_again`` the firmware does so once,
    before it says its name, in ``rounds`` again and again, and says nothing. ``no_reset``: nothing
    resets it, and its guest goes on.
    ``clears_cmos``, ``changes_tables`` and ``loses_memory``: so much is lost on the way to another
    host. In ``stale`` the firmware finds the tables that it found before, in ``fewer`` half the
    CPUs and memory. ``hurries``: its firmware waits for no key. ``lost``: the engine has lost its
    machines. ``share`` is the part of the time in which they are able to run, ``does`` what a
    machine says that it is doing.
    """

    silent: set[int] = field(default_factory=set)
    hangs: set[int] = field(default_factory=set)
    ends: set[int] = field(default_factory=set)
    waits: dict[int, float] = field(default_factory=dict)
    stops: set[int] = field(default_factory=set)
    last_words: str = "qemu-system-x86_64: aborted"
    deaf: bool = False
    no_swap: bool = False
    no_reset: bool = False
    refuses_start: str = ""
    refuses: Refusal | None = None
    leaves_first: bool = False
    resets_itself: bool = False
    resets_again: set[int] = field(default_factory=set)
    rounds: set[int] = field(default_factory=set)
    clears_cmos: bool = False
    changes_tables: bool = False
    loses_memory: bool = False
    stale: set[int] = field(default_factory=set)
    fewer: set[int] = field(default_factory=set)
    hurries: bool = False
    lost: bool = False
    share: float = 1.0
    does: str = "a fake waits"


@dataclass
class _State:
    """What moves with a guest: what it counts, what it booted from, its machine's ROM and flash."""

    boots: int = 0
    cmos: int = 0
    program_sum: str = "12345678"
    tables: str = ""  # of the QEMU that it was booted on: the sum of either
    share: int = 1  # of the CPUs and the memory, what it sees: all, or the half
    beats: int = 0
    disk: str = ""
    runs: str = ""  # the version of the firmware that it was booted by
    rom: str = ""  # in hex
    flash: dict[str, str] = field(default_factory=dict)  # by its part, in hex; on the way only
    coming: bool = False  # its firmware still waits; on the way only

    @property
    def version(self) -> str:
        """What the firmware in the ROM calls itself."""
        return bytes.fromhex(self.rom).partition(b"\0")[0].decode()


class FakeClock:
    """The clock of a machine that is able to run in a ``share`` of the time.

    It stands still while what it was typed is ``pending``: its thread has no clock of its own, and
    on a busy machine it may be that nobody lets it run.
    """

    def __init__(self, share: float, pending: Callable[[], bool] = lambda: False) -> None:
        self._share = share
        self._pending = pending
        self._looked = self._time = awake()

    def __call__(self) -> float:
        """The time."""
        now = awake()
        if not self._pending():
            self._time += self._share * (now - self._looked)
        self._looked = now
        return self._time

    look = __call__

    def limit(self, seconds: float) -> float:
        """It can be seen."""
        return seconds

    def deadline(self, seconds: float) -> Deadline:
        """By this clock."""
        return Deadline.after(seconds, self)


class FakeMachine:
    """A machine in this process; see ``machines.base`` for what its methods promise."""

    def __init__(
        self, name: str, host: int, prepared: Prepared, hosts: FakeHosts, *, incoming: bool
    ) -> None:
        self.name = name
        self.host = host
        self.nvram: Nvram | None = prepared.nvram
        self.alive = True
        self._swapped = self._stopped = False
        self._resets = 0
        self._image = prepared.image
        self._hosts = hosts
        self._incoming = incoming
        self._provide: Callable[[], bytes | None] | None = None
        self._state = _State()
        self._misfit: str | None = None
        self._console: Console | None = None
        self._theirs: socket.socket | None = None
        self._comes: threading.Timer | None = None  # what its guest will say
        self._typed: dict[bytes, threading.Event] = {}
        self._ended = threading.Event()
        self._doing = False  # what was typed last
        self.clock = FakeClock(hosts.script.share, self._pending)

    def __str__(self) -> str:
        return self.name

    @property
    def console(self) -> Console:
        """A real one; its other end is the guest's."""
        if self._console is None:
            raise HarnessError(f"{self.name} is not connected yet")
        return self._console

    def start(self, deadline: Deadline) -> None:
        """Boot, or wait for a guest."""
        if words := self._hosts.script.refuses_start:
            self._end()
            raise QemuError(f"{self.name}: QEMU ended before it was ready", status=1, tail=words)
        ours, self._theirs = socket.socketpair()
        log = self._hosts.scratch.private / self.name
        log.mkdir()
        self._console = Console(ours, log / CONSOLE_LOG, lambda: self.stopped() is not None)
        self._guest = threading.Thread(
            target=self._listen, args=(self._theirs,), name=self.name, daemon=True)
        self._guest.start()
        if not self._incoming:
            self._state.rom = (self._flash() or self._image).hex()
            self._boot()

    def outlives(self, deadline: Deadline) -> bool:
        """Whether nobody ends it until then."""
        deadline.until(self._ended.wait)
        return self.alive

    def stopped(self) -> str | None:
        """As the script has it."""
        return STOPPED if self._stopped else None

    def last_words(self) -> str:
        """The script's."""
        return self._hosts.script.last_words

    def exit_status(self, deadline: Deadline) -> int:
        """Of a machine that ends by itself: SIGABRT's."""
        return 134

    def resets(self, deadline: Deadline) -> int:
        """Counted here."""
        return self._resets

    def booted(self) -> Refusal | None:
        """Whether its firmware has fitted."""
        self._resets, self._swapped = 0, False
        return Refusal("rom-size", self._misfit) if self._misfit else None

    def check(self) -> None:
        """Nothing goes wrong unseen."""

    def close(self) -> None:
        """End it."""
        self._end()
        if self._console is not None:
            self._guest.join()
            self._console.close()
        if self.nvram is not None:
            self.nvram.close()

    def arm(self) -> None:
        """As the mechanism of the policy has it."""
        files = self._hosts.files
        self._provide = {
            Swap.NOTHING: None,
            Swap.LAUNCHED: lambda: self._image,
            Swap.FILE: lambda: files.code(self.host),
            Swap.STAGED: files.take_staged,
        }[self._hosts.setup.mechanism.swap]

    @property
    def swapped(self) -> bool:
        """Noted here."""
        return self._swapped

    # -- abilities -------------------------------------------------------------------------------

    def off(self, deadline: Deadline) -> None:
        """At once."""
        self._end()

    def cut_power(self) -> None:
        """At once, too."""
        self._end()

    def reset(self, deadline: Deadline) -> bool:
        """The policy's firmware in its place, and a boot."""
        if self._hosts.script.no_reset:
            return False
        self._resets += 1
        image = self._provide() if self._provide and not self._hosts.script.no_swap else None
        if image is not None and len(image) != self._hosts.rom_size:
            self._misfit = (f"the image has {len(image):#x} bytes, the ROM block "
                            f"{self._hosts.rom_size:#x}")
        elif image is not None:
            self._state.rom = image.hex()
            self._swapped = True
        self.console.skip()
        self._boot()
        return True

    def reset_by(self, keys: bytes, deadline: Deadline) -> bool:
        """Once the guest has heard it."""
        return self._type(keys, deadline) and self.reset(deadline)

    def suspend_by(self, keys: bytes, deadline: Deadline) -> None:
        """As soon as the guest has heard it."""
        if not self._type(keys, deadline):
            raise DeadlineExceeded(f"not in time: {self.name}: a suspend")

    def wake(self, deadline: Deadline) -> None:
        """At once."""

    def pause(self, deadline: Deadline) -> None:
        """Its guest has no clock."""

    def go_on(self, deadline: Deadline) -> None:
        """As if nothing had been."""

    def migrate(
        self, target: FakeMachine, channel: Channel, deadline: Deadline,
        capabilities: Sequence[str] = (),
        parameters: Mapping[str, str | int] = MappingProxyType({}), *, recovers: bool = False,
    ) -> Refusal | None:
        """The state goes over."""
        if refusal := self._hosts.script.refuses:
            return refusal
        target._arrive(self._leave())
        return None

    @property
    def leaves_first(self) -> bool:
        """As the script says."""
        return self._hosts.script.leaves_first

    def leave(self, deadline: Deadline) -> Refusal | None:
        """The state waits at the hosts."""
        self._hosts.waiting = self._leave()
        return self._hosts.script.refuses

    def arrive(self, deadline: Deadline) -> Refusal | None:
        """From there."""
        assert self._hosts.waiting is not None
        self._arrive(self._hosts.waiting)
        return None

    def begin_to_migrate(self, target: FakeMachine, deadline: Deadline) -> None:
        """Nothing goes over yet."""

    def fail_to_migrate(
        self, target: FakeMachine, by: MigrationEnd, cut_at: int, deadline: Deadline
    ) -> str:
        """Nothing has gone over."""
        return f"cut after {cut_at} bytes" if by is MigrationEnd.STREAM_CUT else by.value

    def save(self, file: Path, deadline: Deadline) -> Refusal | None:
        """As JSON."""
        file.write_text(json.dumps(asdict(self._leave())))
        return self._hosts.script.refuses

    def restore(self, file: Path, deadline: Deadline) -> Refusal | None:
        """From there."""
        self._arrive(_State(**json.loads(file.read_text())))
        return self._hosts.script.refuses

    def _leave(self) -> _State:
        flash = {part.value: content.hex() for part, content in self.nvram.contents().items()} \
            if self.nvram is not None else {}
        coming = self._comes is not None and not self._comes.finished.is_set()
        if self._comes is not None:
            self._comes.cancel()
        return replace(self._state, flash=flash, coming=coming)

    def _arrive(self, state: _State) -> None:
        self._state = state
        if self._hosts.script.clears_cmos:
            state.cmos = 0
        if self._hosts.script.loses_memory:
            state.program_sum = "00000000"
        if self._hosts.script.changes_tables:
            state.tables = self._offered
        if state.coming:
            self._up()
        if self.nvram is None:
            return
        for window in self.nvram.header.windows:
            _program(self.nvram.path, window.offset, bytes.fromhex(state.flash[window.part.value]))

    def explain(self, since: float) -> BlackBox:
        """As the script has it."""
        return BlackBox(self._hosts.script.does, f"{self.name}: {self._hosts.script.does}\n")

    def rom_digest(self, deadline: Deadline) -> str | None:
        """Of the bytes that it has for a ROM."""
        return sha256(bytes.fromhex(self._state.rom))

    # -- its guest -------------------------------------------------------------------------------

    def _flash(self) -> bytes | None:
        return self.nvram.read() if self.nvram is not None else None

    def _boot(self) -> None:
        state, script = self._state, self._hosts.script
        self._hosts.boots += 1
        state.boots, state.cmos, state.beats = state.boots + 1, state.cmos + 1, 0
        state.runs = state.version
        number = self._hosts.boots
        if number not in script.stale:
            state.tables = self._offered
        state.share = 2 if number in script.fewer else 1
        if number in script.ends:
            self._end()
            return
        self._resets += number in script.resets_again
        self._resets += ENDLESS * (number in script.rounds)
        self._stopped = number in script.stops
        if not self._stopped and number not in script.silent | script.rounds:
            self._print(f"SeaBIOS (version {state.runs})")
            if number not in script.hangs:
                state.disk = self._hosts.disk
                post = 0 if script.hurries else self._hosts.setup.post_ms / 1000
                wait = script.waits.get(number, post)
                if wait:
                    self._comes = threading.Timer(wait, self._up)
                    self._comes.daemon = True
                    self._comes.start()
                else:
                    self._up()

    def _up(self) -> None:
        self._print(f"BOOTMATRIX up boot={self._state.boots}{self._identity}")

    @property
    def _offered(self) -> str:
        """The sum of the tables that this QEMU offers."""
        return sha256(self._hosts.setup.hosts[self.host].qemu.version.encode())[:8]

    @property
    def _identity(self) -> str:
        state, setup = self._state, self._hosts.setup
        label = host_label(self.host, setup.hosts[self.host].qemu)
        return (f' bios-vendor="SeaBIOS" bios-version="{state.runs}" disk="{state.disk}"'
                f' fw-cfg="QEMU" features=3 host="{label}" acpi={state.tables}'
                f' smbios={state.tables} memory={(setup.memory_mib << 10) // state.share}'
                f' cpus={max(1, (setup.cpus_given() or 1) // state.share)} cmos={state.cmos}'
                f' program-sum={state.program_sum}')

    def _listen(self, keyboard: socket.socket) -> None:
        """Do what is typed: digits are a nonce, anything else a command."""
        nonce = b""
        with keyboard, suppress(OSError):
            while keyboard.recv(1, socket.MSG_PEEK):
                self._doing = True
                typed = keyboard.recv(4096)
                for key in (typed[n:n + 1] for n in range(len(typed))):
                    if key.isdigit():
                        nonce += key
                    elif key == b"#":
                        nonce = b""
                    elif not self._hosts.script.deaf:
                        self._do(key, f" nonce={nonce.decode()}")
                self._doing = False

    def _pending(self) -> bool:
        """Whether the guest has not done yet what it was typed."""
        theirs = self._theirs
        if theirs is None or not self.alive or theirs.fileno() < 0:
            return False
        return self._doing or bool(select.select([theirs], [], [], 0)[0])

    def _do(self, key: bytes, nonce: str) -> None:
        state = self._state
        if key == b"?":
            self._resets += self._hosts.script.resets_itself
            self._print(f"BOOTMATRIX here{nonce} boot={state.boots} beat={state.beats}"
                      + self._identity)
        elif key == _FLASH:
            image = self._hosts.setup.flash
            assert image is not None
            written = self._hosts.program(self, image)
            self._print(f"BOOTMATRIX flash{nonce} size={image.size} written={written} "
                      f"result={'ok' if written else 'no-flash'}")
        elif key == _SHUTDOWN:
            self._end()
        elif key == _SUSPEND or key in _RESETS:
            self._typed.setdefault(key, threading.Event()).set()

    def _type(self, keys: bytes, deadline: Deadline) -> bool:
        """Type a command; whether the guest has heard it in time."""
        heard = self._typed.setdefault(keys, threading.Event())
        heard.clear()
        self.console.send(keys)
        return deadline.until(heard.wait)

    def _print(self, line: str) -> None:
        assert self._theirs is not None
        with suppress(OSError):  # to nobody any more
            self._theirs.sendall(line.encode() + b"\r\n")

    def _end(self) -> None:
        self.alive = False
        self._ended.set()
        if self._theirs is not None:
            with suppress(OSError):  # its guest has gone before
                self._theirs.shutdown(socket.SHUT_RDWR)


class FakeHosts:
    """The hosts of one guest, in a scratch directory; ``script`` is what goes wrong on them."""

    machine = FakeMachine

    def __init__(
        self,
        setup: GuestSetup,
        directory: Path,
        script: Script | None = None,
        processes: list[dict[str, object]] | None = None,
    ) -> None:
        self.setup = setup
        self.script = script or Script()
        self.processes = [] if processes is None else processes
        self.rom_size = 0
        self.boots = 0
        self.disk = "A"
        self.scratch = Scratch(directory)
        self.files = GuestFiles(setup, self.scratch)
        self.waiting: _State | None = None
        self._machines: list[FakeMachine] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every machine."""
        for machine in self._machines:
            machine.close()
        self.files.close()
        self.scratch.close()

    def check_engine(self) -> None:
        """As the script has it."""
        if self.script.lost:
            raise EngineError("the fake's engine has lost its machines")

    @property
    def nvram(self) -> Nvram | None:
        """The guest's nvram file, where it runs or has run last."""
        return self.files.nvram

    def arrived(self, machine: FakeMachine) -> bool | None:
        """Its nvram has come with it."""
        return self.files.arrived(machine.nvram, alive=machine.alive)

    def launch(self, host: int, *, incoming: bool) -> FakeMachine:
        """A new machine."""
        prepared = self.files.prepare(host, incoming=incoming)
        if not incoming:
            self.rom_size = prepared.rom_size
        role = role_name(host)
        name = f"{len(self.processes) + 1}-{role}"
        version = self.setup.hosts[host].qemu.version
        self.processes.append({"role": role, "version": version, "argv": ["fake", name]})
        self._machines.append(FakeMachine(name, host, prepared, self, incoming=incoming))
        return self._machines[-1]

    def program(self, machine: FakeMachine, image: FirmwareBuild) -> int:
        """What a guest writes into its flash; bytes that were written, 0 where it has none."""
        if machine.nvram is None:
            return 0
        content = image.path.read_bytes()
        _program(machine.nvram.path, machine.nvram.window.offset, content)
        machine._state.rom = content.hex()
        return len(content)

    def install(self, host: int, firmware: FirmwareBuild) -> None:
        """A new file."""
        self.files.install(host, firmware)

    def replace_disk(self) -> None:
        """Disk B."""
        self.files.replace_disk()
        self.disk = "B"

    def keep(self, host: int, directory: Path) -> None:
        """What the guest owns."""
        self.files.keep(host, directory)

    def take_up(self, host: int, directory: Path) -> None:
        """What was kept."""
        self.rom_size = self.files.take_up(host, directory)


def _program(file: Path, offset: int, content: bytes) -> None:
    """Write to a flash, as QEMU does: into the file that is mapped as it."""
    with file.open("r+b") as flash:
        flash.seek(offset)
        flash.write(content)
