"""The format of the nvram file: header pages to bytes and back, and whose a strange file is. Pure.

    0x0000  header           what is known about the guest's firmware
    0x1000  header, again    the same page
    0x2000  journal          the next header while an update is under way, else zeros
    0x3000  note             who has the file, for a person to read; no part of its state
    0x4000  windows          the firmware, then the variables: what QEMU maps as flash
    behind  staging areas    two, each of the firmware's size; one may hold a staged upgrade

docs/nvram.md describes the fields. Whatever the bytes, the only exception is NvramError; its
message does not name the file, which is not known here.
"""

from __future__ import annotations

import hashlib
import json
import struct
import types
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from bootmatrix.errors import NvramError

FORMAT = 1
PAGE = 0x1000
HEADERS = (0x0000, 0x1000)
JOURNAL = 0x2000
NOTE = 0x3000
HEAD = 0x4000  # bytes before the windows
LARGEST = 64 << 20  # bytes that a window may have; QEMU itself allows 8 MiB of flash
BLOCKS = 64  # checksums by which a changed place in a window is found again

_MAGIC = b"BMNVRAM\0"
_FIXED = struct.Struct("<8sII32s")  # magic, format, length of the JSON behind it, sha256
_DIGEST_AT = 16
_LONGEST_TEXT = 8 * BLOCKS


class Part(StrEnum):
    """What a window holds, in the order of QEMU's pflash units."""

    FIRMWARE = "firmware"
    VARIABLES = "variables"


class ChangedBy(StrEnum):
    """Who gave the nvram the content it has."""

    HARNESS = "harness"
    USER = "user"
    GUEST = "guest"


@dataclass(frozen=True)
class Window:
    """A range that QEMU maps as flash; ``offset`` and ``size`` in bytes, multiples of 4 KiB.

    ``sha256`` and ``blocks`` (a CRC-32 of each block, in hex) are of the content that the
    harness knows; while a QEMU has the file, the guest may have gone beyond it.
    """

    part: Part
    offset: int
    size: int
    sha256: str
    blocks: str

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size


@dataclass(frozen=True)
class Origin:
    """How the firmware was initialised: when (UTC, ISO 8601), by which QEMU, from which image."""

    when: str
    qemu: str
    machine: str
    policy: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Change:
    """The last change of the firmware; ``blocks`` is how many of its blocks it touched."""

    by: ChangedBy
    when: str
    blocks: int


@dataclass(frozen=True)
class Staged:
    """An upgrade that waits for the next reset or start. ``taking``: its moment has come."""

    offset: int
    size: int
    sha256: str
    name: str
    taking: bool


@dataclass(frozen=True)
class Lent:
    """A QEMU has the file, so its windows may change without the harness."""

    when: str
    qemu: str
    role: str


@dataclass(frozen=True)
class Moved:
    """The guest lives elsewhere now."""

    when: str
    to: str


@dataclass(frozen=True)
class Header:
    """All that is known about a guest's nvram.

    ``guest`` is the same in every file that this guest's nvram ever lived in. ``firmware``
    names the build in the firmware window, "" where it is unknown. ``origin`` is None and
    ``windows`` is empty in an nvram that was cleared; an ``origin`` of None with windows is room
    for what a migration will bring.
    """

    guest: str
    generation: int
    origin: Origin | None
    firmware: str
    changed: Change
    windows: tuple[Window, ...]
    staged: Staged | None
    lent: Lent | None
    moved: Moved | None
    came_from: str

    def window(self, part: Part) -> Window | None:
        """The window of that name, if there is one."""
        return next((window for window in self.windows if window.part is part), None)

    @property
    def end(self) -> int:
        """The size the file must have at least, in bytes."""
        end = self.windows[-1].end if self.windows else HEAD
        return max(end, self.staged.offset + self.staged.size if self.staged else 0)


@dataclass(frozen=True)
class FileState:
    """What the head of a file says. ``unfinished``: its header stands in the journal only."""

    header: Header
    unfinished: bool


