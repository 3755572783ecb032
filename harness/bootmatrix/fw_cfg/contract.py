"""What a QEMU offers to firmware on one machine type, and how two such offers differ. Pure.

docs/fw_cfg.md says which difference is of which class, and why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bootmatrix.fw_cfg.format import acpi, keys
from bootmatrix.fw_cfg.format.decode import (
    ENUMERATED,
    STRUCTS,
    decode,
    feature_names,
    offers_features,
)
from bootmatrix.fw_cfg.format.wire import FormatError

_LOADER = "etc/table-loader"
_HOLD_OFFSETS = ("etc/acpi/rsdp", _LOADER)


class Impact(StrEnum):
    """What a difference means to a reader that was written for the older side."""

    HARMLESS = "harmless"
    CONTENT = "content"
    BREAKS = "breaks"

    @property
    def rank(self) -> int:
        """0 for harmless, 2 for breaks."""
        return list(Impact).index(self)


class ChangeKind(StrEnum):
    """The kinds of difference."""

    APPEARED = "appeared"
    VANISHED = "vanished"
    RENAMED = "renamed"
    MOVED_KEY = "moved key"
    MOVED_FIXED_KEY = "moved fixed key"
    RESIZED = "resized"
    EMPTIED = "emptied"
    CHANGED = "changed"
    MALFORMED = "malformed"
    FEATURES_GAINED = "features gained"
    FEATURES_LOST = "features lost"
    NOW_WRITABLE = "now writable"
    NOW_READ_ONLY = "now read-only"


@dataclass(frozen=True)
class Item:
    """One item as a reader gets it. ``name`` of a fixed one is the name of its key."""

    key: int
    name: str
    data: bytes
    writable: bool = False

    @property
    def fixed(self) -> bool:
        """Whether firmware knows the key beforehand, and not from the directory."""
        return self.key < keys.FILE_FIRST or self.key >= keys.ARCH_FIRST

    @property
    def zero(self) -> bool:
        """Whether it reads as zeros, as an item does that is not there."""
        return not any(self.data)

    @property
    def sha256(self) -> str:
        """Of its bytes."""
        return hashlib.sha256(self.data).hexdigest()

    def decoded(self) -> Any:
        """See decode.decode. Raises FormatError."""
        return decode(self.name, self.key, self.data)


@dataclass(frozen=True)
class Setup:
    """What is given to QEMU beside the machine type; the offer depends on it.

    ``memory``, ``cpu`` and ``smp`` are what -m, -cpu and -smp are given, where that is more than
    ``memory_mib`` and QEMU's own choice; ``words`` are further arguments.
    """

    memory_mib: int = 128
    devices: tuple[str, ...] = ()
    memory: str = ""
    cpu: str = ""
    smp: int | str = 1
    words: tuple[str, ...] = ()

    @property
    def more(self) -> dict[str, Any]:
        """What it has beside memory and devices, as a file holds it."""
        found = {"memory": self.memory, "cpu": self.cpu, "smp": self.smp, "words": self.words}
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in found.items() if value != getattr(Setup, name)}


@dataclass(frozen=True)
class Offer:
    """All items of one QEMU build (``qemu``, of ``version``) for one machine type."""

    qemu: str
    version: str
    machine: str
    setup: Setup
    items: tuple[Item, ...]

    def files(self) -> dict[str, Item]:
        """The files by their names."""
        return {item.name: item for item in self.items if not item.fixed}

    def fixed(self) -> dict[int, Item]:
        """The items at fixed keys by their keys."""
        return {item.key: item for item in self.items if item.fixed}


@dataclass(frozen=True)
class Difference:
    """One difference at one item: what kind, what it means to a reader, and what exactly."""

    item: str
    change: ChangeKind
    impact: Impact
    details: tuple[str, ...] = ()


def compare(old: Offer, new: Offer) -> tuple[Difference, ...]:
    """How the new offer differs, to a reader of the old one; the items in the old one's order."""
    return (*_compare_fixed(old, new), *_compare_files(old, new))


def worst(differences: Sequence[Difference]) -> Impact | None:
    """The gravest impact, None if nothing differs."""
    return max((d.impact for d in differences), key=lambda impact: impact.rank, default=None)


# ---- fixed keys -----------------------------------------------------------------------------


def _compare_fixed(old: Offer, new: Offer) -> Iterator[Difference]:
    there = new.fixed()
    for key, before in old.fixed().items():
        after = there.get(key, Item(key, before.name, b""))
        if before.data == after.data or (before.zero and after.zero):
            continue
        if before.zero:
            known = keys.is_known(key)
            yield Difference(before.name, ChangeKind.CHANGED if known else ChangeKind.APPEARED,
                             Impact.CONTENT if known else Impact.HARMLESS,
                             tuple(_changes(before, after)))
        elif after.zero:
            yield _vanished_fixed(before, old, new)
        elif before.key == keys.SIGNATURE:
            yield Difference(before.name, ChangeKind.CHANGED, Impact.BREAKS,
                             tuple(_changes(before, after)))
        else:
            yield from _compare_content(before, after)


def _vanished_fixed(item: Item, old: Offer, new: Offer) -> Difference:
    mine = old.fixed()
    for key, other in new.fixed().items():
        if other.data == item.data and key in mine and mine[key].zero and not other.zero:
            return Difference(item.name, ChangeKind.MOVED_FIXED_KEY, Impact.BREAKS,
                              (f"from {item.key:#06x} to {key:#06x}",))
    return Difference(item.name, ChangeKind.VANISHED, Impact.BREAKS,
                      (f"key {item.key:#06x} reads as zeros",))


# ---- files ----------------------------------------------------------------------------------


