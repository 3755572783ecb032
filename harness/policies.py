"""Each firmware policy as a small model: which firmware must run at each boot, and why.

A model is a guest's life on paper. It is told the same steps that the runner does to a real
guest, and says after each which firmware is in the guest's address space, what its UEFI variables
are and which disk it has open. The tables in docs/model.md, "Policies" and "Variables", are what
stands here as code; nothing here knows how a QEMU is made to behave so, except ``mechanism``,
which names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from harness.boards import Loader
from harness.model import DEFAULT_MACHINE, Policy, Step, StepKind

FIRST_DISK, SECOND_DISK = "A", "B"


@dataclass(frozen=True)
class HostFacts:
    """What a model has to know of a host: QEMU version, its default machine, its firmware.

    ``label`` is what its fw_cfg says to the guest about where it is, "" where it says nothing.
    ``loader`` is how a stock QEMU takes that firmware on the cell's board.
    """

    version: str
    default_machine: str
    firmware: str
    label: str = ""
    loader: Loader = Loader.ROM


@dataclass(frozen=True)
class VariablesExpected:
    """What must be found in the variable store of a guest that runs.

    ``store`` tells which creation of a store this is, counted from 1. ``boots`` is how many boots
    it has seen, this one included: the guest's own counter. ``value`` is what the guest's variable
    and its boot entry say. ``lost`` is true from the boot on at which a guest found another store
    than it had: what it had written is what a real user loses there.
    """

    store: int
    boots: int
    value: str
    lost: bool


@dataclass(frozen=True)
class Expected:
    """What must hold after one step.

    ``boots`` tells whether the step makes the guest boot; ``firmware`` and ``disk`` are what
    runs after it (None: no process). ``refusal`` is set where QEMU must refuse the step: the
    class of the reason, and the steps after it are then not reached. ``rom`` is the firmware
    whose bytes are in the ROM: from the moment at which a guest has programmed its flash until
    its next reset another one than runs. ``label`` is the host's that fw_cfg names.
    ``variables`` is None where there is no process, or no variable store.
    """

    step: Step
    host: int | None
    boots: bool
    firmware: str | None
    disk: str | None
    refusal: str | None = None
    rom: str | None = None
    label: str | None = None
    variables: VariablesExpected | None = None


@dataclass
class _Store:
    """A variable store in a file. ``firmware`` is what lies in the same file, if they share one."""

    number: int
    firmware: str
    boots: int = 0
    value: str = ""


@dataclass
class _Process:
    """A QEMU process of the model: where it is, and what it read when it was launched."""

    host: int
    image: str  # image(P)
    disk: str
    loader: Loader = Loader.ROM
    store: _Store | None = None


@dataclass
class PolicyModel:
    """The life of one guest. Subclasses answer the policy's questions, one method each."""

    hosts: Sequence[HostFacts]
    machine: str
    process: _Process | None = None
    running: str | None = None
    files: list[str] = field(init=False)  # file(H), by host
    loaders: list[Loader] = field(init=False)  # of these files
    # This guest's: a file of variables and one of everything are two, on each host.
    stores: dict[tuple[int, Loader], _Store] = field(default_factory=dict)
    stores_made: int = 0
    last_store: _Store | None = None  # what it had when it was shut down
    lost: bool = False
    disk_file: str = FIRST_DISK

    def __post_init__(self) -> None:
        self.files = [host.firmware for host in self.hosts]
        self.loaders = [host.loader for host in self.hosts]

    # -- the policy's questions ------------------------------------------------------------

    def at_start(self, host: int) -> str:
        """The firmware of a start on ``host``."""
        return self.files[host]

    def at_reset(self, process: _Process) -> str:
        """The firmware of a reset in ``process``."""
        raise NotImplementedError

    def upgrade_nvram(self, firmware: str) -> None:
        """The user stages a firmware build for the guest."""
        raise NotImplementedError(f"{type(self).__name__} has no nvram")

    def clear_nvram(self) -> None:
        """The user clears the guest's nvram."""
        raise NotImplementedError(f"{type(self).__name__} has no nvram")

    def guest_flash(self, firmware: str) -> None:
        """The guest programs its flash: nothing changes where its firmware is no flash."""

    def in_rom(self) -> str | None:
        """The firmware whose bytes are in the running guest's ROM."""
        return self.running

    def store_at(self, host: int) -> _Store | None:
        """The variable store of a start on ``host``: a file of the guest's there."""
        file = host, self.loaders[host]
        if file not in self.stores and self.loaders[host].has_store:
            self.stores[file] = self._new_store(host)
        return self.stores.get(file)

    def carry_store(self, host: int, store: _Store) -> _Store:
        """The store that has come to ``host`` in a migration: it overwrites what was there."""
        self.stores[host, self.loaders[host]] = arrived = replace(store)
        return arrived

    # -- the steps, the same under every policy --------------------------------------------

    def apply(self, step: Step) -> Expected:
        """Do a step and say what must hold after it."""
        boots = False
        if step.kind is StepKind.START:
            assert step.host is not None
            assert self.process is None
            self.process = self._launch(step.host)
            self.running = self.at_start(step.host)
            self.process.store = self.store_at(step.host)
            self.lost |= self._misses(self.process.store)
            boots = True
        elif step.kind is StepKind.RESET:
            assert self.process is not None
            self.running = self.at_reset(self.process)
            boots = True
        elif step.kind is StepKind.MIGRATE:
            assert step.host is not None
            assert self.process is not None
            refusal = self._refusal(self.process.host, step.host)
            if refusal:
                return self._expected(step, boots=False, refusal=refusal)
            store = self.process.store
            self.process = self._launch(step.host)
            self.process.store = self.carry_store(step.host, store) if store else None
        elif step.kind is StepKind.SHUTDOWN:
            assert self.process is not None
            self.last_store = self.process.store or self.last_store
            self.process = self.running = None
        elif step.kind is StepKind.UPGRADE_HOST:
            assert step.host is not None
            assert step.firmware_of is not None
            self.files[step.host] = self.hosts[step.firmware_of].firmware
            self.loaders[step.host] = self.hosts[step.firmware_of].loader
        elif step.kind is StepKind.UPGRADE_NVRAM:
            assert step.firmware_of is not None
            self.upgrade_nvram(self.hosts[step.firmware_of].firmware)
        elif step.kind is StepKind.GUEST_FLASH:
            assert step.firmware_of is not None
            self.guest_flash(self.hosts[step.firmware_of].firmware)
        elif step.kind is StepKind.CLEAR_NVRAM:
            self.clear_nvram()
        elif step.kind is StepKind.REPLACE_DISK:
            self.disk_file = SECOND_DISK
        store = self.process.store if self.process else None
        if store and boots:
            store.boots += 1
        if store and step.kind is StepKind.WRITE_VARIABLE:
            store.value = f"boot-{store.boots}"
        return self._expected(step, boots=boots)

    def _launch(self, host: int) -> _Process:
        return _Process(host, self.files[host], self.disk_file, self.loaders[host])

    def _misses(self, found: _Store | None) -> bool:
        # By what is in it: a store that stayed behind at a migration has missed what came after.
        return self.last_store is not None and found is not None and found != self.last_store

    def _new_store(self, host: int) -> _Store:
        """A copy of the template that comes with the firmware on ``host``."""
        self.stores_made += 1
        return _Store(self.stores_made, self.files[host])

    def _refusal(self, here: int, there: int) -> str | None:
        # Without -M each QEMU takes its own newest type, and a stream names its type.
        defaults = {self.hosts[here].default_machine, self.hosts[there].default_machine}
        return "machine-type" if self.machine == DEFAULT_MACHINE and len(defaults) > 1 else None

    def _expected(self, step: Step, *, boots: bool, refusal: str | None = None) -> Expected:
        process = self.process
        store = process.store if process else None
        return Expected(
            step=step,
            host=process.host if process else None,
            boots=boots,
            firmware=self.running,
            disk=process.disk if process else None,
            refusal=refusal,
            rom=self.in_rom() if process else None,
            label=self.hosts[process.host].label or None if process else None,
            variables=VariablesExpected(store.number, store.boots, store.value, self.lost)
            if store else None,
        )  # fmt: skip