# ---- windows -----------------------------------------------------------------------------------


def block_size(size: int) -> int:
    """Bytes of a block in a window of ``size`` bytes: whole pages, at most BLOCKS blocks."""
    return -(-size // (BLOCKS * PAGE)) * PAGE


def block_sums(content: bytes) -> str:
    """The CRC-32 of each block of a window's content, eight hex digits each."""
    step = block_size(len(content))
    return "".join(
        f"{zlib.crc32(content[at:at + step]):08x}" for at in range(0, len(content), step)
    )


def differing_blocks(old: str, new: str) -> list[int]:
    """The numbers of the blocks whose sums are not the same."""
    count = max(len(old), len(new)) // 8
    return [n for n in range(count) if old[8 * n:8 * n + 8] != new[8 * n:8 * n + 8]]


def lay_out(contents: Mapping[Part, bytes]) -> tuple[Window, ...]:
    """The windows that hold these contents. Raises NvramError for a size that none can have."""
    windows = []
    offset = HEAD
    for part in Part:
        if part not in contents:
            continue
        content = contents[part]
        if not content or len(content) % PAGE or len(content) > LARGEST:
            raise NvramError(
                f"a {part} image of {len(content):#x} bytes cannot be mapped as flash: it takes "
                f"a multiple of 4 KiB, at most {LARGEST >> 20} MiB"
            )
        windows.append(window_of(part, offset, content))
        offset += len(content)
    if windows and windows[0].part is not Part.FIRMWARE:
        raise NvramError("variables without a firmware")
    return tuple(windows)


def window_of(part: Part, offset: int, content: bytes) -> Window:
    """The window that holds ``content`` at ``offset``."""
    return Window(
        part, offset, len(content), hashlib.sha256(content).hexdigest(), block_sums(content)
    )


def staging_areas(windows: tuple[Window, ...]) -> tuple[int, int]:
    """The offsets of both: a new upgrade is written beside the one that may be staged already."""
    return windows[-1].end, windows[-1].end + windows[0].size


def damage(window: Window, content: bytes) -> str | None:
    """What is wrong with a window's content and where, None if it is what the header says."""
    if hashlib.sha256(content).hexdigest() == window.sha256:
        return None
    step = block_size(window.size)
    changed = differing_blocks(window.blocks, block_sums(content)) or [0]
    first, last = window.offset + changed[0] * step, window.offset + (changed[-1] + 1) * step
    return (
        f"the {window.part} window is damaged between {first:#x} and {min(last, window.end):#x} "
        f"({len(changed)} of {len(window.blocks) // 8} blocks): it changed while no QEMU had it"
    )


# ---- header pages ------------------------------------------------------------------------------


def encode(header: Header) -> bytes:
    """The header as a page. Raises NvramError if it does not fit."""
    text = json.dumps(asdict(header), separators=(",", ":")).encode("ascii")
    if _FIXED.size + len(text) > PAGE:
        raise NvramError("what is to be known about this nvram does not fit into its header")
    page = bytearray(PAGE)
    _FIXED.pack_into(page, 0, _MAGIC, FORMAT, len(text), bytes(32))
    page[_FIXED.size:_FIXED.size + len(text)] = text
    page[_DIGEST_AT:_FIXED.size] = hashlib.sha256(page).digest()
    decode(bytes(page))  # what could not be read again is not written
    return bytes(page)


def decode(page: bytes) -> Header:
    """The header in a page. Raises NvramError: what is wrong with the page."""
    if len(page) != PAGE:
        raise NvramError(f"cut off after {len(page)} of {PAGE} bytes")
    magic, version, length, digest = _FIXED.unpack_from(page)
    if magic != _MAGIC:
        raise NvramError("its first bytes are not those of a header")
    zeroed = page[:_DIGEST_AT] + bytes(32) + page[_FIXED.size:]
    if hashlib.sha256(zeroed).digest() != digest:
        raise NvramError("its checksum is wrong")
    if version != FORMAT:
        raise _OtherFormatError(version)
    if length > PAGE - _FIXED.size:
        raise NvramError(f"a text of {length} bytes cannot be in it")
    try:
        data = json.loads(page[_FIXED.size:_FIXED.size + length].decode("ascii"))
        header = _build(Header, data)
    except (ValueError, RecursionError) as error:
        raise NvramError(f"its text makes no sense ({str(error)[:80]})") from None
    assert isinstance(header, Header)
    _check(header)
    return header


class _OtherFormatError(NvramError):
    def __init__(self, version: int) -> None:
        super().__init__(
            f"format {version}; this version of bootmatrix knows format {FORMAT} only"
            + (", a newer one is needed" if version > FORMAT else "")
        )


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _build(kind: Any, value: Any) -> Any:
    """JSON data as the frozen data that ``kind`` describes. Raises ValueError."""
    if get_origin(kind) is types.UnionType:  # here always: X | None
        return None if value is None else _build(get_args(kind)[0], value)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError("no list")
        return tuple(_build(get_args(kind)[0], item) for item in value)
    if is_dataclass(kind):
        names = [field.name for field in fields(kind)]
        if not isinstance(value, dict) or sorted(value) != sorted(names):
            raise ValueError(f"no {kind.__name__}" if isinstance(kind, type) else "no object")
        hints = _hints(kind if isinstance(kind, type) else type(kind))
        return kind(**{name: _build(hints[name], value[name]) for name in names})  # type: ignore[operator]
    if issubclass(kind, StrEnum):
        return kind(value)
    if type(value) is not kind:
        raise ValueError(f"no {kind.__name__}")
    if kind is int and not 0 <= value < 1 << 63:
        raise ValueError("a number out of range")
    if kind is str and (len(value) > _LONGEST_TEXT or (value and not value.isprintable())):
        raise ValueError("a text that cannot be printed")
    return value


def _check(header: Header) -> None:
    """Raise NvramError unless offsets, sizes and sums fit each other."""
    offset = HEAD
    parts = [window.part for window in header.windows]
    if parts != list(Part)[:len(parts)]:
        raise NvramError("its windows are not firmware, then variables")
    for window in header.windows:
        if (window.offset != offset or window.size % PAGE or not 0 < window.size <= LARGEST
                or len(window.blocks) != 8 * -(-window.size // block_size(window.size))
                or not _is_hex(window.blocks) or not _is_digest(window.sha256)):
            raise NvramError(f"its {window.part} window makes no sense")
        offset += window.size
    if header.origin is not None and (
        not header.windows or not _is_digest(header.origin.sha256)
    ):
        raise NvramError("its origin makes no sense")
    staged = header.staged
    if staged is not None and (
        not header.windows or staged.size != header.windows[0].size
        or staged.offset not in staging_areas(header.windows) or not _is_digest(staged.sha256)
    ):
        raise NvramError("its staged upgrade makes no sense")


def _is_digest(text: str) -> bool:
    return len(text) == 64 and _is_hex(text)


def _is_hex(text: str) -> bool:
    return set(text) <= set("0123456789abcdef")


# ---- whole files -------------------------------------------------------------------------------


def parse(head: bytes, size: int, tail: bytes = b"") -> FileState:
    """What a file's first HEAD bytes say, if it has ``size`` bytes and ends with ``tail``.

    Raises NvramError for anything but a whole header in both pages, or in the journal.
    """
    pages = _Pages(head, size, tail)
    header = pages.journal
    if header is None:
        if pages.other_format is not None:
            raise pages.other_format
        for page, damaged in zip(HEADERS, pages.damaged, strict=True):
            if damaged is not None:
                other = "the other header page is whole: `bootmatrix nvram repair` takes it"
                if len(pages.headers) == 0:
                    other = "and the other header page, too: it cannot be repaired"
                raise NvramError(f"the header page at {page:#x} is damaged: {damaged}; {other}")
        header, second = pages.headers
        if header != second:
            raise NvramError(
                f"the header pages at 0x0 and {HEADERS[1]:#x} disagree (generation "
                f"{header.generation} and {second.generation}): `bootmatrix nvram repair` takes "
                "the newer one"
            )
    if size < header.end:
        raise NvramError(f"truncated: it has {size:#x} bytes and needs {header.end:#x}")
    return FileState(header, unfinished=pages.journal is not None)


def salvage(head: bytes, size: int, tail: bytes = b"") -> Header:
    """The newest whole header, wherever it stands. Raises NvramError if there is none."""
    pages = _Pages(head, size, tail)
    if pages.other_format is not None:
        raise pages.other_format
    whole = [*pages.headers, *([pages.journal] if pages.journal else [])]
    if not whole:
        raise NvramError("no header page is whole: there is nothing to repair it from")
    header = max(whole, key=lambda header: header.generation)
    if size < header.end:
        raise NvramError(f"truncated: it has {size:#x} bytes and needs {header.end:#x}")
    return header


class _Pages:
    """The header pages and the journal, each read by itself."""

    def __init__(self, head: bytes, size: int, tail: bytes) -> None:
        self.headers: list[Header] = []
        self.damaged: list[str | None] = []
        self.journal: Header | None = None
        self.other_format: NvramError | None = None
        raw = [head[at:at + PAGE] for at in (*HEADERS, JOURNAL)]
        if not any(page.startswith(_MAGIC) for page in raw):
            raise NvramError(f"no nvram file: {describe_foreign(head, size, tail)}")
        if size < HEAD:
            raise NvramError(f"truncated: it has {size:#x} bytes, the header alone {HEAD:#x}")
        for page in raw[:-1]:
            try:
                self.headers.append(decode(page))
                self.damaged.append(None)
            except _OtherFormatError as error:
                self.other_format = error
                self.damaged.append(error.message)
            except NvramError as error:
                self.damaged.append(error.message)
        try:
            self.journal = decode(raw[-1])
        except NvramError:
            return  # zeros, or an update that was cut before it counted
        if any(header.generation > self.journal.generation for header in self.headers):
            self.journal = None  # left over


_FOREIGN = (
    (0, b"QFI\xfb", "a qcow2 image"),
    (0, b"QED\0", "a QED image"),
    (0, b"KDMV", "a VMDK image"),
    (64, b"\x7f\x10\xda\xbe", "a VDI image"),
    (0, b"\x7fELF", "an ELF program"),
    (0, b"\x1f\x8b", "a gzip file"),
    (510, b"\x55\xaa", "a disk image"),
)
_FV_AT, _FV = 40, b"_FVH"  # UEFI PI Specification, volume 3: EFI_FIRMWARE_VOLUME_HEADER
_NV_DATA_GUID = bytes.fromhex("8d2bf1ff96768b4ca9852747075b4f50")  # EFI_SYSTEM_NV_DATA_FV_GUID
_RESET_JUMP = 0xEA  # a far jump at 16 bytes before the end: an x86 BIOS


def describe_foreign(head: bytes, size: int, tail: bytes = b"") -> str:
    """What a file is that is no nvram file, as far as its first and last bytes tell."""
    if size == 0:
        return "it is empty"
    if head[_FV_AT:_FV_AT + 4] == _FV:
        if head[16:32] == _NV_DATA_GUID:
            return "a plain UEFI variable store (`bootmatrix nvram import` takes one)"
        return "a plain UEFI firmware image (`bootmatrix nvram import` takes one)"
    for offset, magic, name in _FOREIGN:
        if head[offset:offset + len(magic)] == magic:
            return name
    if len(tail) >= 16 and tail[-16] == _RESET_JUMP and size % PAGE == 0:
        return "a plain BIOS image (`bootmatrix nvram import` takes one)"
    if not head.strip(b"\0"):
        return "it begins with zeros only"
    if not head.strip(b"\xff"):
        return "it is erased flash"
    return f"it begins with {head[:8].hex(' ')}"
