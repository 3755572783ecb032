"""What a run record must look like to be read: docs/record.md as a model, checked wherever one
comes in.

Records stay plain dictionaries, keys that the model does not know included; it is what the known
ones hold that is checked. A baseline's records, and those of older versions, have fewer of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, cast

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict

from bootmatrix.model import RECORD_SCHEMA, Verdict, role_name
from bootmatrix.witnesses import (
    answer,
    boot_entry,
    cmos,
    console,
    counter,
    devices,
    disk,
    flash,
    fw_cfg,
    hardware,
    kernel,
    late,
    memory,
    nvram,
    resets,
    rom,
    smbios,
    tables,
    tpm,
    variables,
)
from bootmatrix.witnesses.console import FIRST as _FIRST

_CONFIG = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
SCHEMAS = tuple(range(1, RECORD_SCHEMA + 1))
"""What can be read."""
OPTIONS = ("--qemu", "--firmware", "--host", "--engine")
"""What can stand among a record's options."""
LONGEST_SHOWN = 60
"""Characters of what was found that a message repeats."""

# Words that come from a matrix file or the catalogue, and stand in headings, ids and scripts.
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
                                        max_length=1024)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Count = Annotated[int, Field(ge=0, le=2**53)]
# ISO 8601 in UTC, to the millisecond: as texts they are in the order of time.
Moment = Annotated[str, StringConstraints(
    pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$")]
if TYPE_CHECKING:
    VerdictName = str
    Schema = int
else:
    VerdictName = Literal[tuple(verdict.value for verdict in Verdict)]
    Schema = Literal[SCHEMAS]


@with_config(_CONFIG)
class HostRow(TypedDict, total=False):
    """A host of the cell."""

    host: Name | None
    qemu: Name | None
    build: Name | None
    firmware: Name | None
    firmware_sha256: Name | None
    packages: dict[str, str]
    digest: Name | None
    root: Name | None
    saved: Name | None
    arguments: Annotated[list[str], _FIRST]


class CellRow(TypedDict):
    """What was run. Hosts beyond the second are checked apart: their keys have no end."""

    id: Name
    source: HostRow
    destination: NotRequired[HostRow]
    machine: Name
    policy: Name
    scenario: Name
    accel: NotRequired[Name]
    disk: NotRequired[Name]
    arch: NotRequired[Name]
    guest: NotRequired[Name]
    cpu: NotRequired[Name]
    smp: NotRequired[Count | Name]
    nic: NotRequired[Name]
    migration: NotRequired[Name]
    memory: NotRequired[Count | Name]
    arguments: NotRequired[Name]
    devices: NotRequired[Name]
    tpm: NotRequired[Name]
    words: NotRequired[dict[Name, Annotated[list[str], _FIRST]]]
    boot_timeout: NotRequired[Seconds]
    patience: NotRequired[Seconds]
    limits: NotRequired[dict[Name, Count]]


class TimeRow(TypedDict, total=False):
    """How long it took: while QEMU was able to run, and by the wall clock."""

    seconds: Seconds
    wall_seconds: Seconds


class BootRow(console.ConsoleRow, rom.RomRow, smbios.SmbiosRow, disk.DiskRow, counter.CounterRow,
              cmos.CmosRow, fw_cfg.FwCfgRow, tables.TablesRow, memory.MemoryRow,
              hardware.HardwareRow, devices.DevicesRow, variables.VariablesRow,
              boot_entry.BootEntryRow, kernel.KernelRow, tpm.TpmRow,
              resets.ResetsRow, late.LateRow, TimeRow):
    """One boot that was watched: what each witness of it says."""

    n: Count
    step: Name
    host: Name
    expected: str | None
    up: bool


class EndedRow(TypedDict, total=False):
    """How a migration has ended that was not to arrive."""

    ended: str


class StepRow(rom.RunningRomRow, answer.AnswerRow, flash.FlashRow, variables.WrittenRow,
              nvram.NvramRow, EndedRow, TimeRow):
    """One step that was done, and what witnesses say that need no boot."""

    step: Name
    outcome: str
    host: NotRequired[Name | None]


class QemuRow(TypedDict, total=False):
    """One QEMU process."""

    role: str
    version: str
    argv: Annotated[list[str], _FIRST]
    events_cut: Count
    banners_cut: Count
    clock: str
    tpm: dict[str, str]


class SharedRow(TypedDict, total=False):
    """The beginning that was taken from other cells."""

    key: str
    steps: Count


class WaitedRow(TypedDict, total=False):
    """A step that missed its usual time, and was waited for."""

    step: Count
    usual: Seconds
    patience: Seconds
    seconds: Seconds
    key: str
    earlier: bool


class WentRoundRow(TypedDict, total=False):
    """A boot that was given up: its machine went round, as it did when it was watched longer."""

    step: Count
    usual: Seconds
    key: str


class BenchRow(TypedDict, total=False):
    """What became of the board's bench."""

    board: str
    place: str
    writes: Count
    recovered: str
    restored: bool
    noise: Seconds
    blamed: str


class Notes(TypedDict, total=False):
    """What is in a record where there is something to say of it."""

    failed_step: Annotated[int, Field(ge=1, le=2**31)]
    shared: SharedRow
    known_state: str
    known_link: str
    ended: Moment
    waited: WaitedRow
    went_round: WentRoundRow
    run_again: str
    retried: str
    layout_mismatch: str
    black_box: str
    bench: BenchRow
    logs_cut: Annotated[list[str], _FIRST]
    console_truncated: bool
    error: str


@with_config(_CONFIG)
class Record(Notes):
    """A run record."""

    schema: Schema
    cell: CellRow
    verdict: VerdictName
    reason: str
    boots: Annotated[list[BootRow], _FIRST]
    known: NotRequired[str | None]
    scenario_steps: NotRequired[Annotated[list[str | dict[str, Any]], _FIRST]]
    steps: NotRequired[Annotated[list[StepRow], _FIRST]]
    qemus: NotRequired[Annotated[list[QemuRow], _FIRST]]
    engine: NotRequired[str]
    seconds: NotRequired[Seconds]
    artifacts: NotRequired[str]
    # What only runs of a matrix have.
    matrix: NotRequired[str]
    matrix_name: NotRequired[str]
    fingerprint: NotRequired[str]
    options: NotRequired[Annotated[list[Name], _FIRST]]
    shard: NotRequired[Name]
    repeat: NotRequired[Annotated[int, Field(ge=1, le=2**31)]]
    # What only cells that ran on a cluster have.
    worker: NotRequired[Name]
    attempts: NotRequired[Annotated[int, Field(ge=1, le=2**31)]]
    # What bootmatrix.report.compare keeps of steps in an accepted baseline.
    refused: NotRequired[bool]
    # What bootmatrix.records.merged adds; `flaky` comes back from an accepted baseline.
    flaky: NotRequired[dict[VerdictName, int | str]]
    times: NotRequired[Annotated[list[Seconds], _FIRST]]
    repeats: NotRequired[Count]
    called: NotRequired[str]
    # What bootmatrix.records.merging adds: the directory that the file lay in.
    run_dir: NotRequired[str]
    run: NotRequired[Name]


# Made at first need: a process that runs or lists cells reads no records, and making these takes
# as long as half of what it imports.


@cache
def _record() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


@cache
def _host() -> TypeAdapter[HostRow]:
    return TypeAdapter(HostRow)


class NoJson(ValueError):
    """A line that is no JSON at all: garbage, or the half of a record."""


def parsed(line: str | bytes) -> Record:
    """The record that a line holds. Raises NoJson; ValueError: no record, and why."""
    try:
        return _whole(_record().validate_json(line))
    except ValidationError as error:
        kind = NoJson if error.errors()[0]["type"] == "json_invalid" else ValueError
        raise kind(_reason(error)) from None


def checked(data: Any) -> Record:
    """Plain data that must be a record. Raises ValueError that says what is wrong."""
    try:
        return _whole(_record().validate_python(data))
    except ValidationError as error:
        raise ValueError(_reason(error)) from None


def _whole(record: Record) -> Record:
    cell = cast(dict[str, Any], record["cell"])
    index = 2
    while (role := role_name(index)) in cell:
        try:
            _host().validate_python(cell[role])
        except ValidationError as error:
            raise ValueError(_reason(error, ("cell", role))) from None
        index += 1
    _check_options(record.get("options", []))
    return record


def _check_options(options: Sequence[str]) -> None:
    """They become part of a command that people copy: nothing else may be in them."""
    pairs = zip(options[::2], options[1::2], strict=False)
    if len(options) % 2 or any(option not in OPTIONS or not value[:1].isalnum()
                               for option, value in pairs):
        raise ValueError(f"no run record: options is {_shown(' '.join(options))}, must be "
                         f"{', '.join(OPTIONS)}, each with its value")


# ---- what is wrong, in one line ---------------------------------------------------------------

_WANTED = {
    "string_type": "a string", "int_type": "a whole number", "float_type": "a number",
    "bool_type": "true or false", "list_type": "a list", "dict_type": "an object",
    "finite_number": "a finite number", "string_too_long": "shorter",
    "string_pattern_mismatch": "a string without control characters",
}  # fmt: skip


def _reason(error: ValidationError, within: tuple[str, ...] = ()) -> str:
    first = min(error.errors(include_url=False), key=_rank)
    kind, given = first["type"], first["input"]
    if kind == "json_invalid":
        return f"no JSON: {first['msg'].removeprefix('Invalid JSON: ')}"
    loc = (*within, *first["loc"])
    if loc == ("schema",):
        what = "no schema" if kind == "missing" else f"schema {_shown(given)}"
        read = " and ".join(map(str, SCHEMAS))
        return f"a record with {what}; this bootmatrix reads schema {read}"
    if not loc:
        return f"no run record: {_shown(given)}, must be an object"
    if kind == "missing":
        return f"no run record: it has no {_path(loc)}"
    if kind == "literal_error":
        wanted = "one of " + ", ".join(verdict.value for verdict in Verdict)
    else:
        wanted = _WANTED.get(kind) or first["msg"].removeprefix("Input should be ").removeprefix(
            "Integer should be ").removeprefix("String should ")
    return f"no run record: {_path(loc)} is {_shown(given)}, must be {wanted}"


def _rank(error: ErrorDetails) -> int:
    """A record of another bootmatrix, or what is no record at all, is said to be just that."""
    missing = error["type"] == "missing"
    if error["loc"] == ("schema",):
        return 2 if missing else 0
    return 1 if missing and error["loc"] in (("verdict",), ("cell",)) else 3


def _path(loc: Sequence[str | int]) -> str:
    """``boots[0].up``; a key that is no plain word in quotes."""
    text = ""
    for part in loc:
        if part == "[key]":  # pydantic's word for: the key itself
            continue
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("-", "_").isidentifier() and part.isascii():
            text += f".{part}"
        else:
            text += f".{_cut(json.dumps(part))}"
    return text.removeprefix(".")


def _shown(value: Any) -> str:
    """What was found, in ASCII and short."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    try:
        return _cut(json.dumps(value[:LONGEST_SHOWN] if isinstance(value, str) else value))
    except ValueError:  # a number with more digits than Python prints
        return "a number"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
