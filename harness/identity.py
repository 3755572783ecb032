"""Which firmware was that? Banners on a console, and bytes in memory, to firmware builds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from harness.model import FirmwareBuild

# SeaBIOS prints this first thing (its src/bootsplash.c and src/post.c). The version is free
# text, chosen by whoever built it: "1.14.0-2", "rel-1.16.3-0-ga6ed6b701f0a-prebuilt.qemu.org".
BANNER = r"SeaBIOS \(version ([^()\r\n]+)\)"
_BANNER = re.compile(BANNER)

# The version stands in the image as a C string of its own; the assembler pads with NUL or NOP
# (0x90) before it.
_VERSION_STRING = re.compile(rb"[\0\x90]((?:rel-|v)?\d+\.\d+\.\d+[0-9A-Za-z.+~_-]*)(?=\0)")
_SEABIOS_FORMAT = b"SeaBIOS (version %s)"

# A lone ESC that never becomes a sequence must not hold text back for ever: what is longer than
# this, in bytes, is text, however it arrives.
_LONGEST_ESCAPE = 32
# Escape sequences (ECMA-48 CSI, and the two-byte ones SeaBIOS's serial console uses).
_ESCAPE = re.compile(
    rb"\x1b(?:\[(?=[ -?]{0,%d}[@-~])[0-?]*[ -/]*[@-~]|[@-Z\\-_c])" % (_LONGEST_ESCAPE - 3)
)
_UNFINISHED_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*)?\Z")


class EscapeFilter:
    """Takes escape sequences out of a stream that arrives in pieces.

    ``feed`` returns what may be matched; the beginning of a sequence that a piece ends with is
    held back until the rest of it has come.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The text in ``data`` (after what was held back), without escape sequences."""
        data = self._held + data
        self._held = b""
        unfinished = _UNFINISHED_ESCAPE.search(data)
        if unfinished and len(data) - unfinished.start() < _LONGEST_ESCAPE:
            self._held = data[unfinished.start() :]
            data = data[: unfinished.start()]
        return _ESCAPE.sub(b"", data)


def banner_version(text: str) -> str | None:
    """The version in the first firmware banner of a console text, None if there is none."""
    found = _BANNER.search(text)
    return found.group(1) if found else None


def printed_version(image: bytes) -> str | None:
    """The version text that this firmware image will print, None where it cannot be told."""
    if _SEABIOS_FORMAT not in image:
        return None
    versions = {match.group(1) for match in _VERSION_STRING.finditer(image)}
    return versions.pop().decode("ascii") if len(versions) == 1 else None


def sha256(image: bytes) -> str:
    """The image's sha256 in lower-case hex."""
    return hashlib.sha256(image).hexdigest()


@dataclass(frozen=True)
class ConsoleName:
    """What a printed version says about the firmware.

    ``name`` is the build's name if exactly one known build prints this, else the printed text
    itself; ``candidates`` are all known builds that print it.
    """

    name: str
    candidates: tuple[str, ...]


class KnownFirmware:
    """The firmware builds one can recognise, by what they print and by their bytes."""

    def __init__(self, builds: Iterable[FirmwareBuild]) -> None:
        self._by_sha256: dict[str, FirmwareBuild] = {}
        self._by_print: dict[str, list[str]] = {}
        for build in builds:
            if build.sha256 in self._by_sha256:
                continue  # the same bytes under another name: the first name stands
            self._by_sha256[build.sha256] = build
            if build.prints is not None:
                self._by_print.setdefault(build.prints, []).append(build.name)

    def by_print(self, version: str) -> ConsoleName:
        """The build(s) that print ``version``."""
        candidates = tuple(self._by_print.get(version, ()))
        return ConsoleName(candidates[0] if len(candidates) == 1 else version, candidates)

    def by_bytes(self, digest: str) -> str:
        """The build with this sha256, or ``sha256:...`` where it is no known build."""
        build = self._by_sha256.get(digest)
        return build.name if build else f"sha256:{digest}"
