"""SeaBIOS' banner and image; identity's tests have the rest."""

from __future__ import annotations

import pytest

from bootmatrix.firmware import seabios


def test_the_version_in_its_image_is_what_it_prints() -> None:
    image = b"SeaBIOS (version %s)\x00" + b"\x90rel-1.16.3-0-ga6ed6b7\x00"
    assert seabios.is_one(image)
    assert seabios.printed_version(image) == "rel-1.16.3-0-ga6ed6b7"
    assert seabios.printed_version(image + b"\x001.17.0-1\x00") is None
    assert not seabios.is_one(b"SeaBIOS")


@pytest.mark.parametrize("version", [
    "1.14.0-2", "v1.17.0", "1.16.3-planted", "good-0-g04d426843707", "r-1.0-12-g349e04202d41",
    "team/rc1-3-gabcdef1", "0.0.0-g7dfc653e7357",
])
def test_of_whatever_tag_it_was_built(version: str) -> None:
    image = b"SeaBIOS (version %s)\x00\x00" + version.encode() + b"\x00words-go on\x00"
    assert seabios.printed_version(image) == version


def test_no_other_word_is_a_version() -> None:
    image = b"SeaBIOS (version %s)\x00\x00good\x00e-good\x00x-gabc\x00 1.2.3\x00"
    assert seabios.printed_version(image) is None
    assert seabios.printed_version(b"\x00" + b"a-g" * 100_000) is None

