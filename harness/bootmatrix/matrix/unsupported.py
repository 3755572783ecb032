"""What cannot be run is known before anything is started: the one sentence why. Pure.

Sizes are not among it: whether one firmware fits in the place of another is found by running.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import combinations

from bootmatrix.arguments import last, machine_type
from bootmatrix.boards import ARCHITECTURES, Board, Loader, board_of
from bootmatrix.cell import AXES, Cell
from bootmatrix.matrix.expansion import newest_common
from bootmatrix.model import (
    BOARD_MACHINE,
    DEFAULT_MACHINE,
    NEWEST_COMMON,
    Arch,
    Channel,
    Disk,
    GuestKind,
    Host,
    Interface,
    MigrationEnd,
    MigrationMode,
    MovesAs,
    Nic,
    Tpm,
)
from bootmatrix.modes import MODES, SNAPSHOT_OF_NAMED, Memory, lacking, version_of
from bootmatrix.policies import Policy
from bootmatrix.policies.base import Swap
from bootmatrix.steps.base import Ability, GuestState, Platform, Step
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.migration_begins import MigrationBegins
from bootmatrix.steps.migration_fails import MigrationFails

MOVES = (Migrate, MigrationBegins, MigrationFails)
"""The steps in which a guest is migrated, or begins to be."""


def reason(
    cell: Cell, hosts: Sequence[Host], machines: Collection[Ability] = tuple(Ability)
) -> str | None:
    """Why a cell cannot exist on these hosts, which stand in its order; None if it can.

    ``machines`` is what machines can do on them.
    """
    return next(_reasons(cell, hosts, machines), None)


def _reasons(cell: Cell, hosts: Sequence[Host], machines: Collection[Ability]) -> Iterator[str]:
    for host in hosts:
        yield from _of_qemu(cell, host, saved=hosts[0].qemu.saved is not None)
    board = cell.board
    if board is None:
        yield f"no guest of ours boots on machine {cell.machine} ({cell.arch})"
        return
    if cell.accel.on(0) is not cell.accel.on(1) and len(hosts) == 1:
        yield f"{cell.accel} is for two hosts, {cell.scenario.name} has one"
    if cell.accel.with_kvm and cell.arch is not Arch.X86_64:
        yield f"kvm runs guests of this host's own architecture, which {cell.arch} is not"
    if machine_type(cell.machine) == DEFAULT_MACHINE and not ARCHITECTURES[cell.arch].has_default:
        yield f"QEMU has no default machine of use for {cell.arch}: name one, such as {board.name}"
    has_probe = ARCHITECTURES[cell.arch].has_probe
    if cell.guest is GuestKind.PROBE and not has_probe:
        yield f"no probe of ours runs on {board}: its firmware's prompt is there, guest: prompt"
    if cell.guest is GuestKind.PROMPT and has_probe:
        yield f"guest prompt is for boards without a probe of ours, and {board} has one"
    if cell.guest.is_linux and cell.arch is not Arch.X86_64:
        yield f"a {cell.guest} guest is one of x86_64, there is none of {cell.arch}"
    own = cell.own_machine
    if own is not None and own.arch is not cell.arch:
        yield f"{cell.guest} is a machine of {own.arch}, not of {cell.arch}"
    if cell.disk is Disk.OWN:
        if own is None or not own.has_disk:
            yield "disk: own is that of a guest whose machine has a disk of its own"
    elif cell.disk not in board.disks:
        yield f"{board.name} has no {cell.disk} disk"
    if cell.nic is not Nic.NONE and not board.pci:
        yield f"{board.name} has no PCI, and so no {cell.nic} card"
    yield from _of_tpm(cell, hosts, board)
    yield from _of_migration(cell, hosts)
    if MODES[cell.migration].memory is not Memory.ANONYMOUS:
        yield from _of_memory(cell, hosts)
    if MODES[cell.migration].leaves_first:
        yield from _of_snapshot(cell, hosts, board)
    for host in hosts:
        yield from _of_firmware(cell, host, board)
        yield from _of_policy(cell.policy, host, board)
    if len({(host.qemu.name, host.qemu.digest) for host in hosts if host.qemu.board}) > 1:
        yield "a guest does not move from board to board: one cell is about one board"
    if cell.machine == BOARD_MACHINE:
        yield from _of_board(cell)
    if len({host.firmware.interface for host in hosts}) > 1:
        yield "one host has a BIOS, another UEFI firmware: no guest of ours boots from both"
    yield from _of_alike_firmware(hosts, board)
    yield from _of_machines(cell.policy, hosts, board, machines)
    platform, state = Platform(board, hosts, cell.guest.kind), GuestState()
    for step in cell.scenario.steps:
        for ability in Ability:
            if ability in step.needs and ability not in machines:
                yield f"{step.kind} needs {ability.value}, which these machines do not have"
        if cell.guest.kind.is_foreign and (
                step.kind == "replace-disk" or Ability.CONSOLE in step.needs
                or getattr(step, "during_post", False)):
            yield f"{step.kind} needs a guest of ours, which {cell.guest} is not"
        if state.replaced and isinstance(step, MOVES) and MODES[cell.migration].leaves_first:
            yield (f"{cell.migration} keeps the guest in its disk, and replace-disk has put "
                   "another one where the destination looks")
        yield from step.unsupported(platform, state.host)
        step.advance(state)


def _of_qemu(cell: Cell, host: Host, saved: bool) -> Iterator[str]:
    """``saved``: that a QEMU can no longer take such a guest is for itself to say."""
    qemu = f"QEMU {host.qemu.version} ({host.qemu.name})"
    if host.qemu.board is not None:
        if cell.machine != BOARD_MACHINE:
            yield (f"{host.qemu.called} is no QEMU, and has no machine {cell.machine}: "
                   f"{BOARD_MACHINE}, or newest-common")
    elif host.qemu.arch is not cell.arch:
        yield f"{qemu} emulates {host.qemu.arch}, not {cell.arch}"
    elif (kind := machine_type(cell.machine)) not in (DEFAULT_MACHINE, *host.qemu.machines) and \
            not saved:
        board = board_of(kind, cell.arch)
        if board is not None and kind in (board.name, *board.aliases) and (
                newest := newest_common(board.name, [host.qemu.machines])):
            yield (f"{kind} is no machine of its own in {qemu}: name one of a version, such as "
                   f"{newest}, or {NEWEST_COMMON}:{board.name}")
        yield f"{qemu} has no machine {kind}"


def _of_tpm(cell: Cell, hosts: Sequence[Host], board: Board) -> Iterator[str]:
    """A TPM is for a guest that reads it, through its firmware."""
    if cell.tpm is Tpm.NONE:
        return
    if cell.tpm not in board.tpms:
        yield f"{board.name} has no TPM with {cell.tpm}"
    for host in hosts:
        if host.firmware.interface is not Interface.UEFI:
            yield (f"tpm {cell.tpm} is read through UEFI firmware, and {host.firmware.name} is a "
                   "BIOS")
    if cell.guest.kind is not GuestKind.PROBE and not cell.guest.kind.is_linux:
        yield f"tpm {cell.tpm} is read by the probe and by Linux, not by a {cell.guest} guest"


def _of_migration(cell: Cell, hosts: Sequence[Host]) -> Iterator[str]:
    """A mode other than the usual one is for guests that migrate."""
    moves = [step for step in cell.scenario.steps if isinstance(step, MOVES)]
    for step in moves:
        yield from in_mode(step, cell.migration)
    if cell.migration is AXES["migration"].default:
        return
    if not moves:
        yield f"migration {cell.migration}: {cell.scenario.name} migrates nowhere"
    yield from lacking(cell.migration, hosts, {step.host for step in moves})


def in_mode(step: Step, migration: MigrationMode) -> Iterator[str]:
    """Why a step cannot be done where guests migrate in this mode."""
    row = MODES[migration]
    if isinstance(step, Migrate):
        if step.recovers and not row.can_recover:
            yield (f"migration {migration}: only postcopy that has begun at once goes on by "
                   "another connection")
        for name in sorted({*row.source, *row.destination} & dict(step.parameters).keys()):
            yield f"migration {migration} says {name} by itself"
    if migration is AXES["migration"].default:
        return
    if isinstance(step, MigrationFails):
        if not row.half_way:
            yield f"a migration by {migration} is not ended half-way here"
        elif step.by in (MigrationEnd.STREAM_CUT, MigrationEnd.DESTINATION_REFUSES):
            yield f"{step.by} is done to the one stream that precopy has"
    elif isinstance(step, MigrationBegins):
        yield "a migration that begins, and goes on beside its guest, is precopy's"
    elif isinstance(step, Migrate):
        if step.moves_as is not MovesAs.RUNNING:
            yield f"a guest that is {step.moves_as} moves by precopy"
        elif row.leaves_first and (step.capabilities or step.parameters):
            yield f"{migration} is no migration to QEMU: it takes no capabilities of one"
        elif step.channel is not Channel.UNIX:
            yield f"migration {migration} has a channel of its own: not {step.channel}"


def _of_memory(cell: Cell, hosts: Sequence[Host]) -> Iterator[str]:
    """The guest's memory has to lie in an object of the harness's, which is as large."""
    for words in (cell.words, *(host.arguments for host in hosts)):
        backend = any(word.startswith("memory-backend-") for word in words)
        if backend or any(last(words, option) for option in ("m", "numa")):
            yield (f"{cell.migration} puts the guest's memory in an object of its own: the cell's "
                   "arguments have other plans for it")


def _of_snapshot(cell: Cell, hosts: Sequence[Host], board: Board) -> Iterator[str]:
    """The guest's disk has to be a node of its own, and alone in what is written to, once."""
    if any(isinstance(step, Migrate) and step.during_post for step in cell.scenario.steps):
        yield f"{cell.migration}: a destination of its can be launched only once the source ended"
    if cell.disk in board.disks and not board.attachment(cell.disk).device:
        yield f"{cell.migration} needs a disk with a name of its own, which a {cell.disk} has not"
    for host in hosts:
        loader = board.loader(host.firmware)
        writes = cell.policy.model.mechanism(loader).nvram or loader.has_store
        if writes and version_of(host) < SNAPSHOT_OF_NAMED:
            yield (f"{cell.migration} of QEMU {host.qemu.version} takes a snapshot of all that is "
                   "written to, and a flash in a raw file can have none; 6.0 leaves it alone")


