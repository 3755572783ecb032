"""The shape of a matrix file as pydantic models, and the JSON Schema for editors made of them.

Positions and messages are harness.matrix_file's business, the meaning of names that of
harness.matrix_names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from harness.known import CELL_KEYS, ROLE_KEYS
from harness.model import Accel, Arch, Disk, GuestKind, Nic, Policy, Verdict
from harness.scenarios import step_schema

# Names become parts of cell ids, which must be safe as file names and in a shell.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
# A CPU model without properties, which have commas; empty for QEMU's own choice.
CPU_PATTERN = r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$"
MACHINE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*(:[A-Za-z0-9][A-Za-z0-9._-]*)?$"
_ROLE_PATTERN = r"(source|destination|host-([3-9]|[1-9][0-9]+))"
_CONDITION_PATTERN = rf"^({_ROLE_PATTERN}\.({'|'.join(ROLE_KEYS)})|{'|'.join(CELL_KEYS)})$"

class _SingleToo:
    """Describes, in the JSON Schema, that a list of one item can be written as the item."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        array = handler(schema)
        return {"anyOf": [array["items"], array]}


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


_Item = TypeVar("_Item")
OneOrMany = Annotated[
    list[_Item], Field(min_length=1), BeforeValidator(_as_list), _SingleToo()
]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Machine = Annotated[str, Field(pattern=MACHINE_PATTERN)]
Cpu = Annotated[str, Field(pattern=CPU_PATTERN)]
Count = Annotated[int, Field(ge=1, strict=True)]
Text = Annotated[str, Field(min_length=1)]


def _numbers_too(conditions: Any) -> Any:
    """Conditions are globs; but the values of one axis are numbers, and are written so."""
    if not isinstance(conditions, Mapping) or "smp" not in conditions:
        return conditions
    globs = _as_list(conditions["smp"])
    if isinstance(globs, list):
        globs = [str(glob) if isinstance(glob, int) and not isinstance(glob, bool) else glob
                 for glob in globs]
    return {**conditions, "smp": globs}


_NUMBER = {"type": ["string", "integer"]}
_CONDITION_ON_SMP = {"anyOf": [_NUMBER, {"type": "array", "minItems": 1, "items": _NUMBER}]}
Conditions = Annotated[
    dict[str, OneOrMany[str]],
    BeforeValidator(_numbers_too),
    Field(json_schema_extra={"properties": {"smp": _CONDITION_ON_SMP}}),
]


def _kebab(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=_kebab)


class QemuEntry(_Entry):
    """A QEMU that the catalogue does not have: one of path, image and suite."""

    path: Text | None = Field(
        None, description="a program, or a build tree or prefix that holds one; "
        "relative to the matrix file",
    )
    image: Text | None = Field(None, description="an image of the Docker engine, by its name")
    suite: Text | None = Field(None, description="a Debian suite")
    package_version: Text | None = Field(
        None, description="of the suite's qemu-system-x86; default: the one it has"
    )


class FirmwareEntry(_Entry):
    """A firmware that the catalogue does not have: one of path, descriptor and directory."""

    path: Text | None = Field(
        None, description="the file of an image; relative to the matrix file"
    )
    variables: Text | None = Field(
        None, description="beside a path with UEFI code alone: the template of its variable store"
    )
    descriptor: Text | None = Field(
        None, description="a JSON file that describes a firmware, as QEMU's "
        "docs/interop/firmware.json has it; paths in it are absolute, or relative to it"
    )
    directory: Text | None = Field(
        None, description="the host stands for one host for each image in it"
    )


SOURCE_TAGS = ("a name", "a mapping")
"""What pydantic puts into the place of an error in one of the next two; no part of the file."""


def _source_tag(value: Any) -> str:
    return SOURCE_TAGS[isinstance(value, Mapping | BaseModel)]


_ByName = Annotated[Text, Tag(SOURCE_TAGS[0])]
Qemu = Annotated[
    _ByName | Annotated[QemuEntry, Tag(SOURCE_TAGS[1])], Discriminator(_source_tag)
]
Firmware = Annotated[
    _ByName | Annotated[FirmwareEntry, Tag(SOURCE_TAGS[1])], Discriminator(_source_tag)
]


