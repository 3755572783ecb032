"""Real boards as machines, by labgrid, which is the layer to the hardware and imported here alone.

labgrid's environment file says what there is: a console, a power switch, a reset line, a
programmer. A ``Bench`` is a target of it that is held; what guests live on are ``BoardHosts``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from bootmatrix.builds import board_file
from bootmatrix.deadline import Deadline, awake
from bootmatrix.engines.scratch import CONSOLE_LOG, Scratch
from bootmatrix.errors import BenchError, HarnessError, PlaceTaken, UserError
from bootmatrix.firmware.identity import sha256
from bootmatrix.machines.bench.chip import Chip
from bootmatrix.machines.bench.line import SerialLine
from bootmatrix.machines.bench.seat import CHIP_SECONDS, Seat
from bootmatrix.machines.console import Console
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import BoardSource, FirmwareBuild, role_name
from bootmatrix.policies import Policy
from bootmatrix.steps.base import Ability
from bootmatrix.witnesses.observation import BlackBox
from bootmatrix.witnesses.refusal import Refusal

if TYPE_CHECKING:
    from labgrid import Environment, Target

_PORT = "127.0.0.1:20408"  # labgrid's own default
# A line on which nothing comes for so long is quiet: the guest's beats are half a second apart,
# and more where a virtual board has to wait for a processor.
_QUIET_SECONDS = 2.0
_OFF_SECONDS = 6.0
_SPEAK_SECONDS = 10.0  # in which a board says its first byte, at least, before it is blamed
_RESET_SECONDS = 0.5  # what a reset line is pulled, and a button for the CMOS is pressed
_COMMAND_SECONDS = 60.0  # of a power switch
_STOP_SECONDS = 0.5  # in which somebody who waits hears that he is not to
_PAUSE = 0.1  # in which a port is asked again
_OUTPUTS = {"clear_cmos": "clear-cmos"}
"""The digital outputs that have a meaning here, by their names in an environment file."""


@dataclass(frozen=True)
class BoardFacts:
    """What a target of an environment file has, by the drivers that it names.

    ``live``: the programmer can write the chip while the board runs. ``update`` is the file from
    which the board programs itself. ``place`` is the coordinator's name for it, "" without one.
    """

    console: str = ""
    power: str = ""
    reset: str = ""
    programmer: str = ""
    clear_cmos: bool = False
    live: bool = False
    update: Path | None = None
    place: str = ""

    @property
    def abilities(self) -> frozenset[Ability]:
        """What steps can need, and the bench has."""
        has = {
            Ability.CONSOLE: self.console, Ability.START: self.power, Ability.POWER: self.power,
            Ability.POWER_LOSS: self.power, Ability.RESET: self.power or self.reset,
            Ability.REPLACE_FIRMWARE: self.programmer, Ability.NVRAM: self.programmer,
        }  # fmt: skip
        return frozenset(ability for ability, there in has.items() if there)


def facts(source: BoardSource) -> BoardFacts:
    """What a board's bench has. Nothing is opened. Raises UserError."""
    return _facts(_environment(source), source)


def _environment(source: BoardSource) -> Environment:
    try:
        from labgrid import Environment
    except ImportError:
        raise board_file.without_labgrid(source) from None
    # Its drivers tell of each command; records have our own words.
    logging.getLogger("Process").setLevel(logging.WARNING)
    try:
        return Environment(str(source.env))
    except Exception as error:  # of YAML, of imports of the user's own: nobody knows which
        raise UserError(f"{source.env}: {_said(error)}",
                        hint="a labgrid environment file") from None


_OPTIONS: Mapping[str, tuple[type, str]] = MappingProxyType({
    "bootmatrix-live-flash": (bool, "true or false"), "bootmatrix-update": (str, "a file")})


