"""SeaBIOS' banner and image; identity's tests have the rest."""

from __future__ import annotations

from bootmatrix.firmware import seabios


def test_the_version_in_its_image_is_what_it_prints() -> None:
    image = b"SeaBIOS (version %s)\x00" + b"\x90rel-1.16.3-0-ga6ed6b7\x00"
    assert seabios.is_one(image)
    assert seabios.printed_version(image) == "rel-1.16.3-0-ga6ed6b7"
    assert seabios.printed_version(image + b"\x001.17.0-1\x00") is None
    assert not seabios.is_one(b"SeaBIOS")
