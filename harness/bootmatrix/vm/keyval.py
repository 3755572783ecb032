"""One value of a QEMU option, as keys and values: written with commas, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

DEEPEST = 64
"""Levels of JSON that are read; a machine's have three."""
_OFF = {"nowait": "wait", "noserver": "server", "nodelay": "delay"}


class Keys:
    """Keys and values in their order, each as often as it was said.

    ``keys[NAME]`` is the last value, which is QEMU's own rule where a key is said once only. To
    set a key is to say it once; what is not set anew stays as it is, repeated or not: ``cpus=`` of
    a NUMA node and ``value=`` of an SMBIOS table are lists.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = (),
                 nested: Mapping[str, Any] | None = None) -> None:
        self._pairs = list(pairs)
        self.nested = nested
        """The JSON that it was, where lists or dictionaries are in it: it has no commas."""

    def copy(self) -> Keys:
        """The same, to be changed."""
        return Keys(self._pairs, self.nested)

    def items(self) -> Iterator[tuple[str, str]]:
        """All that was said, in its order."""
        return iter(self._pairs)

    def get(self, key: str, default: str = "") -> str:
        """The last value."""
        return next((value for name, value in reversed(self._pairs) if name == key), default)

    def pop(self, key: str, default: str = "") -> str:
        """The last value, which is then there no more, as those before it."""
        value = self.get(key, default)
        self._pairs = [pair for pair in self._pairs if pair[0] != key]
        return value

    def without(self, *keys: str) -> Keys:
        """All but these."""
        return Keys([pair for pair in self._pairs if pair[0] not in keys], self.nested)

    def __contains__(self, key: object) -> bool:
        return any(name == key for name, _ in self._pairs)

    def __getitem__(self, key: str) -> str:
        if key not in self:
            raise KeyError(key)
        return self.get(key)

    def __setitem__(self, key: str, value: str) -> None:
        at = next((at for at, pair in enumerate(self._pairs) if pair[0] == key), len(self._pairs))
        rest = [pair for pair in self._pairs if pair[0] != key]
        self._pairs = [*rest[:at], (key, value), *rest[at:]]

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and self._pairs == other._pairs

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def __repr__(self) -> str:
        return f"Keys({self._pairs!r})"


def read(text: str, first: str = "") -> Keys:
    """Keys and values in their order; ``first`` is the key of a value that has none.

    JSON becomes what the same is with commas, which every QEMU reads; one with lists or
    dictionaries in it stays JSON. Raises ValueError.
    """
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None
        except ValueError:
            raise ValueError("no JSON") from None
        inner = [value for value in found.values() if isinstance(value, list | dict)]
        _bounded(inner)
        return Keys([(key, _text(value)) for key, value in found.items()],
                    found if inner else None)
    pairs: list[tuple[str, str]] = []
    for number, part in enumerate(text.replace(",,", "\0").split(",")):
        key, equals, value = part.replace("\0", ",").partition("=")
        if equals:
            pairs.append((key, value))
        elif key and number == 0 and first:
            pairs.append((first, key))
        elif key:  # "server", "nowait": short for on and off
            pairs.append((_OFF.get(key, key), "off" if key in _OFF else "on"))
    return Keys(pairs)


def write(keys: Keys, first: str = "") -> str:
    """With commas, or as the JSON that it was; ``first`` stands first, without its key."""
    if keys.nested is not None:
        return json.dumps({key: _typed(key, value, keys.nested) for key, value in keys.items()},
                          separators=(",", ":"))
    last = keys.get(first)
    parts = [last.replace(",", ",,")] if last else []
    parts += [f"{key}={value.replace(',', ',,')}" for key, value in keys.items()
              if key != first or not last]
    return ",".join(parts)


_TOO_DEEP = f"JSON of more than {DEEPEST} levels"


def _bounded(inner: list[Any]) -> None:
    """Raises ValueError for what goes too deep, level by level: it has no stack to fill."""
    for _ in range(DEEPEST):
        if not inner:
            return
        inner = [value for one in inner
                 for value in (one.values() if isinstance(one, dict) else one)
                 if isinstance(value, list | dict)]
    raise ValueError(_TOO_DEEP)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"))
    return "" if value is None else str(value)


def _typed(key: str, text: str, given: Mapping[str, Any]) -> Any:
    """A value for JSON: as it was, unless it was changed since."""
    if key in given and _text(given[key]) == text:
        return given[key]
    number = text.isdecimal() and type(given.get(key, 0)) is int
    return int(text) if number else text