def _options(options: Any, source: BoardSource) -> dict[str, Any]:
    """Those of a target that are ours. Raises UserError for one that means nothing."""
    where = f"{source.env}: {source.target}: options"
    if not isinstance(options, dict):
        raise UserError(f"{where}: must be names with values")
    ours = {name: value for name, value in options.items()
            if str(name).startswith("bootmatrix")}
    for name, value in ours.items():
        if name not in _OPTIONS:
            raise UserError(f"{where}: no such option: {name}",
                            hint=f"accepted: {', '.join(_OPTIONS)}")
        kind, what = _OPTIONS[name]
        if not isinstance(value, kind):
            raise UserError(f"{where}: {name} is {value!r}", hint=f"it is {what}")
    return ours


def _facts(environment: Environment, source: BoardSource) -> BoardFacts:
    from labgrid import target_factory
    from labgrid.driver import DediprogFlashDriver, FlashromDriver
    from labgrid.driver.powerdriver import PowerResetMixin
    from labgrid.protocol import ConsoleProtocol, PowerProtocol, ResetProtocol

    config = environment.config.get_targets().get(source.target)
    if config is None:
        raise UserError(f"{source.env} has no target {source.target!r}")
    try:
        resources, drivers = target_factory.normalize_config(config)
    except Exception as error:
        raise UserError(f"{source.env}: {_said(error)}") from None
    found: dict[str, str] = {}
    outputs = set()
    for name, instances in drivers.items():
        kind = target_factory.drivers.get(name)
        if kind is None:
            raise UserError(f"{source.env}: labgrid has no driver {name!r}")
        if issubclass(kind, ConsoleProtocol):
            found["console"] = name
        if issubclass(kind, PowerProtocol):
            found["power"] = name
        if issubclass(kind, ResetProtocol) and not issubclass(kind, PowerResetMixin):
            found["reset"] = name
        if issubclass(kind, FlashromDriver | DediprogFlashDriver):
            found["programmer"] = name
        outputs.update(instances)
    if "console" not in found:
        raise UserError(f"{source.env}: {source.target} has no console",
                        hint="drivers: SerialDriver, or ExternalConsoleDriver")
    options = _options(config.get("options") or {}, source)
    update = options.get("bootmatrix-update")
    places = resources.get("RemotePlace", {})
    return BoardFacts(
        **found, clear_cmos=_OUTPUTS["clear_cmos"] in outputs,
        live=options.get("bootmatrix-live-flash", False),
        update=source.env.parent / update if update else None,
        place=next(iter(places), ""),
    )


def _said(error: Exception) -> str:
    """An exception of labgrid's in a line; of a command's what it printed last."""
    if isinstance(error, subprocess.CalledProcessError):
        output: Any = error.output or b""
        if not isinstance(output, bytes):
            output = b"\n".join(output)
        last = [line for line in output.decode(errors="replace").split("\n") if line.strip()][-3:]
        command = Path(error.cmd[0]).name if isinstance(error.cmd, list) else error.cmd
        return (f"{command} ended with "
                f"{error.returncode}: {' / '.join(map(str.strip, last)) or 'not a word'}")
    text = str(getattr(error, "msg", "")) or str(error)
    if isinstance(error, TimeoutError):
        return text
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'not a word'}"


@contextlib.contextmanager
def _bench(what: str) -> Iterator[None]:
    """What labgrid raises here is the bench's fault."""
    try:
        yield
    except (HarnessError, UserError):
        raise
    except Exception as error:
        raise BenchError(f"{what}: {_said(error)}") from error


def _within(seconds: float, work: Callable[[], object]) -> None:
    """Do it in so many seconds. labgrid's commands have no limit of their own.

    Raises TimeoutError where it is not over by then: it goes on, and nobody waits for it.
    """
    raised: list[BaseException] = []

    def do() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=do, name="bench command", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"its command has not ended in {seconds:.0f} s")
    if raised:
        raise raised[0]


# ---- a place of a coordinator ---------------------------------------------------------------


