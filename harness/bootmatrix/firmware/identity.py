"""Which firmware was that? Banners on a console, and bytes in memory, to firmware builds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from bootmatrix.firmware import (
    coreboot,
    edk2,
    openbios,
    opensbi,
    s390_ccw,
    seabios,
    slof,
    u_boot,
)
from bootmatrix.model import FirmwareBuild

AnyText = TypeVar("AnyText", str, bytes)


class Alternatives(Generic[AnyText]):
    """Patterns, of which the first in a text is found: what ``a|b|c`` finds, but quicker.

    ``re`` looks for the word that a pattern begins with many times faster than for a choice of
    them, and what a console has said last is searched at each of its lines.
    """

    def __init__(self, patterns: Iterable[AnyText]) -> None:
        self._compiled: list[re.Pattern[AnyText]] = [
            re.compile(pattern, re.DOTALL) for pattern in patterns]

    def search(self, text: AnyText, start: int = 0) -> re.Match[AnyText] | None:
        """As of Python's own patterns; of two that begin at one place, the earlier pattern's."""
        found = (pattern.search(text, start) for pattern in self._compiled)
        return min((match for match in found if match), key=re.Match.start, default=None)


# Each has one group: the version.
_FAMILIES = (seabios, coreboot, edk2, u_boot, opensbi, slof, openbios)
_BANNERS = (*(family.BANNER for family in _FAMILIES), *s390_ccw.BANNERS)
BANNER = f"(?:{'|'.join(_BANNERS)})"
BANNER_IN_BYTES = Alternatives([banner.encode() for banner in _BANNERS])
_BANNER = Alternatives(_BANNERS)

# The driver that gives edk2's SMBIOS type 0 (OvmfPkg/SmbiosPlatformDxe), by its file name. Until
# 2023 its strings stood in a table, vendor and version one behind the other.
_SMBIOS_DRIVER = UUID("4110465d-5ff3-4f4b-b580-24ed0d06747a")
_TABLE = re.compile(rb"EFI Development Kit II / OVMF\0([!-~]+)\0")
# Today they are PcdFirmwareVersionString and others, in UTF-16, at multiples of 4: the end of what
# pads the code before them can look like a character. A vendor has spaces, and a date slashes;
# "unknown" takes the place of a version that is empty.
_WIDE = re.compile(rb"(?:[!-~]\0){3,64}(?=\0\0)")
_ALIGNED = 4
_NO_VERSION = "unknown"

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
    return version_in(found) if found else None


def version_in(banner: re.Match[AnyText]) -> AnyText:
    """The version in a banner that was found."""
    return banner[banner.lastindex or 0]


def own(banners: Sequence[str]) -> tuple[str, ...]:
    """Of the versions in a boot's banners those of the firmware, without what it has started.

    That is coreboot's where it says its name; U-Boot's where nobody else does.
    """
    first = tuple(version for version in banners if version.startswith(coreboot.NAME))
    others = tuple(version for version in banners if not version.startswith(u_boot.NAME))
    return first or others or tuple(banners)


def printed_version(image: bytes) -> str | None:
    """The version text that this firmware image will print, None where it cannot be told.

    Most print it in their banners, UEFI firmware has it in its SMBIOS table.
    """
    if (version := coreboot.printed_version(image)) is not None:
        return version
    if seabios.is_one(image):
        return seabios.printed_version(image)
    drivers = (code for name, code in edk2.programs(image) if name == _SMBIOS_DRIVER)
    driver = next(drivers, None)
    if driver is not None:
        return _smbios_version(driver)
    others = (opensbi, u_boot, slof, openbios, s390_ccw)
    return next((said for family in others if (said := family.printed_version(image))), None)


def _smbios_version(driver: bytes) -> str | None:
    if table := _TABLE.search(driver):
        return table.group(1).decode("ascii")
    texts = {
        text.group()[text.start() % _ALIGNED:].decode("utf-16-le")
        for text in _WIDE.finditer(driver) if text.start() % 2 == 0
    }
    versions = [text for text in texts if re.search(r"\d", text) and "/" not in text]
    if not versions and any(text.endswith(_NO_VERSION) for text in texts):
        return _NO_VERSION
    return versions[0] if len(versions) == 1 else None


def sha256(image: bytes) -> str:
    """The image's sha256 in lower-case hex."""
    return hashlib.sha256(image).hexdigest()


@dataclass(frozen=True)
class ConsoleName:
    """What a printed version says about the firmware.

    ``name`` is the build's name if exactly one known build prints this, else the printed text
    itself; ``candidates`` are all known builds that print it. Builds of the same bytes, as OVMF's
    that differ in their variables alone, are one.
    """

    name: str
    candidates: tuple[str, ...]


class KnownFirmware:
    """The firmware builds one can recognise, by what they print and by their bytes.

    Of builds of the same bytes the first counts, where nobody asks for another.
    """

    def __init__(self, builds: Iterable[FirmwareBuild]) -> None:
        self._by_sha256: dict[str, list[str]] = {}
        self._by_print: dict[str, dict[str, str]] = {}
        for build in builds:
            names = self._by_sha256.setdefault(build.sha256, [])
            if build.name in names:
                continue
            names.append(build.name)
            if build.prints is not None:
                self._by_print.setdefault(build.prints, {})[build.name] = build.sha256

    def by_print(self, version: str) -> ConsoleName:
        """The build(s) that print ``version``."""
        found = self._by_print.get(version, {})
        name = next(iter(found)) if len(set(found.values())) == 1 else version
        return ConsoleName(name, tuple(found))

    def by_bytes(self, digest: str, wanted: str = "") -> str:
        """The build with this sha256, or ``sha256:...`` where it is no known build.

        Where several have it, and one is called ``wanted``, it is that one.
        """
        names = self._by_sha256.get(digest, [f"sha256:{digest}"])
        return wanted if wanted in names else names[0]
