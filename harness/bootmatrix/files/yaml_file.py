"""A YAML file with the place of each value, read within bounds; every mistake told with its place.

Light modules should not import this module: it pays for ruamel.yaml.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from bootmatrix.errors import UserError
from bootmatrix.files import given_file

LARGEST = 256 << 10
MOST_VALUES = 10_000
"""Bytes, and values with those that aliases stand for: it takes a second to read so many."""
DEEPEST = 40
"""How many containers may stand in one another."""


def read_text(path: Path) -> str:
    """The text of a file. Raises UserError."""
    try:
        return given_file.read(path, LARGEST).decode("utf-8-sig")
    except given_file.Unreadable as error:
        raise UserError(str(error), file=path) from None
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 text: {error.reason}", file=path) from None


def parse(path: Path, text: str) -> Any:
    """The data in a file's text, in ruamel's containers, which know the places. Raises UserError.

    Nothing in it is its own part, and all of it is within the bounds above, aliases included.
    """
    if directive := re.search("^%", text, re.MULTILINE):  # ruamel's own way would lose the bounds
        line = text.count("\n", 0, directive.start()) + 1
        raise UserError("a directive (%YAML, %TAG) has no meaning here", file=path, line=line,
                        hint="leave the line out; the file is read as YAML 1.2")
    # Each value but the first has one of these before it; so have some that are no values.
    if sum(map(text.count, (",", "\n", "[", "{", "- ", "? "))) > 2 * MOST_VALUES:
        raise _too_many(path)
    yaml = YAML(typ="rt")
    try:
        constructor, parser = yaml.get_constructor_parser(text)
        try:
            node = constructor.composer.get_single_node()
            if node is None:
                return None
            _Bounds(path).check(node)
            return constructor.construct_document(node)
        finally:
            parser.dispose()
    except DuplicateKeyError as error:
        found = re.search(r'duplicate key "([^"]*)"', error.problem or "")
        message = f"{found.group(1) if found else 'a key'}: stands here twice"
        raise _at_mark(path, error, message) from None
    except MarkedYAMLError as error:
        raise _at_mark(path, error, f"is not YAML: {error.problem}") from None
    except YAMLError as error:
        raise UserError(f"is not YAML: {error}".splitlines()[0], file=path) from None
    except RecursionError:
        raise UserError("is nested too deeply", file=path) from None
    except UserError:
        raise
    except Exception as error:  # ruamel has no words of its own for all that it does not expect
        words = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"has a value that YAML cannot read: {words[0]}", file=path) from None


class _Bounds:
    """Counts the values that a tree of nodes stands for, before any of them is made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes: dict[int, int] = {}
        self._around: set[int] = set()

    def check(self, node: Node) -> int:
        """The values that a node stands for. Raises UserError."""
        known = self._sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in self._around:
            raise self._error(node, "an anchor refers to itself")
        if len(self._around) >= DEEPEST:
            raise self._error(node, "is nested too deeply",
                              f"at most {DEEPEST} containers in one another")
        self._around.add(id(node))
        size = 1
        if isinstance(node, SequenceNode):
            size += sum(map(self.check, node.value))
        elif isinstance(node, MappingNode):
            for key, value in node.value:
                if isinstance(key, SequenceNode | MappingNode):
                    raise self._error(key, "a key must be text")
                size += 1 + self.check(value)
        self._around.discard(id(node))
        if size > MOST_VALUES:
            raise _too_many(self._path)
        self._sizes[id(node)] = size
        return size

    def _error(self, node: Node, message: str, hint: str = "") -> UserError:
        mark = node.start_mark
        return UserError(message, file=self._path, line=mark.line + 1, column=mark.column + 1,
                         hint=hint)


def _too_many(path: Path) -> UserError:
    return UserError(f"has more than {MOST_VALUES} values", file=path,
                     hint="what an alias (*name) stands for counts each time")


def _at_mark(path: Path, error: MarkedYAMLError, message: str) -> UserError:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return UserError(message, file=path)
    return UserError(message, file=path, line=mark.line + 1, column=mark.column + 1)