class LabgridPlace:
    """A place of a coordinator, while it is ours.

    It is held by host and user: which of a user's processes has it, the board's seat tells.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name, self._address = name, address
        self._session: Any = None

    def acquire(self, seconds: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Have it, as soon as nobody else has. Raises PlaceTaken, BenchError.

        Whoever else has it is waited for so long, and no longer once there is to be a ``stop``.
        """
        import grpc
        from labgrid.remote.client import start_session
        from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

        deadline = Deadline.after(seconds)
        with _bench(f"the coordinator at {self._address} does not answer"):
            session = self._session = start_session(self._address)
        mine = f"{session.gethostname()}/{session.getuser()}"
        changed = asyncio.Event()
        heard = session.on_place_changed

        async def hear(place: Any) -> None:
            await heard(place)
            changed.set()

        session.on_place_changed = hear

        async def take() -> None:
            while True:
                place = session.places.get(self.name)
                if place is None:
                    raise BenchError(f"the coordinator at {self._address} has no place {self.name}")
                # A run that was killed has left it acquired: nobody else of ours is in its seat.
                if place.acquired == mine:
                    return
                changed.clear()
                if not place.acquired:
                    with contextlib.suppress(grpc.aio.AioRpcError):  # somebody was faster
                        await session.stub.AcquirePlace(
                            messages.AcquirePlaceRequest(placename=self.name))
                        await session.sync_with_coordinator()
                        continue
                    await session.sync_with_coordinator()
                    place = session.places[self.name]
                if deadline.expired or stop():
                    raise PlaceTaken(f"the place {self.name} is held by {place.acquired}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(
                        changed.wait(), deadline.sooner(_STOP_SECONDS).remaining)

        with _bench(f"the place {self.name} cannot be acquired"):
            session.loop.run_until_complete(take())

    def lend(self, environment: Environment) -> None:
        """Have labgrid's remote resources share the session: they would open another."""
        from labgrid.resource.remote import RemotePlaceManager

        manager: Any = RemotePlaceManager.get()
        manager.env, manager.url = environment, self._address
        manager.session, manager.loop = self._session, self._session.loop

    def mark(self, comment: str) -> None:
        """Say to all who use the bench what is wrong with it."""
        from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

        session = self._session
        with contextlib.suppress(Exception):  # it is said in the record, too
            session.loop.run_until_complete(session.stub.SetPlaceComment(
                messages.SetPlaceCommentRequest(placename=self.name, comment=comment)))

    @property
    def comment(self) -> str:
        """What is said of it."""
        return str(self._session.places[self.name].comment)

    def close(self) -> None:
        """Let go of it."""
        from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

        session, self._session = self._session, None
        if session is None:
            return

        async def release() -> None:
            place = session.places.get(self.name)
            mine = f"{session.gethostname()}/{session.getuser()}"
            if place is not None and place.acquired == mine:
                await session.stub.ReleasePlace(
                    messages.ReleasePlaceRequest(placename=self.name, fromuser=mine))
            await session.stop()
            await session.close()

        with contextlib.suppress(Exception):  # the coordinator has gone
            session.loop.run_until_complete(release())


def _forget_manager() -> None:
    """Have labgrid's remote resources ask for a session anew."""
    from labgrid.resource.common import ResourceManager
    from labgrid.resource.remote import RemotePlaceManager

    ResourceManager.instances.pop(RemotePlaceManager, None)


# ---- what a bench has -----------------------------------------------------------------------


class _Port:
    """A console of labgrid's. Its steps are not told: they are for one thread alone."""

    def __init__(self, driver: Any) -> None:
        from labgrid.driver import ExternalConsoleDriver
        from labgrid.driver.serialdriver import TIMEOUT

        self._driver = driver
        self._nothing = TIMEOUT
        # Of a command's output it waits in milliseconds, of a port's in seconds.
        self._pause = 1000 * _PAUSE if isinstance(driver, ExternalConsoleDriver) else _PAUSE

    def read(self) -> bytes:
        try:
            return self._driver._read(size=1, timeout=self._pause) or b""
        except self._nothing:
            return b""

    def write(self, data: bytes) -> None:
        self._driver._write(data)


