"""What a firmware descriptor says: a JSON file as QEMU's docs/interop/firmware.json defines it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bootmatrix.errors import UserError
from bootmatrix.model import Arch, Interface

_MODES = ("split", "stateless", "combined")
FORMATS = ("raw", "qcow2")
"""Of the files of a flash."""


@dataclass(frozen=True)
class Descriptor:
    """One firmware for one architecture; the file names are as the descriptor has them.

    ``variables`` is None for what keeps its store elsewhere: a combined image, and what has none,
    which is not ``in_flash``: a stateless one, and one that lies in memory. ``form`` and
    ``variables_form`` are what these two files must be: one of FORMATS. ``machines`` are globs of
    machine types.
    """

    executable: str
    variables: str | None
    interface: Interface
    machines: tuple[str, ...]
    features: tuple[str, ...]
    in_flash: bool = True
    form: str = "raw"
    variables_form: str = "raw"


def parse(text: str, arch: Arch) -> Descriptor:
    """Read a descriptor. Raises UserError, without a file, for what QEMU's format has not.

    A firmware that offers both interfaces counts as UEFI's.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not JSON: {error}") from None
    mapping = _get(tree, "mapping", dict)
    device = _get(mapping, "mapping.device", str)
    variables, form, variables_form, in_flash = None, "raw", "raw", True
    if device == "flash":
        mode = mapping.get("mode", "split")
        executable, form = _file(mapping, "mapping.executable")
        if mode == "split":
            variables, variables_form = _file(mapping, "mapping.nvram-template")
        elif mode not in _MODES:
            raise UserError(f"mapping.mode: found {mode!r}", hint=", ".join(_MODES))
        in_flash = mode != "stateless"
    elif device == "memory":
        executable, in_flash = _get(mapping, "mapping.filename", str), False
    else:
        raise UserError(f"mapping.device: found {device!r}", hint="what is run: flash, memory")
    interfaces = _texts(tree, "interface-types")
    known = [kind for kind in (Interface.UEFI, Interface.BIOS) if kind.value in interfaces]
    if not known:
        raise UserError(f"interface-types: found {', '.join(interfaces) or 'none'}",
                        hint="bios, uefi")
    return Descriptor(executable, variables, known[0], _machines(tree, arch),
                      tuple(_texts(tree, "features")), in_flash, form, variables_form)


def _machines(tree: dict[str, Any], arch: Arch) -> tuple[str, ...]:
    """The machine types that it is made for; QEMU calls 64-bit x86 and the others as we do."""
    found: dict[str, list[str]] = {}
    for index, target in enumerate(_get(tree, "targets", list)):
        where = f"targets[{index}]"
        architecture = _get(target, f"{where}.architecture", str)
        found.setdefault(architecture, []).extend(_texts(target, f"{where}.machines"))
    if arch.value not in found:
        raise UserError(f"is for {', '.join(found) or 'no architecture'}, not for {arch.value}")
    return tuple(found[arch.value])


def _file(mapping: dict[str, Any], where: str) -> tuple[str, str]:
    """The file's name and its format."""
    file = _get(mapping, where, dict)
    kind = _get(file, f"{where}.format", str)
    if kind not in FORMATS:
        raise UserError(f"{where}.format: found {kind!r}", hint=", ".join(FORMATS))
    return str(_get(file, f"{where}.filename", str)), kind


def _texts(tree: Any, where: str) -> list[str]:
    found = _get(tree, where, list)
    if not all(isinstance(text, str) for text in found):
        raise UserError(f"{where}: must be a list of strings")
    return [str(text) for text in found]


_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}


def _get(tree: Any, where: str, kind: type) -> Any:
    """A field of a JSON object, by the last part of its place, of just this kind."""
    key = where.rpartition(".")[2]
    if not isinstance(tree, dict):
        above = where.rpartition(".")[0]
        raise UserError(f"{above or 'the descriptor'}: must be an object")
    if key not in tree:
        raise UserError(f"{where}: is missing", hint="QEMU's docs/interop/firmware.json")
    if not isinstance(tree[key], kind):
        raise UserError(f"{where}: must be {_KINDS[kind]}")
    return tree[key]