def _compare_files(old: Offer, new: Offer) -> Iterator[Difference]:
    mine, theirs = old.files(), new.files()
    appeared = {name: item for name, item in theirs.items() if name not in mine}
    for name, before in mine.items():
        after = theirs.get(name)
        if after is None:
            yield _vanished_file(before, appeared)
            continue
        if before.key != after.key:
            yield Difference(name, ChangeKind.MOVED_KEY, Impact.HARMLESS,
                             (f"from {before.key:#06x} to {after.key:#06x}",))
        if before.writable != after.writable:
            yield Difference(name, *(
                (ChangeKind.NOW_WRITABLE, Impact.HARMLESS) if after.writable
                else (ChangeKind.NOW_READ_ONLY, Impact.BREAKS)))
        yield from _compare_content(before, after)
        if name == _LOADER:
            yield from _missing_for_loader(before, after, new)
    for name, item in appeared.items():
        yield Difference(name, ChangeKind.APPEARED, Impact.HARMLESS,
                         (f"key {item.key:#06x}, {len(item.data)} bytes",))


def _vanished_file(item: Item, appeared: Mapping[str, Item]) -> Difference:
    for name, other in appeared.items():
        if item.data and other.data == item.data:
            return Difference(item.name, ChangeKind.RENAMED, Impact.BREAKS, (f"now {name}",))
    impact = Impact.CONTENT if item.name.startswith(ENUMERATED) else Impact.BREAKS
    return Difference(item.name, ChangeKind.VANISHED, impact, (f"had {len(item.data)} bytes",))


def _compare_content(before: Item, after: Item) -> Iterator[Difference]:
    if before.data == after.data:
        return
    resized = len(before.data) != len(after.data)
    sizes = (f"{len(before.data)} to {len(after.data)} bytes",) if resized else ()
    details = (*sizes, *_changes(before, after))
    if resized and before.name in STRUCTS and not before.fixed:
        yield Difference(before.name, ChangeKind.RESIZED, Impact.BREAKS, details)
    elif not after.data:
        yield Difference(before.name, ChangeKind.EMPTIED, Impact.BREAKS, sizes)
    elif _malformed(after) and not _malformed(before):
        yield Difference(before.name, ChangeKind.MALFORMED, Impact.BREAKS, (_malformed(after),))
    elif offers_features(before.name, before.key) and not resized and not _malformed(before):
        yield from _compare_features(before, after)
    else:
        yield Difference(before.name, ChangeKind.RESIZED if resized else ChangeKind.CHANGED,
                         Impact.CONTENT, details)


def _malformed(item: Item) -> str:
    try:
        item.decoded()
    except FormatError as error:
        return str(error)
    return ""


def _compare_features(before: Item, after: Item) -> Iterator[Difference]:
    had, has = (int.from_bytes(item.data, "little") for item in (before, after))
    for change, impact, bits in ((ChangeKind.FEATURES_LOST, Impact.BREAKS, had & ~has),
                                 (ChangeKind.FEATURES_GAINED, Impact.HARMLESS, has & ~had)):
        if bits:
            names = feature_names(before.name, before.key, bits, len(before.data))
            yield Difference(before.name, change, impact, (", ".join(names),))


def _missing_for_loader(before: Item, after: Item, new: Offer) -> Iterator[Difference]:
    """Files that the script works on and the directory does not have (and it was not so)."""
    try:
        asked = set(acpi.loader_files(after.data)) - set(acpi.loader_files(before.data))
    except FormatError:
        return
    missing = sorted(asked - set(new.files()))
    if missing:
        yield Difference(after.name, ChangeKind.MALFORMED, Impact.BREAKS,
                         tuple(f"it works on {name}, which is not there" for name in missing))


# ---- decoded differences ----------------------------------------------------------------------


def _changes(before: Item, after: Item) -> Iterator[str]:
    """The decoded differences; where nothing is decoded, how much of the bytes differs."""
    try:
        old, new = before.decoded(), after.decoded()
    except FormatError:
        old = new = None
    if before.name == _LOADER:
        # Every table behind one that grew has moved: how often a command occurs says more.
        old, new = ({what: len(places) for what, places in (commands or {}).items()}
                    for commands in (old, new))
    said = list(_leaves_changed(leaves(old), leaves(new)))
    if said:
        yield from said
    elif before.name in _HOLD_OFFSETS:
        yield "only offsets, which another table's length has moved"
    else:
        same = min(len(before.data), len(after.data))
        # As one number: an item can be an initrd, and Python goes slowly byte by byte.
        one, other = (int.from_bytes(item.data[:same]) for item in (before, after))
        differing = (one ^ other).to_bytes(same)
        if number := same - differing.count(0):
            differ = f"{number} bytes differ" if number > 1 else "1 byte differs"
            yield f"{differ}, the first at {same - len(differing.lstrip(bytes(1))):#x}"


def _leaves_changed(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for path in [*old, *(path for path in new if path not in old)]:
        if path not in new:
            yield f"{path}: {old[path]} is gone" if path else f"was {old[path]}"
        elif path not in old:
            yield f"{path}: new, {new[path]}" if path else f"is {new[path]}"
        elif old[path] != new[path]:
            yield f"{path}: {old[path]} to {new[path]}".removeprefix(": ")


def leaves(value: Any, path: str = "") -> dict[str, str]:
    """Decoded data, flat: ``FACP, revision`` to ``3``."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        flat: dict[str, str] = {}
        for key, inner in value.items():
            flat |= leaves(inner, f"{path}, {key}" if path else str(key))
        return flat
    if isinstance(value, list):
        return {path: ", ".join(map(str, value)) or "none"}
    text = str(value)
    return {path: text[:12] if path.endswith("sha256") else text}