class _Programmer:
    """A programmer of labgrid's, whose command works with files.

    ``resource`` is where labgrid's driver has what it is bound to.
    """

    resource: str

    def __init__(self, driver: Any, seat: Seat) -> None:
        from labgrid.resource.common import NetworkResource

        self._driver = driver
        if not isinstance(getattr(driver, self.resource), NetworkResource):
            driver.tool = seat.one_at_a_time(driver.tool)

    def read(self) -> bytes:
        with _file() as file, _bench("the chip cannot be read"):
            _within(CHIP_SECONDS, lambda: self._read(file))
            return file.read_bytes()

    def write(self, image: bytes) -> None:
        with _file() as file, _bench("the chip cannot be written"):
            file.write_bytes(image)
            _within(CHIP_SECONDS, lambda: self._write(file))

    def _read(self, file: Path) -> None:
        raise NotImplementedError

    def _write(self, file: Path) -> None:
        raise NotImplementedError


@contextlib.contextmanager
def _file() -> Iterator[Path]:
    """A file for what is in a chip, or is to be in it."""
    with tempfile.TemporaryDirectory(prefix="bootmatrix-chip-") as directory:
        yield Path(directory, "chip.bin")


class _Flashrom(_Programmer):
    """flashrom, which verifies what it has written."""

    resource = "flashrom_resource"

    def _read(self, file: Path) -> None:
        file.write_bytes(b"")
        self._driver("-r", str(self._elsewhere(file)))
        self._fetch(file)

    def _write(self, file: Path) -> None:
        self._driver.load(str(file))

    def _elsewhere(self, file: Path) -> Path:
        """The file's place where the programmer is."""
        from labgrid.util.managedfile import ManagedFile

        managed = ManagedFile(str(file), self._driver.flashrom_resource)
        managed.sync_to_resource()
        self._remote = managed.get_remote_path()
        return Path(self._remote)

    def _fetch(self, file: Path) -> None:
        from labgrid.resource.common import NetworkResource
        from labgrid.util.ssh import sshmanager

        resource = self._driver.flashrom_resource
        if isinstance(resource, NetworkResource) and self._remote != str(file):
            sshmanager.open(resource.host).get_file(self._remote, str(file))


class _Dediprog(_Programmer):
    """dpcmd, which verifies what it has written."""

    resource = "flasher"

    def _read(self, file: Path) -> None:
        self._driver("--read", str(file))

    def _write(self, file: Path) -> None:
        self._driver.flash(str(file))


