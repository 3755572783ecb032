"""A matrix file, read: YAML with positions, its shape checked, every mistake told with its place.

What the names in it refer to is bootmatrix.matrix.names' business. Light modules should not
import this module: it pays for ruamel.yaml and pydantic.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bootmatrix.cell import AXES
from bootmatrix.errors import UserError
from bootmatrix.files import yaml_file
from bootmatrix.matrix.schema import (
    NUMBER_TAGS,
    SOURCE_TAGS,
    BoardEntry,
    FirmwareEntry,
    GuestEntry,
    HostEntry,
    KnownEntry,
    LimitsEntry,
    MatrixEntry,
    QemuEntry,
)

Loc = tuple[str | int, ...]
"""The way from the top of the file to a value: keys, and indices counted from 0."""

_MANY = 12  # so many accepted names are only listed where none is near


class Document:
    """A matrix file that was read: its entry, and where each part of it stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = yaml_file.read_text(path)
        self._lines = text.splitlines()
        self._tree = yaml_file.parse(path, text)
        plain = self._plain((), self._tree)
        if not isinstance(plain, dict):
            raise self.error((), "the file must be a mapping", hint="hosts:, axes:, ...")
        try:
            self.entry = MatrixEntry.model_validate(plain)
        except ValidationError as invalid:
            raise self._first(invalid.errors()) from None
        for name, host in self.entry.hosts.items():
            if host.qemu is None and host.board is None and host.saved is None:
                raise self.error(("hosts", name, "qemu"), "is missing")

    def error(
        self,
        loc: Loc,
        message: str,
        *,
        found: str | None = None,
        accepted: Sequence[str] = (),
        hint: str = "",
        key: bool = False,
    ) -> UserError:
        """A UserError about the value at ``loc`` (with ``key``: about the key itself).

        ``accepted`` are the names that would do; the one nearest to ``found`` is suggested.
        """
        hints = [hint] if hint else []
        if found is not None and (near := difflib.get_close_matches(found, accepted, n=1)):
            hints.append(f"did you mean {near[0]!r}?")
        if accepted and not (hints and len(accepted) > _MANY):
            hints.append("accepted: " + ", ".join(accepted))
        line, column = self._position(loc, key)
        field = self._field(loc)
        text = f"{field}: {message}" if field else message
        return UserError(
            text.replace("\n", "\\n").replace("\r", "\\r"),  # a key can have them
            file=self.path,
            line=line,
            column=column,
            hint=" ".join(hints),
        )

    def _steps(self, loc: Loc) -> list[tuple[Any, str | int]]:
        """The containers on the way to ``loc`` with the key into each, as far as they exist."""
        node, way = self._tree, []
        for part in loc:
            if isinstance(node, Mapping):
                if part not in node:
                    break
            elif not (isinstance(node, list) and isinstance(part, int) and part < len(node)):
                break
            way.append((node, part))
            node = node[part]
        return way

    def _position(self, loc: Loc, key: bool) -> tuple[int, int]:
        """Line and column, from 1, of a value or key; of the nearest thing around it if absent."""
        way = self._steps(loc)
        key = key and len(way) == len(loc)
        for node, part in reversed(way):
            data = node.lc.data or {}
            if part in data:  # a merged key (<<) has no place of its own
                mark = data[part]
                at_key = key or node[part] is None  # nothing stands nowhere
                line, column = mark[2:] if len(mark) == 4 and not at_key else mark[:2]
                return line + 1, column + 1
        return 1, 1

    def _field(self, loc: Loc) -> str:
        """``known[0].when[source.qemu]``: the way to a value as people write it."""
        parts = loc
        if loc and isinstance(loc[-1], int) and len(self._steps(loc)) < len(loc):
            parts = loc[:-1]  # a single value written without its list
        text = ""
        for part in parts:
            if isinstance(part, int) or "." in str(part):
                text += f"[{part}]"
            else:
                text += f".{part}" if text else str(part)
        return text

    def _plain(self, loc: Loc, node: Any) -> Any:
        """The same data in plain containers; refuses keys that are no text."""
        if isinstance(node, Mapping):
            for key in node:
                if not isinstance(key, str):
                    raise self.error(
                        (*loc, key), f"the key must be text, not {_describe(key)}", key=True,
                        hint=f'write "{self._source((*loc, key), key=True)}"',
                    )
            return {key: self._plain((*loc, key), value) for key, value in node.items()}
        if isinstance(node, list):
            return [self._plain((*loc, index), value) for index, value in enumerate(node)]
        return node

    def _source(self, loc: Loc, key: bool = False) -> str:
        """A scalar as it stands in the file, where YAML's reading of it lost something."""
        line, column = self._position(loc, key)
        found = re.match(r"[^\s,\[\]{}#:]*", self._lines[line - 1][column - 1 :])
        return found.group() if found else ""

    def _first(self, details: Sequence[ErrorDetails]) -> UserError:
        """The first mistake in the file; a missing field last, as it is often a mistyped one."""

        def order(detail: ErrorDetails) -> tuple[bool, int, int]:
            error = self._explain(detail)
            return detail["type"] == "missing", error.line or 0, error.column or 0

        return self._explain(min(details, key=order))

    def _explain(self, detail: ErrorDetails) -> UserError:
        """One of pydantic's errors in words of the file: where, what was found, what would do."""
        loc: Loc = tuple(part for part in detail["loc"] if part not in (*SOURCE_TAGS, *NUMBER_TAGS))
        key = bool(loc) and loc[-1] == "[key]"
        if key:
            loc = loc[:-1]
        kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
        if loc[0] == "sample":
            return self.error(
                ("sample",), f"found {_describe(value)}", hint="pairwise, or a number above 0"
            )
        if kind == "missing":
            return self.error(loc, "is missing")
        if kind == "extra_forbidden" and len(loc) == 1 and loc[0] in AXES:
            return self.error(loc, "no such field", key=True,
                              hint="an axis; it stands below axes:")
        if kind == "extra_forbidden":
            return self.error(
                loc, "no such field", found=str(loc[-1]), accepted=_fields(loc[:-1]), key=True
            )
        if kind in ("enum", "literal_error"):
            accepted = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
            return self.error(
                loc, f"found {_describe(value)}", found=str(value), accepted=accepted
            )
        if kind == "string_type":
            return self._not_text(loc, value)
        axis = next((part for part in map(str, reversed(loc)) if part in AXES), None)
        if kind == "string_pattern_mismatch" and axis is not None and not key and (
                AXES[axis].is_number or axis in ("machine", "cpu")):
            return self.error(loc, f"{value!r} is not what {axis} can be", hint=AXES[axis].schema)
        if kind == "string_pattern_mismatch":
            return self.error(
                loc, f"{value!r} is not a name", key=key, hint="letters, digits, . _ + -"
            )
        if kind in ("too_short", "string_too_short"):
            return self.error(loc, "is empty")
        if kind in ("greater_than_equal", "less_than_equal"):
            bound = f"{context['ge']} or more" if "ge" in context else f"{context['le']} or less"
            return self.error(loc, f"found {_describe(value)}; it must be {bound}")
        wanted = _SHAPES.get(kind) or detail["msg"].removeprefix("Input should be ")
        return self.error(loc, f"found {_describe(value)}; it must be {wanted}")

    def _not_text(self, loc: Loc, value: Any) -> UserError:
        if isinstance(value, Mapping | list) or value is None:
            return self.error(loc, f"found {_describe(value)}; it must be text")
        written = self._source(loc)
        return self.error(
            loc, f"{written or value} without quotes is {_describe(value)} to YAML, not text",
            hint=f'write "{written or value}"',
        )


_SHAPES = {
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "float_type": "a number of seconds",
    "bool_type": "true or false",
    "greater_than": "more than 0",
    "int_type": "a whole number",
    "finite_number": "a finite number",
}


def _fields(loc: Loc) -> list[str]:
    """The field names of the entry at ``loc``."""
    models: dict[str, type[BaseModel]] = {
        "hosts": HostEntry, "known": KnownEntry, "qemu": QemuEntry, "firmware": FirmwareEntry,
        "board": BoardEntry, "guests": GuestEntry, "limits": LimitsEntry,
    }
    model = models[str(loc[2 if len(loc) > 2 else 0])] if loc else MatrixEntry
    return [field.alias or name for name, field in model.model_fields.items()]


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"a truth value ({str(value).lower()})"
    if isinstance(value, int | float):
        return f"a number ({value})"
    if isinstance(value, str):
        return repr(str(value))
    if isinstance(value, datetime.date):
        return "a date"
    if isinstance(value, list):
        return "a list"
    return "a mapping" if isinstance(value, Mapping) else "a tagged value"

