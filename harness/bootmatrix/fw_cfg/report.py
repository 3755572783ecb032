"""fw_cfg offers, and how they differ, as lines for people and as JSON data. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootmatrix.fw_cfg.contract import Difference, Impact, Item, Offer, leaves, worst
from bootmatrix.fw_cfg.format.wire import FormatError

SCHEMA = 1

_WIDTH = 72
_DETAILS = 12


@dataclass(frozen=True)
class Column:
    """One QEMU beside the reference. ``differences`` None: it has no such machine type."""

    qemu: str
    version: str
    differences: Sequence[Difference] | None
    is_reference: bool = False


# ---- one offer --------------------------------------------------------------------------------


def title(offer: Offer) -> str:
    """An offer in one line."""
    fixed = sum(not item.zero for item in offer.fixed().values())
    setup = "".join(f", {device}" for device in offer.setup.devices)
    if words := offer.setup.words:
        setup += f", {_plural(len(words), 'more word')}"
    return (f"{offer.qemu} (QEMU {offer.version}), {offer.machine}, "
            f"{offer.setup.memory_mib} MiB{setup}: "
            f"{_plural(len(offer.files()), 'file')}, {_plural(fixed, 'fixed item')}")


def offer_lines(offer: Offer, verbose: bool) -> Iterator[str]:
    """A line for each item; all that is decoded, if ``verbose``."""
    yield title(offer)
    yield ""
    shown = [item for item in offer.items if not (item.fixed and item.zero)]
    width = max((len(item.name) for item in shown), default=0)
    yield f"KEY     {'NAME':<{width}}     SIZE  SHA256        CONTENT"
    for item in shown:
        yield (f"{item.key:#06x}  {item.name:<{width}}  {len(item.data):>7}  {item.sha256[:12]}  "
               + _one_line(item, verbose)).rstrip()
        if verbose:
            yield from _all_lines(item)
    zeros = [item.name for item in offer.items
             if item.fixed and item.zero and not item.name.startswith("unknown")]
    yield ""
    yield (f"{_plural(len(zeros), 'fixed item')} read as zeros, as one does that is not there: "
           + ", ".join(zeros))


def _one_line(item: Item, verbose: bool) -> str:
    mark = "writable  " if item.writable else ""
    try:
        decoded = item.decoded()
    except FormatError as error:
        return f"{mark}malformed: {error}"
    text = "" if verbose and isinstance(decoded, dict) else _summary(decoded)
    return mark + (text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…")


def _all_lines(item: Item) -> Iterator[str]:
    try:
        decoded = item.decoded()
    except FormatError:
        return
    if isinstance(decoded, dict):
        for path, value in leaves(decoded).items():
            yield f"          {path}: {value}"


def _summary(decoded: Any) -> str:
    if decoded is None:
        return ""
    if isinstance(decoded, list):
        return ", ".join(map(str, decoded))
    if not isinstance(decoded, dict):
        return str(decoded)
    if decoded and all(isinstance(value, list) for value in decoded.values()):
        verbs: Counter[str] = Counter()
        for what, places in decoded.items():
            verbs[what.split()[0]] += len(places)
        return ", ".join(f"{count} {verb}" for verb, count in verbs.items())
    return ", ".join(f"{key} {_brief(value)}".rstrip() for key, value in decoded.items())


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("length", ""))
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)


def offer_json(offer: Offer) -> dict[str, Any]:
    """An offer, with all that is decoded."""
    return {"schema": SCHEMA, "qemu": offer.qemu, "version": offer.version,
            "machine": offer.machine, "memory_mib": offer.setup.memory_mib,
            "devices": list(offer.setup.devices), **offer.setup.more,
            "items": [_item_json(item) for item in offer.items]}


def _item_json(item: Item) -> dict[str, Any]:
    row = {"key": item.key, "name": item.name, "size": len(item.data), "sha256": item.sha256,
           "fixed": item.fixed, "zero": item.zero, "writable": item.writable}
    try:
        return row | {"decoded": item.decoded(), "malformed": None}
    except FormatError as error:
        return row | {"decoded": None, "malformed": str(error)}


# ---- a comparison -----------------------------------------------------------------------------


def comparison_lines(
    reference: Offer, columns: Sequence[Column], baseline: Path | None, verbose: bool
) -> Iterator[str]:
    """A table of items and QEMUs, then each QEMU's differences with their details."""
    yield "reference: " + (f"{baseline}, " if baseline else "") + title(reference)
    yield from _table(columns)
    for column in columns:
        if column.is_reference:
            continue
        yield ""
        yield f"{column.qemu} (QEMU {column.version}): " + _verdict(reference, column)
        yield from _details(column.differences or (), verbose)


def _table(columns: Sequence[Column]) -> Iterator[str]:
    items = list(dict.fromkeys(d.item for column in columns for d in column.differences or ()))
    if not items:
        return
    rows = [["ITEM", *(column.qemu for column in columns)]]
    rows += [[item, *(_mark(item, column) for column in columns)] for item in items]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield ""
    for row in rows:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)) \
            .rstrip()


def _mark(item: str, column: Column) -> str:
    if column.differences is None:
        return "no such machine"
    return worst([d for d in column.differences if d.item == item]) or "same"


def _verdict(reference: Offer, column: Column) -> str:
    if column.differences is None:
        return f"has no machine type {reference.machine}"
    if not column.differences:
        return "the same"
    counts = [(sum(d.impact is impact for d in column.differences), impact) for impact in Impact]
    summary = ", ".join(f"{count} {impact.value}" for count, impact in reversed(counts) if count)
    broken = worst(column.differences) is Impact.BREAKS
    return f"{summary}; an old reader " + ("BREAKS" if broken else "finds what it found")


def _details(differences: Sequence[Difference], verbose: bool) -> Iterator[str]:
    for difference in sorted(differences, key=lambda d: -d.impact.rank):
        yield f"  {difference.impact.value:<8}  {difference.item}: {difference.change.value}"
        details = difference.details
        if not verbose and len(details) > _DETAILS:
            details = (*details[: _DETAILS - 1],
                       f"and {len(details) - _DETAILS + 1} more (-v shows them)")
        for line in details:
            yield f"              {line}"


def comparison_json(
    reference: Offer, columns: Sequence[Column], baseline: Path | None
) -> dict[str, Any]:
    """The same as JSON data."""
    return {
        "schema": SCHEMA, "machine": reference.machine,
        "reference": {"qemu": reference.qemu, "version": reference.version,
                      "baseline": str(baseline) if baseline else None},
        "columns": [
            {"qemu": column.qemu, "version": column.version,
             "machine": column.differences is not None,
             "worst": worst(column.differences or ()),
             "differences": [{"item": d.item, "change": d.change, "impact": d.impact,
                              "details": list(d.details)} for d in column.differences or ()]}
            for column in columns
        ],
    }


def _plural(number: int, one: str) -> str:
    return f"{number} {one}{'' if number == 1 else 's'}"