class Bench:
    """A board that is held: its seat, its place, its line, its power, its chip. Leaving it lets go.

    ``seconds`` is how long somebody else is waited for, unless there is to be a ``stop``; who has
    it as the same ``user`` is waited for without end. ``notes`` are for the record.
    """

    def __init__(
        self, source: BoardSource, cache: Path, seconds: float = 0.0, user: str = "",
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.source = source
        self.seat = Seat.of(source, cache)
        self.notes: dict[str, Any] = {"board": str(source)}
        self.place: LabgridPlace | None = None
        self._stack = contextlib.ExitStack()
        try:
            self._open(seconds, user, stop)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self, seconds: float, user: str, stop: Callable[[], bool]) -> None:
        environment = _environment(self.source)
        self.facts = _facts(environment, self.source)
        self._stack.enter_context(self.seat.held(user, seconds, stop))
        if self.facts.place:
            address = environment.config.get_option(
                "coordinator_address", os.environ.get("LG_COORDINATOR", _PORT))
            self.place = LabgridPlace(self.facts.place, address)
            self._stack.callback(self.place.close)
            self.place.acquire(seconds, stop)
            self.notes["place"] = self.facts.place
            self._stack.callback(_forget_manager)
            self.place.lend(environment)
        with _bench(f"{self.source} cannot be opened"):
            self._target: Target = environment.get_target(self.source.target)
            self._stack.callback(self._let_go, environment)
            self.line = SerialLine(_Port(self._driver("ConsoleProtocol")))
        self._stack.callback(self.line.close)
        self.chip: Chip | None = None
        if self.facts.programmer:
            with _bench(f"{self.source} has no programmer"):
                driver = self._driver(self.facts.programmer)
            kind = _Dediprog if self.facts.programmer == "DediprogFlashDriver" else _Flashrom
            self.chip = Chip(kind(driver, self.seat), self.seat, restore=self.source.restore)

    def _let_go(self, environment: Environment) -> None:
        with contextlib.suppress(Exception):  # a port that has gone
            environment.cleanup()

    def _driver(self, kind: str, name: str | None = None) -> Any:
        return self._target.get_driver(kind, name=name)

    def close(self) -> None:
        """Let go of it."""
        self._stack.close()

    def give_up(self) -> None:
        """Wait for nothing that the board says any more; from any thread."""
        self.line.give_up()

    def blame(self, reason: str) -> None:
        """Mark the board: what is wrong with it is the bench's."""
        self.notes["blamed"] = reason
        self.seat.mark = reason
        if self.place is not None:
            self.place.mark(f"bootmatrix: {reason}")

    def clear(self) -> None:
        """It is in order."""
        if self.seat.mark:
            self.seat.mark = ""
            if self.place is not None and self.place.comment.startswith("bootmatrix: "):
                self.place.mark("")

    # -- its power -------------------------------------------------------------------------------

    def on(self) -> None:
        """Give it power. Raises BenchError."""
        with _bench("the power cannot be switched on"):
            _within(_COMMAND_SECONDS, self._driver("PowerProtocol").on)

    def off(self) -> None:
        """Take it, and see that it is gone. Raises BenchError where the board goes on."""
        with _bench("the power cannot be switched off"):
            power = self._driver("PowerProtocol")
            _within(_COMMAND_SECONDS, power.off)
        if not self.line.wait_for_quiet(_QUIET_SECONDS, Deadline.after(_OFF_SECONDS)):
            raise BenchError("the power does not switch: the board goes on to speak without it")
        self.line.cut()
        get = getattr(power, "get", None)
        if get is not None:
            with _bench("the power cannot be asked"):
                if get():
                    raise BenchError("the power does not switch: it is on when it is switched off")

    def reset(self, before_it_runs: Callable[[], None]) -> None:
        """By its reset line."""
        with _bench("the reset line cannot be pulled"):
            driver = self._driver(self.facts.reset)
            output = getattr(driver, "output", None)
            if output is None:
                before_it_runs()
                self.line.cut()
                driver.reset()
                return
            output.set(True)
            self.line.wait_for_quiet(_RESET_SECONDS, Deadline.after(_OFF_SECONDS))
            before_it_runs()
            self.line.cut()
            output.set(False)

    def clear_cmos(self) -> None:
        """Press the button, with the power off."""
        with _bench("the CMOS cannot be cleared"):
            output = self._driver("DigitalOutputProtocol", _OUTPUTS["clear_cmos"])
            output.set(True)
            self.line.wait_for_quiet(_RESET_SECONDS, Deadline.after(_OFF_SECONDS))
            output.set(False)


# ---- a machine ------------------------------------------------------------------------------


class BoardClock:
    """A board runs by itself, however busy this host is: the clock of this process.

    It stands still while the bench works at the board, and nothing is waited for.
    """

    def __init__(self) -> None:
        self._spent = 0.0
        self._since: float | None = None

    def __call__(self) -> float:
        """The time."""
        return (awake() if self._since is None else self._since) - self._spent

    look = __call__

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """While the bench works."""
        if self._since is not None:
            yield
            return
        self._since = awake()
        try:
            yield
        finally:
            self._spent += awake() - self._since
            self._since = None

    def limit(self, seconds: float) -> float:
        """As long as it says."""
        return seconds

    def deadline(self, seconds: float) -> Deadline:
        """By this clock."""
        return Deadline.after(seconds, self)


