"""What a policy is: a guest's life on paper, and the questions that each policy answers in it.

A model is told the same steps that the runner does to a real guest, and says after each which
firmware is in the guest's address space, what its UEFI variables are and which disk it has open.
The tables in docs/model.md, "Policies" and "Variables", are what stands here as code; nothing here
knows how a QEMU is made to behave so, except ``mechanism``, which names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import ClassVar

from bootmatrix.boards import Loader
from bootmatrix.model import DEFAULT_MACHINE, BootBy

FIRST_DISK, SECOND_DISK = "A", "B"


class Swap(Enum):
    """What is written into the guest's ROM at the reset vector."""

    NOTHING = "nothing"
    LAUNCHED = "image(P): what the process read at its launch"
    FILE = "file(H): the host's file of that moment"
    STAGED = "the build that the user staged in the nvram, if any"


class Secret(StrEnum):
    """What becomes, at a boot, of the secret that a guest has sealed in its TPM.

    It is sealed at the first boot, to what the firmware has measured then.
    """

    SEALED = "sealed"
    UNLOCKED = "unlocked"
    LOCKED_OUT = "locked-out"


@dataclass(frozen=True)
class Mechanism:
    """How a stock QEMU is made to follow a policy.

    ``nvram``: the firmware is a pflash backed by the guest's nvram file, instead of ``-bios``.
    ``clears_on_move``: a start without ``-M`` on another version initialises the nvram again.
    """

    nvram: bool
    swap: Swap
    clears_on_move: bool = False


