"""The shape of a matrix file as pydantic models, and the JSON Schema for editors made of them.

Positions and messages are bootmatrix.matrix.document's business, the meaning of names that of
bootmatrix.matrix.names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    WithJsonSchema,
    create_model,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bootmatrix.arguments import ArgumentSet
from bootmatrix.cell import AXES, NAME, Axis
from bootmatrix.matrix.known import CELL_KEYS, ROLE_KEYS
from bootmatrix.model import Arch, Verdict
from bootmatrix.steps.library import step_schema

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
Name = Annotated[str, Field(pattern=NAME)]
# Of CPUs, or MiB of memory: no machine type, and no sandbox, has more.
Count = Annotated[int, Field(ge=1, le=65536, strict=True)]
Text = Annotated[str, Field(min_length=1)]


def _numbers_too(conditions: Any) -> Any:
    """Conditions are globs; but some axes' values are numbers, and are written so."""
    if not isinstance(conditions, Mapping):
        return conditions
    texts = {}
    for axis in conditions.keys() & set(_NUMBERS):
        globs = _as_list(conditions[axis])
        texts[axis] = [str(glob) if type(glob) is int else glob for glob in globs or ()] or globs
    return {**conditions, **texts}


_NUMBERS = [name for name, axis in AXES.items() if axis.is_number]
_NUMBER = {"type": ["string", "integer"]}
_ON_NUMBERS = {"anyOf": [_NUMBER, {"type": "array", "minItems": 1, "items": _NUMBER}]}
Conditions = Annotated[
    dict[str, OneOrMany[str]],
    BeforeValidator(_numbers_too),
    Field(json_schema_extra={"properties": dict.fromkeys(_NUMBERS, _ON_NUMBERS)}),
]


def _kebab(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


class _Entry(BaseModel):
    # Built when a file is checked, and then only what that takes.
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=_kebab, defer_build=True)


Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]  # Debian policy, section 5.6.7
Suite = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


class _FromSource(_Entry):
    """What is said of a build from source, a QEMU's or a firmware's."""

    source: Text | None = Field(
        None, description="a git repository, of which a commit is built; relative to the matrix "
        "file")
    revision: Text | None = Field(
        None, description="beside a source: what git takes for a commit; default: HEAD")
    revisions: OneOrMany[Text] | None = Field(
        None, description="beside a source: the host stands for one host for each of these. "
        "'v8.0.0..v9.2.0 tags' means all tags from the one to the other that are written like "
        "the first; behind it can stand a glob, such as v*.0")
    options: list[Text] = Field(
        default_factory=list, description="beside a source: how it is built: arguments of QEMU's "
        "configure, lines of SeaBIOS' configuration")
    packages: list[Package] = Field(
        default_factory=list, description="beside a source: Debian packages that its build needs "
        "beside the usual ones")
    toolchain: Suite | None = Field(
        None, description="beside a source: the Debian suite that compiler and libraries are of; "
        "default: bookworm")


class QemuEntry(_FromSource):
    """A QEMU that the catalogue does not have: one of path, root, image, suite and source."""

    path: Text | None = Field(
        None, description="a program, or a build tree or prefix that holds one; "
        "relative to the matrix file",
    )
    data: Text | None = Field(
        None, description="beside a path or source: a directory in which it finds its data first, "
        "as with QEMU's -L; relative to the matrix file"
    )
    root: Text | None = Field(
        None, description="a directory that holds a whole root file system with a QEMU in it; "
        "relative to the matrix file"
    )
    program: Text | None = Field(
        None, description="beside a root: the path of the QEMU in it; default: where "
        "distributions put it"
    )
    image: Text | None = Field(None, description="an image of the Docker engine, by its name")
    suite: Text | None = Field(None, description="a Debian suite")
    package_version: Text | None = Field(
        None, description="of the suite's qemu-system-x86; default: the one it has"
    )


