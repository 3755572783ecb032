"""What cannot be run is known before anything is started: the one sentence why. Pure.

Sizes are not among it: whether one firmware fits in the place of another is found by running.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from harness.boards import Board, Loader, board_of
from harness.model import (
    DEFAULT_MACHINE,
    Arch,
    Cell,
    Host,
    Interface,
    Nic,
    Policy,
    ResetBy,
    ShutdownBy,
    Step,
    StepKind,
)

# QEMU's docs/system/i386/microvm.rst, "Limitations". isapc and riscv's virt have no versions
# either, but nothing is said of them: what becomes of a migration there is found by running.
_NO_MIGRATION_BETWEEN_VERSIONS = ("microvm",)
_NO_PCI = ("isapc", "microvm")
_VARIABLE_STEPS = (StepKind.WRITE_VARIABLE, StepKind.FILL_VARIABLES)

_EFI = (ResetBy.EFI_COLD, ResetBy.EFI_WARM)
_S3_BOARDS = ("pc-i440fx", "pc-q35")  # that can be suspended to RAM, and woken up
# Boards whose guests can reset themselves so. ACPI's reset register is port 0xCF9 on pc and q35,
# and microvm has one of its own.
_RESET_BOARDS = {
    ResetBy.CF9: ("pc-i440fx", "pc-q35"),
    ResetBy.KEYBOARD: ("pc-i440fx", "pc-q35", "isapc"),
    ResetBy.TRIPLE_FAULT: ("pc-i440fx", "pc-q35", "isapc", "microvm"),
    ResetBy.ACPI: ("pc-i440fx", "pc-q35", "microvm"),
}


def reason(cell: Cell, hosts: Sequence[Host]) -> str | None:
    """Why a cell cannot exist on these hosts, which stand in its order; None if it can."""
    return next(_reasons(cell, hosts), None)


def _reasons(cell: Cell, hosts: Sequence[Host]) -> Iterator[str]:
    for host in hosts:
        yield from _of_qemu(cell, host)
    board = board_of(cell.machine, cell.arch)
    if board is None:
        yield f"no guest of ours boots on machine {cell.machine} ({cell.arch})"
        return
    if cell.machine == DEFAULT_MACHINE and cell.arch is not Arch.X86_64:
        yield f"QEMU has no default machine of use for {cell.arch}: name one, such as {board.name}"
    if cell.guest.is_linux and cell.arch is not Arch.X86_64:
        yield f"a {cell.guest} guest is one of x86_64, there is none of {cell.arch}"
    if cell.disk not in board.disks:
        yield f"{board.name} has no {cell.disk} disk"
    if cell.nic is not Nic.NONE and board.name in _NO_PCI:
        yield f"{board.name} has no PCI, and so no {cell.nic} card"
    for host in hosts:
        yield from _of_firmware(cell, host, board)
        yield from _of_policy(cell.policy, host, board)
    if len({host.firmware.interface for host in hosts}) > 1:
        yield "one host has a BIOS, another UEFI firmware: no guest of ours boots from both"
    for step in cell.scenario.steps:
        yield from _of_step(cell, step, hosts, board)
    yield from _of_migrations(cell, hosts, board)


def _of_qemu(cell: Cell, host: Host) -> Iterator[str]:
    qemu = f"QEMU {host.qemu.version} ({host.qemu.name})"
    if host.qemu.arch is not cell.arch:
        yield f"{qemu} emulates {host.qemu.arch}, not {cell.arch}"
    elif cell.machine not in (DEFAULT_MACHINE, *host.qemu.machines):
        yield f"{qemu} has no machine {cell.machine}"


def _of_firmware(cell: Cell, host: Host, board: Board) -> Iterator[str]:
    firmware = host.firmware
    machine = host.qemu.default_machine if cell.machine == DEFAULT_MACHINE else cell.machine
    if machine and firmware.machines and not any(
        fnmatchcase(machine, glob) for glob in firmware.machines
    ):
        yield f"{firmware.name} is made for {' and '.join(firmware.machines)}, not for {machine}"
    if firmware.needs_smm and board.name != "pc-q35":
        yield f"{firmware.name} needs SMM, which {board.name} does not have: pc-q35 has"
    if firmware.has_keys and (firmware.signing is None or cell.guest.is_linux):
        yield (
            f"{firmware.name} starts only what is signed for the Secure Boot keys enrolled in it: "
            + ("our Linux guest is not" if firmware.signing else
               "nobody here has what signs for them (Microsoft's, as a rule)")
        )


def _of_policy(policy: Policy, host: Host, board: Board) -> Iterator[str]:
    loader = board.loader(host.firmware)
    where = f"{board.name} ({board.arch})"
    if policy.keeps_nvram and not board.has_flash:
        yield f"{policy} needs flash, which {where} does not have"
    elif policy in (Policy.MACHINE_OWNED, Policy.REREAD):
        by_itself = policy is Policy.MACHINE_OWNED and loader is Loader.MEMORY
        if not board.reset_vector and not by_itself:
            yield f"{policy} replaces firmware at the reset vector, which is not done on {where}"
        if loader is Loader.WRITABLE_FLASH:
            yield (
                f"{policy} needs code and variables apart: {host.firmware.name} has both in one "
                "flash, which is the guest's"
            )


def _of_step(
    cell: Cell, step: Step, hosts: Sequence[Host], board: Board
) -> Iterator[str]:
    # U-Boot offers UEFI's interface, too, to what it boots.
    uefi = hosts[0].firmware.interface is Interface.UEFI or cell.arch is not Arch.X86_64
    boot_sector = not cell.guest.is_linux and not uefi
    guest = "a boot sector" if boot_sector else f"a {cell.guest} guest"
    if step.kind is StepKind.RESET and step.by is not ResetBy.MONITOR:
        if step.by in _EFI and not uefi:
            yield f"reset by {step.by} needs UEFI firmware"
        if step.by not in _EFI and board.name not in _RESET_BOARDS[step.by]:
            yield f"{board.name} ({board.arch}) has no reset by {step.by}"
        if step.by is ResetBy.ACPI and not cell.guest.is_linux:
            yield f"reset by acpi needs a Linux guest, {guest} knows nothing of ACPI"
    if step.kind is StepKind.SUSPEND and not cell.guest.is_linux:
        yield f"suspend needs a Linux guest, {guest} cannot"
    if step.kind is StepKind.SUSPEND and board.name not in _S3_BOARDS:
        yield f"{board.name} ({board.arch}) has no suspend to RAM"
    if step.kind is StepKind.SHUTDOWN and step.shutdown_by is ShutdownBy.GUEST and boot_sector:
        yield f"shutdown by the guest: {guest} cannot"
    if step.kind in _VARIABLE_STEPS:
        for host in hosts:
            if not board.loader(host.firmware).has_store:
                yield (
                    f"{step.kind} needs UEFI firmware in flash, {host.firmware.name} on "
                    f"{board.name} has no variable store"
                )
    if step.kind is StepKind.GUEST_FLASH and not boot_sector:
        yield f"{step.kind} needs the boot sector on a BIOS, {guest} cannot"
    if step.during_post and uefi:
        yield "during-post needs firmware that says its name as it begins, as a BIOS does"


def _of_migrations(cell: Cell, hosts: Sequence[Host], board: Board) -> Iterator[str]:
    if board.name not in _NO_MIGRATION_BETWEEN_VERSIONS:
        return
    here = hosts[0].qemu
    for step in cell.scenario.steps:
        if step.kind not in (StepKind.START, StepKind.MIGRATE) or step.host is None:
            continue
        there = hosts[step.host].qemu
        if step.kind is StepKind.MIGRATE and there.version != here.version:
            yield (
                f"{board.name} does not migrate between versions of QEMU "
                f"(its documentation says so): {here.version} to {there.version}"
            )
        here = there