IN_A_CHIP = Mechanism(nvram=False, swap=Swap.NOTHING)
"""How a real board follows any policy: its chip is programmed, by the bench or by its guest."""


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
    than it had: what it had written is what a real user loses there. ``enrolled``: it has the
    Secure Boot keys of the guest's.
    """

    store: int
    boots: int
    value: str
    lost: bool
    enrolled: bool = False


@dataclass
class VariableStore:
    """A variable store in a file. ``firmware`` is what lies in the same file, if they share one.

    ``boot_order`` and ``boot_next`` tell whether these variables name an entry of the guest's,
    ``enrolled`` whether it has its Secure Boot keys.
    """

    number: int
    firmware: str
    boots: int = 0
    value: str = ""
    boot_order: bool = False
    boot_next: bool = False
    enrolled: bool = False

    def boot(self) -> BootBy:
        """One boot: whose program the firmware starts. BootNext counts once."""
        self.boots += 1
        by = BootBy.ORDER if self.boot_order else BootBy.DEFAULT
        by = BootBy.NEXT if self.boot_next else by
        self.boot_next = False
        return by


@dataclass
class ModelProcess:
    """A QEMU process of the model: where it is, and what it read when it was launched."""

    host: int
    image: str  # image(P)
    disk: str
    loader: Loader = Loader.ROM
    store: VariableStore | None = None


@dataclass
class PolicyModel:
    """The life of one guest. A policy is a subclass: it answers the questions, one method each.

    ``name`` is the policy's in matrix files, ``how`` what a stock QEMU is made to follow it by.
    ``incoming`` is the process to which a migration has begun.
    """

    name: ClassVar[str]
    how: ClassVar[Mechanism]

    hosts: Sequence[HostFacts]
    machine: str
    process: ModelProcess | None = None
    incoming: ModelProcess | None = None
    running: str | None = None
    files: list[str] = field(init=False)  # file(H), by host
    loaders: list[Loader] = field(init=False)  # of these files
    # This guest's: a file of variables and one of everything are two, on each host.
    stores: dict[tuple[int, Loader], VariableStore] = field(default_factory=dict)
    stores_made: int = 0
    last_store: VariableStore | None = None  # what it had when it was shut down
    sealed_to: str | None = None  # the firmware of its first boot; its TPM goes where it goes
    secret: Secret | None = None
    booted_by: BootBy | None = None  # at the last boot; None without a store
    lost: bool = False
    disk_file: str = FIRST_DISK

    def __post_init__(self) -> None:
        self.files = [host.firmware for host in self.hosts]
        self.loaders = [host.loader for host in self.hosts]

    # -- the policy's questions ------------------------------------------------------------

    @classmethod
    def on(cls, loader: Loader) -> type[PolicyModel]:
        """The model of the policy where firmware is taken by ``loader``."""
        return cls

    @classmethod
    def mechanism(cls, loader: Loader = Loader.ROM) -> Mechanism:
        """How a stock QEMU is made to follow the policy, where it takes firmware by ``loader``."""
        return cls.how

    def at_start(self, host: int) -> str:
        """The firmware of a start on ``host``."""
        return self.files[host]

    def at_reset(self, process: ModelProcess) -> str:
        """The firmware of a reset in ``process``."""
        raise NotImplementedError

    def upgrade_nvram(self, firmware: str) -> None:
        """The user stages a firmware build for the guest."""
        raise NotImplementedError(f"{type(self).__name__} has no nvram")

    def upgrade_host(self, host: int, firmware: str, loader: Loader) -> None:
        """file(H) is another one, for whoever reads it from now on."""
        self.files[host] = firmware
        self.loaders[host] = loader

    def clear_nvram(self) -> None:
        """The user clears the guest's nvram."""
        raise NotImplementedError(f"{type(self).__name__} has no nvram")

    def guest_flash(self, firmware: str) -> None:
        """The guest programs its flash: nothing changes where its firmware is no flash."""

    def in_rom(self) -> str | None:
        """The firmware whose bytes are in the running guest's ROM."""
        return self.running

    def store_at(self, host: int) -> VariableStore | None:
        """The variable store of a start on ``host``: a file of the guest's there."""
        file = host, self.loaders[host]
        if file not in self.stores and self.loaders[host].has_store:
            self.stores[file] = self.new_store(host)
        return self.stores.get(file)

    def carry_store(self, host: int, store: VariableStore) -> VariableStore:
        """The store that has come to ``host`` in a migration: it overwrites what was there."""
        self.stores[host, self.loaders[host]] = arrived = replace(store)
        return arrived

    # -- what steps do, the same under every policy -----------------------------------------

    def boot(self, firmware: str) -> None:
        """The guest comes up in its process, and counts the boots of its store."""
        assert self.process is not None
        self.running = firmware
        if self.sealed_to is None:
            self.sealed_to, self.secret = firmware, Secret.SEALED
        else:
            self.secret = Secret.UNLOCKED if firmware == self.sealed_to else Secret.LOCKED_OUT
        self.booted_by = self.process.store.boot() if self.process.store else None

    def power_off(self) -> None:
        """Nothing runs; what the guest had in its variables is what it may look for."""
        assert self.process is not None
        self.last_store = self.process.store or self.last_store
        self.process = self.incoming = self.running = None

    def refusal(self, source: int, target: int) -> str | None:
        """The class of the reason for which QEMU must refuse a migration; None: it must not."""
        # Without -M each QEMU takes its own newest type, and a stream names its type.
        defaults = {self.hosts[source].default_machine, self.hosts[target].default_machine}
        return "machine-type" if self.machine == DEFAULT_MACHINE and len(defaults) > 1 else None

    def launch(self, host: int) -> ModelProcess:
        """A new process on ``host``, which reads what is there now."""
        return ModelProcess(host, self.files[host], self.disk_file, self.loaders[host])

    def misses(self, found: VariableStore | None) -> bool:
        """Whether a guest that is started finds another store than it had."""
        # By what is in it: a store that stayed behind at a migration has missed what came after.
        return self.last_store is not None and found is not None and found != self.last_store

    def new_store(self, host: int) -> VariableStore:
        """A copy of the template that comes with the firmware on ``host``."""
        self.stores_made += 1
        return VariableStore(self.stores_made, self.files[host])
