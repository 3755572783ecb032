"""The catalogue of QEMU and firmware builds as its file words it, checked, with positions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails

from bootmatrix.errors import UserError
from bootmatrix.files import yaml_file
from bootmatrix.matrix.schema import Package, Suite
from bootmatrix.model import Arch, Interface

# A build's name becomes part of a directory name and of an image repository's name.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([.-][a-z0-9]+)*$")]
# A path inside the root, without a way out of it.
RootPath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_+-][\w.+-]*(/[A-Za-z0-9_+-][\w.+-]*)*$")
]
# The name of a descriptor's file.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+-][\w.+-]*$")]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SigningEntry(_Entry):
    """What signs guests for a firmware's Secure Boot keys: files of its root, and what opens them.
    """

    key: RootPath
    certificate: RootPath
    passphrase: str = ""


class FirmwareEntry(_Entry):
    """A firmware that a package brings, as a file of it or as one of its descriptors says.

    ``package`` and ``file`` can be lists of alternatives: what one suite has in one, another has
    in the other. All paths are relative to the root; ``descriptor`` is a name in QEMU's directory
    of them. ``variables`` is the template beside a file that is code alone, ``payload`` what
    ``-kernel`` starts behind it, ``machines`` are globs of machine types. ``signing`` is for the
    keys that are enrolled in ``variables``; without it no guest of ours can be signed for them.
    """

    package: Annotated[list[Package], Field(min_length=1), BeforeValidator(_as_list)]
    file: Annotated[list[RootPath], BeforeValidator(_as_list)] = []
    descriptor: FileName | None = None
    interface: Annotated[Interface, Field(strict=False)] | None = None
    variables: RootPath | None = None
    payload: RootPath | None = None
    machines: list[str] = []
    features: list[str] = []
    signing: SigningEntry | None = None


class QemuEntry(_Entry):
    """A QEMU build: Debian packages of one suite. The first firmware is the one beside it.

    Where one of the others is not in its packages, the build goes without.
    """

    suite: Suite
    packages: Annotated[list[Package], Field(min_length=1)]
    firmware: Annotated[list[str], Field(min_length=1)]
    architecture: Annotated[Arch, Field(strict=False)] = Arch.X86_64

    @property
    def binary(self) -> str:
        """The program, relative to the root."""
        return f"usr/bin/qemu-system-{self.architecture.value}"


class KernelEntry(_Entry):
    """The Linux guest of an architecture: Debian packages of one suite."""

    suite: Suite
    packages: Annotated[list[Package], Field(min_length=1)]
    architecture: Annotated[Arch, Field(strict=False)] = Arch.X86_64


class PackagesEntry(_Entry):
    """A root of Debian packages of one suite: what sources of a kind are built with, or swtpm."""

    suite: Suite
    packages: Annotated[list[Package], Field(min_length=1)]


class Catalogue(_Entry):
    """The whole file: firmware by short name, QEMU builds, kernels, toolchains, TPMs by name."""

    firmware: dict[Name, FirmwareEntry]
    qemu: dict[Name, QemuEntry]
    kernels: dict[Name, KernelEntry] = {}
    toolchains: dict[Name, PackagesEntry] = {}
    swtpm: dict[Name, PackagesEntry] = {}

    def recipe(self, name: str) -> dict[str, Any]:
        """All that the contents of a build depend on, as plain JSON data."""
        entry = self.qemu[name]
        return entry.model_dump(mode="json") | {
            "firmware": [
                # What guests are signed with does not change a root.
                [short, self.firmware[short].model_dump(mode="json", exclude={"signing"})]
                for short in entry.firmware
            ]
        }


def load(path: Path) -> Catalogue:
    """Read and check a catalogue. Raises UserError with file, line and column."""
    return _checked(path, yaml_file.read_text(path))


@cache
def _checked(path: Path, text: str) -> Catalogue:
    tree = yaml_file.parse(path, text)
    try:
        catalogue = Catalogue.model_validate(tree)
    except ValidationError as invalid:
        # A misspelt field is also a missing one; only the first is worth telling.
        details = invalid.errors()
        unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]
        raise min(
            (_explain(path, tree, detail) for detail in unknown or details),
            key=lambda error: (error.line or 0, error.column or 0),
        ) from None
    for short, firmware in catalogue.firmware.items():
        if bool(firmware.file) == bool(firmware.descriptor):
            raise _error(path, tree, ("firmware", short), "just one of file and descriptor",
                         hint="a descriptor says what the other fields would")
        for field in ("interface", "variables", "machines", "features"):
            if firmware.descriptor and field in firmware.model_fields_set:
                raise _error(path, tree, ("firmware", short, field), "is what the descriptor says",
                             key=True)
    for name, entry in catalogue.qemu.items():
        for index, short in enumerate(entry.firmware):
            loc = ("qemu", name, "firmware", index)
            if short not in catalogue.firmware:
                raise _error(path, tree, loc, f"no such firmware: {short!r}",
                             hint="accepted: " + ", ".join(catalogue.firmware))
            packages = catalogue.firmware[short].package
            if not set(packages) & set(entry.packages):
                raise _error(path, tree, loc, f"{short}'s package {' or '.join(packages)!r} "
                                              "is not in packages")
    return catalogue


def _explain(path: Path, tree: Any, detail: ErrorDetails) -> UserError:
    """One of pydantic's errors as a line of ours."""
    loc = detail["loc"]
    if not loc:
        return UserError("the catalogue must be a mapping", file=path, line=1, column=1,
                         hint="firmware:, qemu:")
    if loc[-1] == "[key]":
        return _error(path, tree, loc[:-1], "is no name for a build", key=True,
                      hint="lower-case letters, digits, . and -")
    if detail["type"] == "missing":
        return _error(path, tree, loc, "is missing", key=True)
    if detail["type"] == "extra_forbidden":
        models: Mapping[str | int, type[BaseModel]] = {
            "firmware": FirmwareEntry, "qemu": QemuEntry, "kernels": KernelEntry,
            "toolchains": PackagesEntry, "swtpm": PackagesEntry}
        model = Catalogue if len(loc) == 1 else models[loc[0]]
        fields = (SigningEntry if loc[2:3] == ("signing",) and len(loc) > 3 else model).model_fields
        return _error(path, tree, loc, "no such field", key=True,
                      hint="accepted: " + ", ".join(fields))
    wanted = detail["msg"].removeprefix("Input should be ")
    if detail["type"] == "string_pattern_mismatch":
        wanted = _MEANINGS[next(part for part in reversed(loc) if isinstance(part, str))]
    return _error(path, tree, loc, f"found {detail['input']!r}; it must be {wanted}")


_MEANINGS = {
    "suite": "the name of a suite",
    "packages": "the name of a Debian package",
    "package": "the name of a Debian package",
    "file": "a path inside the root",
    "variables": "a path inside the root",
    "payload": "a path inside the root",
    "key": "a path inside the root",
    "certificate": "a path inside the root",
    "descriptor": "the name of a descriptor's file",
}


def _error(
    path: Path, tree: Any, loc: tuple[str | int, ...], message: str, *,
    key: bool = False, hint: str = "",
) -> UserError:
    """A UserError at a value (or its key); at the nearest thing around it if it is not there."""
    mark, node = [0, 0], tree
    for depth, part in enumerate(loc):
        marks = (getattr(node, "lc", None) and node.lc.data) or {}
        if part not in marks:
            # A list of one can be written as its item, which has no number then.
            loc = loc[:depth] if isinstance(part, int) else loc
            break
        mark, node = marks[part], node[part]
    # ruamel's marks: of the key, and, in a mapping, of the value.
    line, column = (at + 1 for at in (mark[:2] if key else mark[-2:]))
    field = ".".join(str(part) for part in loc).replace("\n", "\\n").replace("\r", "\\r")
    return UserError(f"{field}: {message}", file=path, line=line, column=column, hint=hint)
