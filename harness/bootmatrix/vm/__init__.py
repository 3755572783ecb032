"""Somebody's machine: read from a file as QEMU or libvirt has it, and made one that runs here."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.errors import UserError
from bootmatrix.files import given_file
from bootmatrix.vm import libvirt as domain
from bootmatrix.vm import words
from bootmatrix.vm.translate import CONSOLE, DISK, KINDS, Line, Translated, sorted_lines, translate

__all__ = ["CONSOLE", "DISK", "KINDS", "Line", "Translated", "read", "sorted_lines", "translate"]


def read(
    path: Path, *, libvirt: bool | None = None, memory: int | None = None, network: bool = True
) -> Translated:
    """The machine that a file describes. Raises UserError.

    ``libvirt``: it is a domain; None: that is to be found out. See ``translate`` for the others.
    """
    try:
        text = given_file.read(path, words.LARGEST).decode("utf-8", "replace")
    except given_file.Unreadable as error:
        raise UserError(f"{path} {error}") from None
    try:
        if libvirt or (libvirt is None and domain.looks_like(text)):
            program, found = domain.command_line(text)
        else:
            program, found = words.command_line(text)
        return translate(program, found, memory=memory, network=network)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
