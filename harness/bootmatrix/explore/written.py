"""A life as a matrix file with a step list of its own, for ``run``, ``repro`` and ``bisect``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootmatrix.arguments import ArgumentSet
from bootmatrix.cell import AXES
from bootmatrix.explore.lives import Life
from bootmatrix.model import FirmwareSource, GitSource, HostSpec, OwnGuest, QemuSource, role_name
from bootmatrix.steps.library import written
from bootmatrix.terminal import one_line

if TYPE_CHECKING:
    from bootmatrix.matrix.expansion import Matrix

_NO_TEXT = ("true", "false", "null", "on", "off", "yes", "no", "y", "n")
"""What YAML reads as something else, or did once."""


def matrix_file(life: Life, name: str, matrix: Matrix, comments: Sequence[str] = ()) -> str:
    """The file's text; its one cell has the life's values, its scenario is called ``name``.

    ``comments`` are lines that stand above it. Paths in it are absolute.
    """
    return "\n".join(_lines(life, name, matrix, comments)) + "\n"


def _lines(life: Life, name: str, matrix: Matrix, comments: Sequence[str]) -> Iterator[str]:
    for line in comments:
        yield f"# {one_line(line)}"
    yield "schema: 1"
    yield "hosts:"
    for host in life.hosts:
        yield f"  {_flow(host.name)}: {_flow(_host(host))}"
    yield "axes:"
    for index, host in enumerate(life.hosts):
        yield f"  {role_name(index)}: {_flow(host.name)}"
    # Each host axis has a host, though the steps may name but one of them.
    if len(life.hosts) == 1:
        yield f"  destination: {_flow(life.hosts[0].name)}"
    cell = life.cell(name)
    for axis in AXES:
        value = getattr(cell, axis)
        if isinstance(value, ArgumentSet):
            if value.name:
                yield f"  {axis}: {_flow({value.name: [*value.words]})}"
        elif axis not in ("scenario", "policy", "machine") and value == AXES[axis].default:
            continue
        else:
            yield f"  {axis}: {_flow(AXES[axis].plain(value))}"
    yield "scenarios:"
    yield f"  {name}:"
    for step in life.steps:
        yield f"    - {_flow(written(step))}"
    if isinstance(cell.guest, OwnGuest):
        yield f"guests: {_flow({cell.guest.name: matrix.own_guest(cell.guest.name)})}"
    yield f"boot-timeout: {cell.seconds}"
    if cell.patience is not None:
        yield f"patience: {cell.patience}"
    if cell.limits.given:
        yield f"limits: {_flow(cell.limits.given)}"
    if not cell.debug_log:
        yield "debug-log: off"


def _flow(value: Any) -> str:
    """Plain data on one line: JSON is YAML. Of names nobody wants to see the quotes."""
    if isinstance(value, str) and value.replace("-", "").replace(".", "").isalnum() and (
            value[0].isalpha() and value not in _NO_TEXT):
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value)


def _host(host: HostSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"qemu": _qemu(host.qemu)}
    if host.firmware is not None:
        found["firmware"] = _firmware(host.firmware)
    if host.arguments:
        found["arguments"] = [*host.arguments]
    return found


def _qemu(source: str | QemuSource) -> Any:
    if isinstance(source, str):
        return source
    return _git(source.git) | _said({
        "path": source.path, "data": source.data, "root": source.root, "program": source.program,
        "image": source.image, "suite": source.suite, "package-version": source.package_version})


def _firmware(source: str | FirmwareSource) -> Any:
    if isinstance(source, str):
        return source
    if source.git is not None:
        return _git(source.git)
    flash = {} if source.flash else {"flash": False}
    return flash | _said({"descriptor" if source.descriptor else "path": source.path,
                          "variables": source.variables, "symbols": source.symbols})


def _git(source: GitSource | None) -> dict[str, Any]:
    """A commit that is built: of several revisions each has a host of its own here."""
    if source is None:
        return {}
    lists = {"options": [*source.options], "packages": [*source.packages]}
    return _said({"source": source.repository, "revision": source.revision,
                  "toolchain": source.toolchain or None}) | {
        key: words for key, words in lists.items() if words}


def _said(fields: dict[str, Any]) -> dict[str, str]:
    return {key: str(value.absolute()) if isinstance(value, Path) else value
            for key, value in fields.items() if value is not None}
