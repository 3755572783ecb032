"""One value of a QEMU option, as keys and values: written with commas, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bootmatrix.arguments import pairs


def read(text: str, first: str = "") -> dict[str, str]:
    """Keys and values in their order; ``first`` is the key of a value that has none.

    JSON becomes what the same is with commas, which every QEMU reads. Raises ValueError.
    """
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except RecursionError:
            raise ValueError("JSON that is too deep") from None
        return dict(_flat("", found))
    keys: dict[str, str] = {}
    for number, (key, value) in enumerate(pairs(text)):
        bare = not value and f"{key}=" not in text.replace(",,", ",")
        if bare and number == 0 and first:
            keys[first] = key
        elif bare:  # "server", "nowait": short for on and off
            keys[key.removeprefix("no") if key in ("nowait", "noserver", "nodelay") else key] = (
                "off" if key in ("nowait", "noserver") else "on")
        else:
            keys[key] = value
    return keys


def write(keys: Mapping[str, str], first: str = "") -> str:
    """With commas; the value of ``first`` stands first, without its key."""
    parts = [keys[first].replace(",", ",,")] if first in keys else []
    parts += [f"{key}={value.replace(',', ',,')}" for key, value in keys.items() if key != first]
    return ",".join(parts)


def _flat(above: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items()
                for pair in _flat(f"{above}.{key}" if above else str(key), inner)]
    if isinstance(value, list):
        return [pair for number, inner in enumerate(value)
                for pair in _flat(f"{above}.{number}", inner)]
    if isinstance(value, bool):
        return [(above, "on" if value else "off")]
    return [(above, "" if value is None else str(value))]