class BoardMachine:
    """A board from its power-on to its power-off."""

    def __init__(self, name: str, host: int, hosts: BoardHosts) -> None:
        self.name, self.host, self._hosts = name, host, hosts
        self.clock = hosts.clock
        self.alive = False
        self._console: Console | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def console(self) -> Console:
        """Of the board's line, since the power-on."""
        if self._console is None:
            raise HarnessError(f"{self.name} has not been started yet")
        return self._console

    def start(self, deadline: Deadline) -> None:
        """Power on."""
        log = self._hosts.scratch.private / self.name
        log.mkdir()
        line = self._hosts.bench.line
        self._console = Console(line.attach(), log / CONSOLE_LOG, lambda: line.lost is not None)
        self.alive = True
        self._hosts.bench.on()

    def outlives(self, deadline: Deadline) -> bool:
        """It has power until it is switched off."""
        return self.alive

    def last_words(self) -> str:
        """Why its line has gone."""
        return self._hosts.bench.line.lost or ""

    def exit_status(self, deadline: Deadline) -> int:
        """It has none."""
        return 0

    def stopped(self) -> str | None:
        """Nobody knows of a board that stops its guest."""
        return None

    def booted(self) -> Refusal | None:
        """What is in its chip has run."""
        self._hosts.came_up()
        return None

    def resets(self, deadline: Deadline) -> int:
        """Nobody counts them."""
        return 0

    def check(self) -> None:
        """Whether its line is there."""
        if self._hosts.bench.line.lost is not None:
            raise BenchError(f"the console has gone: {self._hosts.bench.line.lost}")

    def close(self) -> None:
        """Let go of its console."""
        self._hosts.bench.line.detach()
        if self._console is not None:
            self._console.close()

    # -- abilities -------------------------------------------------------------------------------

    def off(self, deadline: Deadline) -> None:
        """Power off."""
        self._hosts.bench.off()
        self.alive = False

    def cut_power(self) -> None:
        """As ``off``."""
        self.off(self.clock.deadline(_OFF_SECONDS))

    def reset(self, deadline: Deadline) -> bool:
        """By the reset line; without one, and to write the chip, by a short power cut."""
        bench, hosts = self._hosts.bench, self._hosts
        if bench.facts.reset and hosts.pending is None:
            bench.reset(self._skip)
            return True
        with self.clock.stopped():
            bench.off()
            hosts.write_pending()
        self._skip()
        bench.on()
        return True

    def reset_by(self, keys: bytes, deadline: Deadline) -> bool:
        """The guest says that it resets the board, and then something else speaks, or nothing."""
        self._skip()
        self.console.send(keys)
        if self.console.hear("reset", deadline) is None:
            return False
        line = self._hosts.bench.line
        heard = line.hearing.bytes
        # A guest whose reset the board refuses goes on to beat, and answers.
        return line.wait_for_more(heard, deadline) or self.console.ask(deadline) is None

    def rom_digest(self, deadline: Deadline) -> str | None:
        """Of its chip, where the programmer can read it while the board runs."""
        chip = self._hosts.bench.chip
        if chip is None or not self._hosts.bench.facts.live:
            return None
        build = self._hosts.setup.hosts[self.host].firmware
        with self.clock.stopped():
            return sha256(build.code_of(chip.read()))

    def explain(self, since: float) -> BlackBox:
        """What the board does, and whose fault it is: it is power-cycled once for it."""
        return self._hosts.explain()

    def _skip(self) -> None:
        if not self.console.skip():
            self.check()


class _ChipAsNvram:
    """A chip as the file of a guest's firmware that steps write to."""

    def __init__(self, hosts: BoardHosts, size: int) -> None:
        self._hosts, self.size = hosts, size

    def stage(self, firmware: bytes, name: str) -> None:
        """Write it, or as soon as the board is off."""
        self._hosts.write(firmware)

    def clear(self) -> None:
        """The CMOS, and the variables in the chip."""
        self._hosts.clear()


