"""Recognising firmware: escape sequences, banners, version strings in images, known builds."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.firmware.identity import (
    BANNER,
    BANNER_IN_BYTES,
    ConsoleName,
    EscapeFilter,
    KnownFirmware,
    banner_version,
    printed_version,
    sha256,
    version_in,
)
from bootmatrix.model import FirmwareBuild
from helpers.volumes import combined

# ---- escape sequences --------------------------------------------------------------------------

# What SeaBIOS's serial console sends before its banner, and what surrounds it.
CONSOLE = (
    b"\x1bc\x1b[?7l\x1b[2J\x1b[0m\x1b[1;1H\x1b[0;37;40mSeaBIOS (version 1.14.0-2)\r\n"
    b"\x1b[02;01H\x1b[1mBooting from Hard Disk...\x1b[0m\r\nBOOTMATRIX up boot=1\r\n"
)
TEXT = (
    b"SeaBIOS (version 1.14.0-2)\r\nBooting from Hard Disk...\r\nBOOTMATRIX up boot=1\r\n"
)

# Bytes that begin, continue, end and break sequences come far more often than by chance.
_TROUBLE = st.sampled_from(
    [b"\x1b", b"[", b"\x1b[", b"0", b";", b"?", b" ", b"/", b"m", b"H", b"c", b"x", b"\n", b"\xff",
     b"\x1bc", b"\x1b[2J", b"1" * 28, b"1" * 29, b"1" * 30, b"SeaBIOS"]
)  # fmt: skip
streams = st.lists(_TROUBLE | st.binary(max_size=3), max_size=20).map(b"".join)
cuts = st.lists(st.integers(0, 400), max_size=12)


def feed(stream: bytes, cuts: list[int]) -> bytes:
    """The stream through a filter, cut into pieces at those offsets."""
    ends = [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    filter_ = EscapeFilter()
    text, begin = b"", 0
    for end in ends:
        text += filter_.feed(stream[begin:end])
        begin = end
    return text


def test_a_consoles_text_is_left() -> None:
    assert EscapeFilter().feed(CONSOLE) == TEXT


def test_byte_by_byte() -> None:
    assert feed(CONSOLE, list(range(len(CONSOLE)))) == TEXT


@given(streams, cuts)
def test_splitting_the_stream_never_changes_the_result(stream: bytes, cuts: list[int]) -> None:
    assert feed(stream, cuts) == EscapeFilter().feed(stream)


@given(streams)
def test_byte_by_byte_is_the_same_as_at_once(stream: bytes) -> None:
    assert feed(stream, list(range(len(stream)))) == EscapeFilter().feed(stream)


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_text_without_escapes_comes_out_at_once_and_unchanged(pieces: list[bytes]) -> None:
    filter_ = EscapeFilter()
    for piece in pieces:
        text = piece.replace(b"\x1b", b"")
        assert filter_.feed(text) == text


@pytest.mark.parametrize(
    "text",
    [
        b"\x1b\x1b\x1b.",
        b"\x1bx\r\n",  # no sequence: a small letter other than c
        b"\x1b[1;2\r\n",  # broken off by a line end
        b"\x1b[1 2m",  # a parameter after an intermediate byte
        b"\x1b[" + b"1" * 200 + b"m",  # longer than any sequence
    ],
)
def test_an_esc_that_never_becomes_a_sequence_is_not_lost(text: bytes) -> None:
    assert EscapeFilter().feed(text) == text
    assert feed(text, list(range(len(text)))) == text


def test_a_sequence_that_never_ends_does_not_hold_the_text_back() -> None:
    filter_ = EscapeFilter()
    assert filter_.feed(b"\x1b[" + b"1" * 20) == b""
    assert filter_.feed(b"1" * 20) == b"\x1b[" + b"1" * 40
    assert filter_.feed(b"and on") == b"and on"


def test_the_longest_sequence() -> None:
    for count, is_sequence in [(29, True), (30, False)]:
        stream = b"\x1b[" + b"1" * count + b"m"
        assert (EscapeFilter().feed(stream) == b"") == is_sequence
        assert (feed(stream, [len(stream) - 1]) == b"") == is_sequence


def test_only_the_beginning_of_a_sequence_is_held_back() -> None:
    filter_ = EscapeFilter()
    assert filter_.feed(b"SeaBIOS\x1b[0;3") == b"SeaBIOS"
    assert filter_.feed(b"7m (version") == b" (version"


# ---- banners and images ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("SeaBIOS (version 1.14.0-2)\r\n", "1.14.0-2"),
        ("\r\n\r\nSeaBIOS (version rel-1.16.3-0-ga6ed6b701f0a-prebuilt.qemu.org)\r\nBooting",
         "rel-1.16.3-0-ga6ed6b701f0a-prebuilt.qemu.org"),
        ("SeaBIOS (version 1.16.2-debian-1.16.2-1)", "1.16.2-debian-1.16.2-1"),
        ("SeaBIOS (version 1.14.0-2)\nSeaBIOS (version 1.17.0)", "1.14.0-2"),
        ("SeaBIOS (version 1.14", None),
        ("SeaBIOS (version 1.14\r\n.0)", None),
        ("SeaBIOS (version )", None),
        ("iPXE (http://ipxe.org)", None),
        ("SeaBIOS (version 6.6SeaBIOS (version 1.17.0)\r\n", "1.17.0"),
        ("\r\nOpenSBI v1.1\r\n   ____", "1.1"),
        ("OpenSBI v1.1", None),           # it may go on
        ("OpenSBI v1.1-5-gabc\n", None),
        ("OpenSBI (version 1.1)", None),
        ("", None),
    ],
)  # fmt: skip
def test_banner_version(text: str, version: str | None) -> None:
    assert banner_version(text) == version


_PARTS = st.lists(st.sampled_from([
    "SeaBIOS (version 1.14.0-2)", "SeaBIOS (version ", "U-Boot 2025.01", " (Jan 1", "OpenSBI v1.1",
    "! ", "WARNING: Unknown MBR layout version, assuming version 1", " !", "\r\n", "coreboot-4.22",
    " Mon starting", "FW Version = a", "x"]), max_size=8)


@given(_PARTS, st.integers(0, 20))
def test_the_banner_that_is_found_is_that_of_one_pattern_for_all(
    parts: list[str], start: int
) -> None:
    text = "".join(parts)
    expected = re.compile(BANNER, re.DOTALL).search(text, start)
    found = BANNER_IN_BYTES.search(text.encode(), start)
    assert (found and (found.span(), version_in(found).decode())) == (
        expected and (expected.span(), version_in(expected)))


FORMAT = b"\0SeaBIOS (version %s)\0"


@pytest.mark.parametrize(
    ("image", "version"),
    [
        (FORMAT + b"\0001.14.0-2\0", "1.14.0-2"),
        (b"\x901.14.0-2\0" + FORMAT, "1.14.0-2"),
        (FORMAT + b"rel-1.16.3-0-ga6ed6b701f0a-prebuilt.qemu.org\0",
         "rel-1.16.3-0-ga6ed6b701f0a-prebuilt.qemu.org"),
        (FORMAT + b"1.13.0-1ubuntu1.1\0", "1.13.0-1ubuntu1.1"),
        (FORMAT + b"\x001.14.0-2\0\xff\0001.14.0-2\0", "1.14.0-2"),  # twice the same
        # cannot be told: no banner, no version, or more than one
        (b"\x001.14.0-2\0", None),
        (FORMAT + b"code", None),
        (FORMAT + b"\x00version 1.14.0-2\0", None),  # part of another string
        (FORMAT + b"\x001.14.0-2\0\xff\x001.17.0-1\0", None),
        (FORMAT + b"\x001.14.0-2\x001.17.0-1\0", None),  # one right behind the other
        (b"", None),
    ],
)  # fmt: skip
def test_printed_version(image: bytes, version: str | None) -> None:
    assert printed_version(image) == version


def wide(*texts: str) -> bytes:
    """Arrays of UTF-16, each at a multiple of 4."""
    arrays = (f"{text}\0".encode("utf-16-le") for text in texts)
    return b"".join(array + bytes(-len(array) % 4) for array in arrays)


WIDE = wide("unknown", "02/02/2022", "11/08/2025")


@pytest.mark.parametrize(
    ("driver", "version"),
    [
        (b"EFI Development Kit II / OVMF\x000.0.0\x0002/06/2015\0", "0.0.0"),
        (WIDE + wide("edk2-20240813-1", "A vendor"), "edk2-20240813-1"),
        (b"\0\0\x40\0" + wide("2025.02-8"), "2025.02-8"),  # what pads the code before it
        (WIDE, "unknown"),
        (WIDE + wide("1.2", "1.3"), None),  # which?
        (b"x" + wide("2025.02-8"), None),  # no UTF-16 lies so
        (b"", None),
    ],
)  # fmt: skip
def test_the_version_of_uefi_firmware(driver: bytes, version: str | None) -> None:
    assert printed_version(combined(driver)) == version


@pytest.mark.parametrize(("build", "prints"), [
    ("debian-bookworm-aarch64", "0.0.0"), ("debian-bookworm-riscv64", "1.1"),
])
@pytest.mark.slow
def test_firmware_of_other_architectures(build: str, prints: str) -> None:
    store = ImageStore()
    store.build([build], print)
    for kind in {"debian-bookworm-aarch64": ("aavmf", "aavmf-ms")}.get(build, ("opensbi",)):
        assert store.beside(build, kind).prints == prints


@pytest.fixture(scope="module")
def firmwares(store: ImageStore) -> tuple[FirmwareBuild, ...]:
    """The firmware builds of the images that the suite has built."""
    builds = store.firmwares()
    assert len(builds) >= 4
    return builds


@pytest.mark.thorough
def test_real_images_print_what_their_package_is_called(
    firmwares: tuple[FirmwareBuild, ...],
) -> None:
    versions: dict[bytes, str | None] = {}  # UEFI images are unpacked for it, and many are the same
    for build in firmwares:
        image = build.path.read_bytes()
        assert (sha256(build.code_of(image)), len(image)) == (build.sha256, build.size)
        if image not in versions:
            versions[image] = printed_version(image)
        version = versions[image]
        assert version is not None
        assert version == build.prints
        if build.name.startswith("s390-ccw-"):
            assert banner_version(f"\r\n{version}\r\n") == version
        elif build.name.startswith(("slof-", "openbios-")):
            # Their package is QEMU's, which says nothing of their versions.
            assert re.fullmatch(r"release \d{8}|[A-Z][a-z]{2} \d{1,2} \d{4} \d\d:\d\d", version)
        elif build.name.startswith("seabios-"):
            # "seabios-1.16.2-1" prints "1.16.2-debian-1.16.2-1", before bookworm "1.14.0-2"
            assert version.endswith(re.sub(r"^seabios-(microvm-|128k-)?", "", build.name))
            assert banner_version(f"\r\nSeaBIOS (version {version})\r\n") == version
        elif build.name.startswith("opensbi-"):
            assert build.name.startswith(f"opensbi-{version}-")
        else:
            # Before 2023 edk2 had no text for it in its SMBIOS table.
            shipped = "-".join(build.name.rsplit("-", 2)[-2:])
            assert version == ("0.0.0" if shipped < "2023" else shipped)


def test_real_images_are_all_told_apart(firmwares: tuple[FirmwareBuild, ...]) -> None:
    """But for those that are the same bytes: they differ in their variables alone."""
    known = KnownFirmware(firmwares)
    for build in firmwares:
        assert build.prints is not None
        assert known.by_bytes(build.sha256, build.name) == build.name
        assert build.name in known.by_print(build.prints).candidates
    alone = [build for build in firmwares if build.name.startswith("seabios-1.")]
    assert len(alone) == 4
    for build in alone:
        assert KnownFirmware(alone).by_print(build.prints or "") == ConsoleName(
            build.name, (build.name,))


def test_a_flipped_bit_makes_a_real_image_unknown(firmwares: tuple[FirmwareBuild, ...]) -> None:
    known = KnownFirmware(firmwares)
    image = bytearray(firmwares[0].path.read_bytes())
    image[len(image) // 2] ^= 1
    digest = sha256(bytes(image))
    assert known.by_bytes(digest) == f"sha256:{digest}"


# ---- known builds ------------------------------------------------------------------------------


def build(name: str, image: bytes, prints: str | None) -> FirmwareBuild:
    return FirmwareBuild(name, sha256(image), len(image), Path(name), prints=prints)


A, B = build("a", b"A", "1.0.0"), build("b", b"B", "2.0.0")
TWIN = build("twin", b"twin", "1.0.0")
MUTE = build("mute", b"mute", None)


def test_by_print() -> None:
    known = KnownFirmware([A, B, TWIN, MUTE])
    assert known.by_print("2.0.0") == ConsoleName("b", ("b",))
    # Two builds print it: the text names neither, both are candidates.
    assert known.by_print("1.0.0") == ConsoleName("1.0.0", ("a", "twin"))
    assert known.by_print("3.0.0") == ConsoleName("3.0.0", ())
    assert known.by_print("") == ConsoleName("", ())


def test_by_bytes() -> None:
    known = KnownFirmware([A, B, TWIN, MUTE])
    assert [known.by_bytes(each.sha256) for each in (A, B, TWIN, MUTE)] == [
        "a", "b", "twin", "mute",
    ]  # fmt: skip
    assert known.by_bytes("0" * 64) == "sha256:" + "0" * 64


def test_the_same_bytes_under_two_names_are_one_firmware() -> None:
    known = KnownFirmware([A, replace(A, name="again"), A])
    assert known.by_bytes(A.sha256) == "a"
    assert known.by_bytes(A.sha256, "again") == "again"
    assert known.by_bytes(A.sha256, "b") == "a"
    assert known.by_bytes("0" * 64, "a") == "sha256:" + "0" * 64
    assert known.by_print("1.0.0") == ConsoleName("a", ("a", "again"))


def test_builds_may_come_from_an_iterator() -> None:
    assert KnownFirmware(iter([A, B])).by_bytes(B.sha256) == "b"
    assert KnownFirmware([]).by_print("1.0.0") == ConsoleName("1.0.0", ())


def test_sha256_is_lower_case_hex() -> None:
    # FIPS 180-4, the example "abc"
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("version", [b"1.1." + b"1" * (4 << 20), b"\x90" * (4 << 20),
                                     b"\x901.1.1" * (1 << 19)], ids=["long", "none", "many"])
def test_a_hostile_image_is_read_once(version: bytes) -> None:
    """What is read again from each place in it does not end this side of next week."""
    assert printed_version(b"SeaBIOS (version %s)\0\0" + version) is None
