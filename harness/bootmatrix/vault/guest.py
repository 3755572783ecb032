"""What is said of a saved guest: the cell it is of, the QEMU it ran in, and its files.

It lies in a vault as one more content, and so a guest is called by the digest of what is said of
it, which names all the rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from bootmatrix.cell import NAME
from bootmatrix.errors import UserError
from bootmatrix.steps.library import StepData
from bootmatrix.vault.objects import LARGEST, Objects

SCHEMA = 1
DIGEST = r"^[0-9a-f]{64}$"
_LARGEST_SAID = 1 << 20

FileName = Literal["beginning", "stream", "vars.fd", "flash.fd", "nvram.bin", "disk.img",
                   "firmware", "variables"]
"""What a guest can have: what was seen of it until it was saved, its migration stream, what it owns
on its host, its disk, and the firmware that was installed beside its QEMU.
"""
NEEDED: tuple[FileName, ...] = ("beginning", "stream", "disk.img", "firmware")
_SAID = "said.json"
_OWNED = ("vars.fd", "flash.fd", "nvram.bin")

Digest = Annotated[str, StringConstraints(pattern=DIGEST)]
# They come into records, reports and command lines.
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+~:-]{0,199}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,5}(\.[0-9]{1,5}){1,3}$")]
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=200)]


class _Said(BaseModel):
    # What a later version of this program says beside it, an older one cannot honour.
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Said):
    """A file of the guest, by its content."""

    sha256: Digest
    size: Annotated[int, Field(ge=0, le=LARGEST)]


class SavedBy(_Said):
    """The QEMU that has saved it; ``default_machine`` is what it takes without -M."""

    version: Version
    build: Word
    default_machine: Annotated[str, StringConstraints(max_length=200)]


class Beside(_Said):
    """The firmware beside that QEMU."""

    name: Word
    machines: Annotated[list[Annotated[str, StringConstraints(max_length=200)]],
                        Field(max_length=64)] = []
    features: Annotated[list[Word], Field(max_length=64)] = []


class SavedGuest(_Said):
    """A saved guest. ``values`` and ``words`` are its cell's, as its record has them.

    ``memory_mib`` is what it was given where the cell leaves that open.

    ``steps`` are those that were done to it.
    """

    schema_: Literal[1] = Field(alias="schema")
    saved: Annotated[str, StringConstraints(max_length=40)]
    values: dict[Word, str | int]
    words: dict[Word, list[str]]
    memory_mib: Annotated[int, Field(gt=0, le=1 << 20)]
    steps: Annotated[list[StepData], Field(min_length=1, max_length=1000)]
    qemu: SavedBy
    firmware: Beside
    files: dict[FileName, File]

    def dumps(self) -> bytes:
        """As it lies in the vault; the same guest gives the same bytes."""
        said = self.model_dump(mode="json", by_alias=True)
        return json.dumps(said, indent=1, sort_keys=True).encode() + b"\n"

    def check(self, objects: Objects) -> None:
        """Look at all its files. Raises UserError at the first that is damaged or missing."""
        for file in self.files.values():
            objects.check(file.sha256, file.size)


def read(objects: Objects, guest: str) -> SavedGuest:
    """What is said of a guest, by its digest. Raises UserError."""
    text = objects.get(guest, _LARGEST_SAID)
    path = objects.path(guest)
    try:
        said: Any = json.loads(text)
        if isinstance(said, dict) and said.get("schema") != SCHEMA:
            raise UserError(f"a saved guest of schema {said.get('schema')!r}", file=path,
                            hint=f"this program reads schema {SCHEMA}")
        found = SavedGuest.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"is no saved guest: {where}: {first['msg']}", file=path) from None
    except (ValueError, RecursionError):
        raise UserError("is no saved guest: it is not JSON", file=path) from None
    if missing := [name for name in NEEDED if name not in found.files]:
        raise UserError(f"is no saved guest: it has no {missing[0]}", file=path)
    return found


def unpacked(directory: Path) -> SavedGuest:
    """What is said of the guest in a directory that ``unpack`` has filled."""
    return SavedGuest.model_validate_json((directory / _SAID).read_bytes())


def place(name: FileName) -> str:
    """Where a file of a guest is once it is unpacked, below its directory."""
    assert name in get_args(FileName)
    if name == "stream":
        return "guest/stream"
    return f"guest/host/{name}" if name in _OWNED else name


def unpack(objects: Objects, guest: SavedGuest, directory: Path) -> None:
    """Unpack all files of a guest, and what is said of it, into a directory of ours.

    Raises UserError.
    """
    (directory / _SAID).write_bytes(guest.dumps())
    (directory / "guest" / "host").mkdir(parents=True)
    for name, file in guest.files.items():
        objects.get_into(file.sha256, file.size, directory / place(name))