class FirmwareEntry(_FromSource):
    """A firmware that the catalogue does not have: one of path, descriptor, directory and source.
    """

    path: Text | None = Field(
        None, description="the file of an image; relative to the matrix file"
    )
    variables: Text | None = Field(
        None, description="beside a path with UEFI code alone: the template of its variable store"
    )
    flash: bool | None = Field(
        None, description="beside a path with UEFI firmware: false gives it by -bios, without a "
        "variable store"
    )
    symbols: Text | None = Field(
        None, description="beside a path: a file that names what is at an address of it, for the "
        "black box of a boot that fails: an ELF file (SeaBIOS' out/rom.o), a linker's map, or what "
        "nm prints"
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


class BoardEntry(_Entry):
    """A real board on a bench, by labgrid."""

    env: Text = Field(description="a labgrid environment file; relative to the matrix file")
    target: Text = Field("main", description="the target in it; default: main")
    restore: Annotated[bool, Field(strict=True)] = Field(
        False, description="whether what the flash chip held is written back after each cell; "
        "default: false")


class SavedEntry(_Entry):
    """A guest that was saved, as `bootmatrix vault add` keeps it."""

    guest: Text = Field(
        pattern=r"^[0-9a-f]{64}$", description="the digest by which the vault has it")
    vault: Text = Field(
        ".", description="the vault's directory; relative to the matrix file; default: its own")


class HostEntry(_Entry):
    """A host: one QEMU build and the firmware installed beside it, or a board and its firmware.

    Or, in the place of both, a guest that was saved.
    """

    qemu: Qemu | None = Field(
        None, description="QEMU build, by its name in the catalogue, or where it is")
    board: BoardEntry | None = Field(
        None, description="instead of a QEMU: a real board on a bench")
    saved: SavedEntry | None = Field(
        None, description="instead of a QEMU and its firmware: a guest that was saved there")
    firmware: Firmware | None = Field(
        None, description="firmware build, by name, or where it is; "
        "default: the one beside the QEMU build; a board needs one",
    )
    arguments: list[Text] = Field(
        default_factory=list, description="more arguments for this QEMU, a word each; they stand "
        "behind all others")


class _HostAxes(_Entry):
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


NUMBER_TAGS = ("a number", "a text")
"""As SOURCE_TAGS, where a number can also be written with more about it."""


def _number_tag(value: Any) -> str:
    return NUMBER_TAGS[isinstance(value, str) and (value == "" or not value.isdecimal())]


def _sets_of(value: Any) -> Any:
    """Sets by name, where a mapping says what is in each; else names of those of ``axes``."""
    return value if isinstance(value, Mapping) else _as_list(value)


def _values_of(axis: Axis) -> Any:
    """The type of a list of an axis' values."""
    value: Any = axis.type
    if value is ArgumentSet:
        sets = Annotated[dict[Name, list[Text]], Field(min_length=1), Tag(SOURCE_TAGS[1])]
        names = Annotated[list[Name], Field(min_length=1), Tag(SOURCE_TAGS[0])]
        return Annotated[sets | names, Discriminator(_source_tag), BeforeValidator(_sets_of)]
    if axis.is_number and axis.pattern:
        text = Annotated[str, Field(pattern=axis.pattern), Tag(NUMBER_TAGS[1])]
        value = Annotated[Annotated[Count, Tag(NUMBER_TAGS[0])] | text,
                          Discriminator(_number_tag)]
    elif axis.pattern:
        value = Annotated[str, Field(pattern=axis.pattern)]
    elif axis.type is int:
        value = Count
    return OneOrMany[value]


def axes_entry(axes: Mapping[str, Axis]) -> type[_HostAxes]:
    """The model of a mapping of axes."""
    values: dict[str, Any] = {
        name: (_values_of(axis), Field(default_factory=list, description=axis.schema))
        for name, axis in axes.items()
    }
    return create_model("AxesEntry", __base__=_HostAxes, __doc__=_HostAxes.__doc__, **values)


if TYPE_CHECKING:
    AxesEntry = _HostAxes
else:
    AxesEntry = axes_entry(AXES)


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


class GuestEntry(_Entry):
    """A guest of the file's own: somebody's machine, a disk of the user's, or both."""

    command_line: Text | None = Field(
        None, description="a file with a QEMU command line, as ps, libvirt's log or a script has "
        "it; relative to the matrix file")
    libvirt: Text | None = Field(
        None, description="a file with a libvirt domain (virsh dumpxml); relative to the matrix "
        "file")
    arch: Arch | None = Field(
        None, description="as import writes it, beside arguments: what its QEMU emulates")
    machine: Annotated[str, Field(pattern=AXES["machine"].pattern)] | None = Field(
        None, description="beside arguments: its machine type with options")
    cpu: Annotated[str, Field(pattern=AXES["cpu"].pattern)] | None = Field(
        None, description="beside arguments: its CPU model with properties")
    smp: Annotated[int | str, Field(union_mode="left_to_right")] | None = Field(
        None, description="beside arguments: its CPUs, as -smp takes them")
    arguments: list[Text] | None = Field(
        None, description="a machine as `bootmatrix import` writes it: an option with its value in "
        "each item; a device with drive=disk has the guest's disk, one with chardev=console the "
        "console")
    memory: Annotated[int | str, Field(union_mode="left_to_right")] | None = Field(
        None, description="MiB that it is to have; default: what it had, up to 1024. Beside "
        "arguments also what -m takes")
    network: Literal["user", "none"] = Field(
        "user", description="what its network cards are connected to: user-mode networking that "
        "is cut off from everything, or nothing; default: user")
    runs: Literal["probe", "linux", "linux-kernel"] = Field(
        "probe", description="what runs in it, where it has no disk of its own; default: probe")
    disk: Text | None = Field(
        None, description="a disk image of yours, which is only read, through an overlay; "
        "relative to the matrix file")
    format: Literal["raw", "qcow2"] = Field("qcow2", description="of the disk; default: qcow2")
    up: Text | None = Field(
        None, description="beside a disk: what its console says when it is up, and says again "
        "when somebody types Enter; a regular expression, such as 'login: '")
    smbios: Text | None = Field(
        None, description="beside a disk: a command for its shell that prints the firmware's "
        "version as SMBIOS has it, such as 'dmidecode -s bios-version'")
    login: dict[Text, str] = Field(
        default_factory=dict, description="beside smbios: what is typed before, each text where "
        "the console says its pattern: {'login: ': root, 'Password: ': secret}")


class LimitsEntry(_Entry):
    """What each sandbox may have, where its usual limits are too few."""

    memory: Annotated[int, Field(ge=64, le=1 << 20, strict=True)] | None = Field(
        None, description="MiB of memory; default: 4096 of address space for each program with "
        "bubblewrap, 2048 for all together with Docker")
    file: Annotated[int, Field(ge=16, le=1 << 20, strict=True)] | None = Field(
        None, description="MiB of the largest file that is written: a disk's overlay, shared "
        "memory; default: 256")
    processes: Annotated[int, Field(ge=16, le=1 << 15, strict=True)] | None = Field(
        None, description="processes and threads; default: 256")


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
    guests: dict[Name, GuestEntry] = Field(
        default_factory=dict, description="guests of your own, by name")
    known: list[KnownEntry] = Field(default_factory=list)
    boot_timeout: float = Field(
        5.0, gt=0, allow_inf_nan=False, strict=True, description="seconds for each boot"
    )
    patience: float | None = Field(
        None, gt=0, allow_inf_nan=False, strict=True,
        description="seconds after which a boot that has not come is called a hang",
    )
    limits: LimitsEntry = Field(
        default_factory=lambda: LimitsEntry(),  # type: ignore[call-arg]
        description="what each sandbox may have; default: what docs/security.md says")
    debug_log: Literal["on", "off"] = Field(
        "on", description="the port that firmware prints its debug log to; default: on"
    )
    sample: Literal["pairwise"] | Annotated[int, Field(gt=0, strict=True)] | None = Field(
        None, description="run fewer cells: all pairs of values, or so many"
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a matrix file, for editors (docs/matrix.schema.json)."""
    schema = MatrixEntry.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
