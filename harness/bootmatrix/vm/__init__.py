"""Somebody's machine: read from a file as QEMU or libvirt has it, and made one that runs here."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.errors import UserError
from bootmatrix.files import given_file
from bootmatrix.vm import libvirt as domain
from bootmatrix.vm import words
from bootmatrix.vm.keyval import read as keys
from bootmatrix.vm.translate import (
    CONSOLE,
    DISK,
    KINDS,
    LARGEST_FILE_MIB,
    MOST_MIB,
    ArgumentLine,
    Translated,
    sorted_lines,
    translate,
)

__all__ = [
    "CONSOLE", "DISK", "KINDS", "LARGEST_FILE_MIB", "MOST_MIB", "ArgumentLine", "Translated",
    "keys", "of_text", "read", "sorted_lines", "text_of", "translate",
]  # fmt: skip


def read(
    path: Path, *, libvirt: bool | None = None, memory: int | None = None, network: bool = True,
    file_mib: int = LARGEST_FILE_MIB,
) -> Translated:
    """The machine that a file describes. Raises UserError.

    ``libvirt``: it is a domain; None: that is to be found out. See ``translate`` for the others.
    """
    return of_text(text_of(path), path, libvirt=libvirt, memory=memory, network=network,
                   file_mib=file_mib)


def text_of(path: Path) -> str:
    """What is in a file. Raises UserError."""
    try:
        return words.decoded(given_file.read(path, words.LARGEST))
    except given_file.Unreadable as error:
        raise UserError(f"{path} {error}") from None


def of_text(
    text: str, path: Path, *, libvirt: bool | None = None, memory: int | None = None,
    network: bool = True, file_mib: int = LARGEST_FILE_MIB,
) -> Translated:
    """The same of a text; ``path`` is named in errors."""
    try:
        if libvirt or (libvirt is None and domain.looks_like(text)):
            program, found = domain.command_line(text)
        else:
            program, found = words.command_line(text)
        return translate(program, found, memory=memory, network=network, file_mib=file_mib)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