class HostEntry(_Entry):
    """A host: one QEMU build and the firmware installed beside it."""

    qemu: Qemu = Field(description="QEMU build, by its name in the catalogue, or where it is")
    firmware: Firmware | None = Field(
        None, description="firmware build, by name, or where it is; "
        "default: the one beside the QEMU build",
    )


class AxesEntry(_Entry):
    """The axes and their values. Further hosts (host-3, host-4, ...) are axes, too."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "additionalProperties": False,
            "patternProperties": {
                r"^host-([3-9]|[1-9][0-9]+)$": {
                    "anyOf": [
                        {"type": "string"},
                        {"type": "array", "minItems": 1, "items": {"type": "string"}},
                    ],
                    "description": "a further host, for scenarios that go there",
                }
            },
        },
    )
    __pydantic_extra__: dict[str, OneOrMany[Name]]  # host-3, host-4, ...

    source: OneOrMany[Name] = Field(
        default_factory=list, description="the host where the guest starts; default: all hosts"
    )
    destination: OneOrMany[Name] = Field(
        default_factory=list, description="the host where it goes to; default: all hosts"
    )
    machine: OneOrMany[Machine] = Field(
        default_factory=list,
        description="versioned machine types, newest-common[:FAMILY], or default (no -M)",
    )
    policy: OneOrMany[Policy] = Field(
        default_factory=list, description="which firmware runs at a boot; default: all"
    )
    scenario: OneOrMany[Name] = Field(
        default_factory=list, description="scenarios of the library, or of this file"
    )
    disk: OneOrMany[Disk] = Field(
        default_factory=list, description="how the disk is attached; default: ahci"
    )
    accel: OneOrMany[Accel] = Field(default_factory=list, description="default: tcg")
    arch: OneOrMany[Arch] = Field(
        default_factory=list, description="what the QEMUs emulate; default: x86_64"
    )
    guest: OneOrMany[GuestKind] = Field(
        default_factory=list, description="what runs once the firmware is done; default: probe"
    )
    cpu: OneOrMany[Cpu] = Field(
        default_factory=list, description="CPU models; \"\", the default, is QEMU's own choice"
    )
    smp: OneOrMany[Count] = Field(default_factory=list, description="how many CPUs; default: 1")
    nic: OneOrMany[Nic] = Field(
        default_factory=list, description="the network card, with its option ROM; default: none"
    )


class KnownEntry(_Entry):
    """A declared incompatibility: what is known to go wrong, where, and why."""

    when: Conditions = Field(
        min_length=1,
        description="globs over a cell's values; all keys must match",
        json_schema_extra={"propertyNames": {"pattern": _CONDITION_PATTERN}},
    )
    verdict: OneOrMany[Verdict] = Field(description="what happens then; one of these")
    reason: Text = Field(description="why; shown in reports")
    link: Text | None = Field(None, description="where to read more")


Step = Annotated[Any, WithJsonSchema(step_schema())]


class MatrixEntry(_Entry):
    """A bootmatrix matrix file: hosts, axes, and which of their combinations to run."""

    schema_: Literal[1] = Field(description="version of this format")
    hosts: dict[Name, HostEntry] = Field(min_length=1, description="the hosts, by name")
    axes: AxesEntry
    exclude: list[Conditions] = Field(
        default_factory=list,
        description="a cell that matches all conditions of one rule is dropped; globs",
    )
    include: list[AxesEntry] = Field(
        default_factory=list, description="cells to add; left-out axes are those of axes"
    )
    scenarios: dict[Name, list[Step]] = Field(
        default_factory=dict, description="step lists of your own, by name"
    )
    known: list[KnownEntry] = Field(default_factory=list)
    boot_timeout: float = Field(
        5.0, gt=0, allow_inf_nan=False, strict=True, description="seconds for each boot"
    )
    sample: Literal["pairwise"] | Annotated[int, Field(gt=0, strict=True)] | None = Field(
        None, description="run fewer cells: all pairs of values, or so many"
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a matrix file, for editors (docs/matrix.schema.json)."""
    schema = MatrixEntry.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