class Stock(PolicyModel):
    """Whatever QEMU does by itself, which is not the same for every loader."""

    def at_start(self, host: int) -> str:
        """file(H), or the copy of it that is this guest's own flash there."""
        if self.loaders[host] is not Loader.WRITABLE_FLASH:
            return self.files[host]
        flash = self.store_at(host)
        assert flash is not None
        return flash.firmware

    def at_reset(self, process: _Process) -> str:
        """ROM and flash stay what migrated in; memory is filled again with what was read."""
        if process.loader is Loader.MEMORY:
            return process.image
        assert self.running is not None
        return self.running


class MachineOwned(PolicyModel):
    """Firmware is part of the machine, replaced at start-up or reset and at no other point."""

    def at_reset(self, process: _Process) -> str:
        """image(P): what this process read from its host when it was launched."""
        return process.image


class Reread(PolicyModel):
    """Firmware is part of the machine, and the file is read again at each boot."""

    def at_reset(self, process: _Process) -> str:
        """file(H) at this moment."""
        return self.files[process.host]


@dataclass
class GuestOwned(PolicyModel):
    """Firmware is part of the guest: in an nvram file that migrates with it."""

    nvram: str | None = None
    staged: str | None = None
    stamp: str | None = None
    nvram_store: _Store | None = None

    def at_start(self, host: int) -> str:
        """The nvram's firmware; the first start ever initialises it with file(H)."""
        if self.nvram is None:
            self._initialise(host)
        return self._take_staged()

    def at_reset(self, process: _Process) -> str:
        """The nvram's firmware, or what the user staged."""
        return self._take_staged()

    def upgrade_nvram(self, firmware: str) -> None:
        """Stage a build; it becomes ``running`` at the next reset or start, never before."""
        self.staged = firmware

    def guest_flash(self, firmware: str) -> None:
        """The flash is the nvram: the build runs from the next reset or start on, anywhere."""
        self.nvram = firmware

    def in_rom(self) -> str | None:
        """The nvram, which is mapped as flash."""
        return self.nvram if self.process else None

    def clear_nvram(self) -> None:
        """The next start initialises the nvram again, firmware and variables."""
        self.nvram = self.staged = self.stamp = None
        self.nvram_store = None

    def store_at(self, host: int) -> _Store | None:
        """The nvram's, made with it."""
        return self.nvram_store

    def carry_store(self, host: int, store: _Store) -> _Store:
        """The nvram file comes along: there is but one."""
        return store

    def _initialise(self, host: int) -> None:
        self.nvram = self.files[host]
        self.stamp = self.hosts[host].version
        self.nvram_store = self._new_store(host) if self.loaders[host].has_store else None

    def _take_staged(self) -> str:
        assert self.nvram is not None
        if self.staged is not None:
            self.nvram, self.staged = self.staged, None
        return self.nvram