def _of_board(cell: Cell) -> Iterator[str]:
    """A board has what it has: nothing of a matrix file changes it."""
    for axis in ("accel", "cpu", "smp", "nic", "migration", "memory", "arguments", "devices",
                 "tpm"):
        if getattr(cell, axis) != AXES[axis].default:
            yield f"{axis} is QEMU's to choose, a board has what it has"
    if cell.guest is GuestKind.LINUX_KERNEL:
        yield "a board takes no kernel by -kernel"


def _of_firmware(cell: Cell, host: Host, board: Board) -> Iterator[str]:
    firmware = host.firmware
    machine = machine_type(cell.machine)
    if machine == DEFAULT_MACHINE:
        machine = host.qemu.default_machine
    if machine and firmware.machines and not any(
        fnmatchcase(machine, glob) for glob in firmware.machines
    ):
        yield f"{firmware.name} is made for {' and '.join(firmware.machines)}, not for {machine}"
    if firmware.needs_smm and board.smm_mib is None:
        having = [other.name for architecture in ARCHITECTURES.values()
                  for other in architecture.boards if other.smm_mib is not None]
        yield (f"{firmware.name} needs SMM, which {board.name} does not have: "
               f"{' and '.join(having)} has")
    if firmware.has_keys and (firmware.signing is None or cell.guest.is_linux):
        yield (
            f"{firmware.name} starts only what is signed for the Secure Boot keys enrolled in it: "
            + ("our Linux guest is not" if firmware.signing else
               "nobody here has what signs for them (Microsoft's, as a rule)")
        )


