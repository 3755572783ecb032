"""A saved guest as a build: what a cell has to know of the QEMU that saved it, and its firmware.

That QEMU is not started: the guest's first steps were done there, and what was seen is kept.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bootmatrix import vault
from bootmatrix.arguments import machine_type
from bootmatrix.errors import UserError
from bootmatrix.model import Accel, Arch, FirmwareBuild, FirmwareSource, QemuBuild, SavedSource
from bootmatrix.policies import Policy
from bootmatrix.roots.cache import Cache
from bootmatrix.vault import Objects, SavedGuest

OBJECTS = "objects"
"""The directory of a vault's files, in the vault."""


def objects_of(source: SavedSource) -> Objects:
    """The files of the vault that a guest is kept in."""
    return Objects(source.vault / OBJECTS)


def read(source: SavedSource) -> SavedGuest:
    """What is said of a guest. Raises UserError."""
    said = vault.read(objects_of(source), source.guest)
    needed = {"architecture": (Arch, "arch"), "policy": (Policy, "policy")}
    for what, (kind, key) in needed.items():
        try:
            kind(str(said.values.get(key)))
        except ValueError:
            raise UserError(f"guest {source.guest[:16]} is of no {what} that is known",
                            file=source.vault) from None
    if said.values.get("accel", Accel.TCG) != Accel.TCG:
        raise UserError(f"guest {source.guest[:16]} did not run with accel tcg",
                        file=source.vault)
    return said


def build(source: SavedSource, cache: Cache) -> tuple[QemuBuild, SavedGuest]:
    """The build, the guest's files unpacked in the cache. Raises UserError for a damaged one."""
    said = read(source)

    def fill(directory: Path) -> None:
        vault.unpack(objects_of(source), said, directory)

    directory = cache.entry(f"saved-{source.guest[:16]}", fill)
    machine = str(said.values.get("machine", ""))
    return QemuBuild(
        name=said.qemu.build, version=said.qemu.version, digest=source.guest, root=directory,
        machines=(machine_type(machine),), default_machine=said.qemu.default_machine,
        arch=Arch(str(said.values["arch"])), saved=directory), said


def firmware_source(directory: Path, said: SavedGuest) -> FirmwareSource:
    """The firmware that was beside its QEMU, by its files."""
    variables = directory / "variables" if "variables" in said.files else None
    # Of firmware in flash there is a file on the guest's host, or a template for it.
    flash = not {"variables", "flash.fd", "nvram.bin"}.isdisjoint(said.files)
    return FirmwareSource(directory / "firmware", name=said.firmware.name, variables=variables,
                          flash=flash)


def as_it_was(firmware: FirmwareBuild, said: SavedGuest) -> FirmwareBuild:
    """That firmware with what its files do not tell of it."""
    beside = said.firmware
    return replace(firmware, name=beside.name, machines=tuple(beside.machines),
                   features=tuple(beside.features))