@dataclass
class GuestOwnedVersioned(GuestOwned):
    """Guest-owned, but the nvram clears itself when the guest moves without ``-M``."""

    def at_start(self, host: int) -> str:
        """As guest-owned, unless the machine is ``default`` and the stamp is another version."""
        if (
            self.machine == DEFAULT_MACHINE
            and self.nvram is not None
            and self.stamp != self.hosts[host].version
        ):
            self.clear_nvram()
        return super().at_start(host)


_MODELS: dict[Policy, type[PolicyModel]] = {
    Policy.STOCK: Stock,
    Policy.GUEST_OWNED: GuestOwned,
    Policy.GUEST_OWNED_VERSIONED: GuestOwnedVersioned,
    Policy.MACHINE_OWNED: MachineOwned,
    Policy.REREAD: Reread,
}


def model(policy: Policy, hosts: Sequence[HostFacts], machine: str) -> PolicyModel:
    """The model of a guest under ``policy``. ``machine`` is a machine type or ``default``."""
    return _MODELS[policy](hosts, machine)


def plan(
    policy: Policy, hosts: Sequence[HostFacts], machine: str, steps: Sequence[Step]
) -> tuple[Expected, ...]:
    """What must hold after each step. Ends early at a step that QEMU must refuse."""
    guest = model(policy, hosts, machine)
    expectations = []
    for step in steps:
        expectations.append(guest.apply(step))
        if expectations[-1].refusal:
            break
    return tuple(expectations)


class Swap(Enum):
    """What is written into the guest's ROM at the reset vector."""

    NOTHING = "nothing"
    LAUNCHED = "image(P): what the process read at its launch"
    FILE = "file(H): the host's file of that moment"
    STAGED = "the build that the user staged in the nvram, if any"


@dataclass(frozen=True)
class Mechanism:
    """How a stock QEMU is made to follow a policy.

    ``nvram``: the firmware is a pflash backed by the guest's nvram file, instead of ``-bios``.
    ``clears_on_move``: a start without ``-M`` on another version initialises the nvram again.
    """

    nvram: bool
    swap: Swap
    clears_on_move: bool = False


_MECHANISMS = {
    Policy.STOCK: Mechanism(nvram=False, swap=Swap.NOTHING),
    Policy.GUEST_OWNED: Mechanism(nvram=True, swap=Swap.STAGED),
    Policy.GUEST_OWNED_VERSIONED: Mechanism(nvram=True, swap=Swap.STAGED, clears_on_move=True),
    Policy.MACHINE_OWNED: Mechanism(nvram=False, swap=Swap.LAUNCHED),
    Policy.REREAD: Mechanism(nvram=False, swap=Swap.FILE),
}


def mechanism(policy: Policy, loader: Loader = Loader.ROM) -> Mechanism:
    """How a stock QEMU is made to follow ``policy``, where it takes firmware by ``loader``."""
    if policy is Policy.MACHINE_OWNED and loader is Loader.MEMORY:
        return _MECHANISMS[Policy.STOCK]  # it writes image(P) there itself
    return _MECHANISMS[policy]