def _of_alike_firmware(hosts: Sequence[Host], board: Board) -> Iterator[str]:
    """Two images of one version are told apart by their bytes alone."""
    for one, other in combinations((host.firmware for host in hosts), 2):
        alike = one.prints is not None and one.prints == other.prints
        if alike and one.sha256 != other.sha256 and board.rom_address(one.size) is None:
            yield (
                f"{one.name} and {other.name} both print {one.prints}, and on {board} "
                "no bytes tell which of them ran"
            )


def _of_machines(
    policy: Policy, hosts: Sequence[Host], board: Board, machines: Collection[Ability]
) -> Iterator[str]:
    how = policy.model.mechanism(board.loader(hosts[0].firmware))
    needed = {Ability.NVRAM: how.nvram, Ability.SWAP: how.swap in (Swap.LAUNCHED, Swap.FILE)}
    for ability, needs in needed.items():
        if needs and ability not in machines:
            yield f"{policy} needs {ability.value}, which these machines do not have"


def _of_policy(policy: Policy, host: Host, board: Board) -> Iterator[str]:
    loader = board.loader(host.firmware)
    how = policy.model.mechanism(loader)
    if how.nvram and not board.has_flash:
        yield f"{policy} needs flash, which {board} does not have"
    elif how.nvram and host.firmware.interface is Interface.UEFI and not host.firmware.in_flash:
        yield f"{policy} needs flash, and {host.firmware.name} is given by -bios"
    elif how.swap in (Swap.LAUNCHED, Swap.FILE):
        if not board.swaps:
            yield f"{policy} replaces firmware at the reset vector, which is not done on {board}"
        if loader is Loader.WRITABLE_FLASH:
            yield (
                f"{policy} needs code and variables apart: {host.firmware.name} has both in one "
                "flash, which is the guest's"
            )