class BoardHosts:
    """One board, and the firmware files that a cell has for it, under the names of its hosts."""

    machine = BoardMachine

    def __init__(
        self,
        bench: Bench,
        setup: GuestSetup,
        directory: Path,
        processes: list[dict[str, object]] | None = None,
    ) -> None:
        self.bench, self.setup = bench, setup
        self.processes = [] if processes is None else processes
        self.rom_size = setup.hosts[0].firmware.size
        self.scratch = Scratch(directory)
        self.clock = BoardClock()
        self.pending: bytes | None = None
        self.fault: str | None = None
        self._files = [host.firmware for host in setup.hosts]
        self._owned = False  # the guest has its firmware
        self._machines: list[BoardMachine] = []
        self._good: bytes | None = None  # an image with which the board has spoken
        self._heard = 0  # bytes of the line when the last boot was over

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def begin(self) -> None:
        """See to what others have left, and have the board off."""
        self.bench.off()
        if self.bench.chip is not None and (found := self.bench.chip.recover()) is not None:
            self.bench.notes["recovered"] = found
        if self.bench.facts.update is not None and self.setup.flash is not None:
            self.bench.facts.update.write_bytes(self.setup.flash.path.read_bytes())

    def check_engine(self) -> None:
        """There is none."""

    def close(self) -> None:
        """Power off; what the chip held is in it again, if that is wanted."""
        bench = self.bench
        try:
            for machine in self._machines:
                machine.close()
            try:
                bench.off()
            finally:
                if bench.chip is not None:
                    restored = bench.chip.finish()
                    bench.notes["writes"] = bench.chip.writes
                    if restored:
                        bench.notes["restored"] = True
        finally:
            self.scratch.close()

    # -- abilities -------------------------------------------------------------------------------

    def launch(self, host: int, *, incoming: bool) -> BoardMachine:
        """The board, with its firmware in its chip: each time, or once for a guest that owns it."""
        self.clock = BoardClock()  # at a launch all clocks say the same
        if not self._owned or self.setup.policy.reflashes:
            self.pending = self._files[host].path.read_bytes()
            self._owned = True
        self.write_pending()
        if self.bench.chip is not None and self.setup.flash is not None:
            self.bench.chip.changed()  # by the board itself, from now on
        name = f"{len(self.processes) + 1}-{role_name(host)}"
        build = self.setup.hosts[host].qemu
        self.processes.append({"role": role_name(host), "version": build.version,
                               "argv": ["labgrid", self.bench.source.target]})
        self._machines.append(BoardMachine(name, host, self))
        return self._machines[-1]

    def install(self, host: int, firmware: FirmwareBuild) -> None:
        """Another file; it is in the chip at once, but where each start puts one there."""
        self._files[host] = firmware
        if self._owned and self.setup.policy is not Policy.MACHINE_OWNED:
            self.write(firmware.path.read_bytes())

    @property
    def nvram(self) -> _ChipAsNvram | None:
        """The chip, once it has the guest's firmware."""
        return _ChipAsNvram(self, self.rom_size) if self._owned else None

    def arrived(self, machine: BoardMachine) -> bool | None:
        """No guest arrives at a board."""
        return None

    # -- the chip --------------------------------------------------------------------------------

    @property
    def powered(self) -> bool:
        """Whether the board has power."""
        return any(machine.alive for machine in self._machines)

    def write(self, image: bytes) -> None:
        """Into the chip: now, or when the board is off."""
        self.pending = image
        if self.bench.facts.live or not self.powered:
            self.write_pending()

    def write_pending(self) -> None:
        """Write what is to be written. The board is off, or does not mind."""
        image, self.pending = self.pending, None
        if image is not None and self.bench.chip is not None:
            with self.clock.stopped():
                self.bench.chip.program(image)

    def clear(self) -> None:
        """The CMOS and the variables, of a board that is off."""
        if self.bench.facts.clear_cmos:
            self.bench.clear_cmos()
        build, chip = self._files[0], self.bench.chip
        if build.store_size and chip is not None:
            content = chip.read()
            chip.program(build.path.read_bytes()[: build.store_size] + content[build.store_size:])

    # -- who is to blame -------------------------------------------------------------------------

    def complaint(self) -> str | None:
        """What is wrong with the bench, by all that is known; None for nothing."""
        line = self.bench.line
        if line.lost is not None:
            return f"the console has gone: {line.lost}"
        return self.fault or line.hearing.complaint()

    def explain(self) -> BlackBox:
        """Find out why the board is not up. Raises BenchError where the bench shows that it is it.

        A board that says nothing is power-cycled once; if it then still says nothing, it gets the
        firmware that it had before, or with which it has spoken, and is asked to speak with that.
        """
        line, evidence = self.bench.line, []
        heard = line.hearing.bytes
        evidence.append(f"{heard} bytes from the board since it is held")
        if line.lost is not None:
            return _box("the console has gone", evidence)
        if line.wait_for_more(heard, Deadline.after(_QUIET_SECONDS)):
            return self._without_a_guest(evidence)
        if self._speaks_after_a_cycle():
            evidence.append("it speaks after a power cycle")
            if not line.hearing.guests and not line.wait_for_guest(0, self._due):
                return self._without_a_guest(evidence)
            return _box("the board speaks again after a power cycle", evidence)
        evidence.append("not a byte after a power cycle")
        chip = self.bench.chip
        now = b"" if chip is None else chip.read()
        code = self._files[0].code_of  # its variables a board may have changed
        if chip is not None and chip.written and code(chip.written) != code(now):
            self.fault = "the chip does not hold what was written to it, and verified"
            chip.distrust()
            evidence.append(self.fault)
            return _box(self.fault, evidence)
        for image, what in self._others(now):
            assert chip is not None
            self.bench.off()
            chip.program(image)
            if self._speaks_after_a_cycle():
                evidence.append(f"it speaks with {what}")
                self.bench.off()
                chip.program(now)
                if self._speaks_after_a_cycle():
                    self.fault = ("the board was dead for a while: it speaks with the same "
                                  "firmware now")
                    evidence.append(self.fault)
                    return _box(self.fault, evidence)
                evidence.append("and is dead again with the other")
                return _box(f"dead with this firmware: the board speaks with {what}", evidence)
            self.fault = f"the board is dead: it says nothing with {what}, either"
            evidence.append(self.fault)
            return _box(self.fault, evidence)
        if heard == 0:
            self.fault = ("not a byte from the board, not after a power cycle either, and no other "
                          "firmware is known to tell by")
        return _box("not a byte, not after a power cycle either", evidence)

    def _without_a_guest(self, evidence: list[str]) -> BlackBox:
        """The board speaks. Where no guest ever came up on it, another firmware is to boot one."""
        line, speaks = self.bench.line, "the board speaks, but its guest is not up"
        if line.hearing.guests:
            return _box(speaks, evidence)
        chip = self.bench.chip
        for image, what in self._others(b"" if chip is None else chip.read()):
            assert chip is not None
            self.bench.off()
            chip.program(image)
            self.bench.on()
            if line.wait_for_guest(0, self._due):
                evidence.append(f"its guest comes up with {what}")
                return _box(f"no guest with this firmware: it comes up with {what}", evidence)
            self.fault = (f"no guest comes up on this board, with {what} neither: look at the "
                          "guest's disk, and at the boot order")
            evidence.append(self.fault)
            return _box(self.fault, evidence)
        return _box(speaks, evidence)

    @property
    def _due(self) -> Deadline:
        return Deadline.after(max(self.setup.seconds, _SPEAK_SECONDS))

    def _others(self, now: bytes) -> Iterator[tuple[bytes, str]]:
        """Images that are known to be better than what is in the chip ``now``."""
        chip = self.bench.chip
        if chip is None:
            return
        for image, what in ((self._good, "the firmware that came up before"),
                            (chip.saved, "what its chip held before")):
            if image is not None and image != now:
                yield image, what

    def _speaks_after_a_cycle(self) -> bool:
        self.bench.off()
        heard = self.bench.line.hearing.bytes
        self.bench.on()
        return self.bench.line.wait_for_more(heard, self._due)

    def came_up(self) -> None:
        """What is in the chip has shown that the board can speak."""
        chip, heard = self.bench.chip, self.bench.line.hearing.bytes
        if chip is not None and self.pending is None and heard > self._heard:
            self._good = chip.known
        self._heard = heard


def _box(line: str, evidence: list[str]) -> BlackBox:
    return BlackBox(line, "\n".join(evidence) + "\n")
