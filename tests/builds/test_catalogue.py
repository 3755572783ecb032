"""The catalogue's file: mistakes with their place."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.builds import image_store
from bootmatrix.builds.image_store import CATALOGUE, ImageStore
from bootmatrix.errors import UserError
from bootmatrix.roots import debian
from helpers.catalogues import SMALL


@pytest.mark.parametrize(("old", "new", "place", "message"), [
    ("suite: bookworm", "suite: 12", "5:12", "qemu.small.suite: found 12"),
    ("suite: bookworm", "suit: bookworm", "5:5", "qemu.small.suit: no such field"),
    ("    suite: bookworm\n", "", "4:3", "qemu.small.suite: is missing"),
    ("[seabios]", "[ovmf]", "7:16", "no such firmware: 'ovmf' (accepted: seabios)"),
    ("[qemu-system-x86, seabios]", "[qemu-system-x86]", "7:16", "'seabios' is not in packages"),
    ("packages: [qemu-system-x86", "packages: [--hook", "6:16", "packages.0: found '--hook'"),
    ("usr/share", "../share", "2:37", "firmware.seabios.file: found '../share"),
    ("bios-256k.bin}", "b.bin, interface: acpi}", "2:73", "found 'acpi'"),
    (", file: usr/share/seabios/bios-256k.bin", "", "2:12", "just one of file and descriptor"),
    ("bios-256k.bin}", "b.bin, descriptor: a.json}", "2:12", "just one of file and descriptor"),
    ("file: usr/share/seabios/bios-256k.bin", "descriptor: ../a.json", "2:43",
     "firmware.seabios.descriptor: found '../a.json'; it must be the name of a descriptor's"),
    ("file: usr/share/seabios/bios-256k.bin", "descriptor: a.json, variables: b", "2:51",
     "firmware.seabios.variables: is what the descriptor says"),
    ("suite: bookworm", "suite: bookworm\n    architecture: mips", "6:19", "found 'mips'"),
    ("small:", "Small one:", "4:3", "is no name for a build"),
    ("firmware: [seabios]", "suite: sid", "7:5", "suite: stands here twice"),
    ("qemu:", "qemu: [", "", "is not YAML"),
])
def test_mistakes_in_a_catalogue(
    catalogue: Callable[[str], Path], old: str, new: str, place: str, message: str
) -> None:
    text = textwrap.dedent(SMALL).lstrip("\n")
    assert old in text
    file = catalogue(text.replace(old, new, 1))
    with pytest.raises(UserError) as mistake:
        ImageStore(file)
    assert str(mistake.value).startswith(f"{file}:{place}")
    assert message in str(mistake.value)
    assert "\n" not in str(mistake.value)


def test_a_catalogue_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"catalogue\.yaml: cannot be read: No such file"):
        ImageStore(tmp_path / "catalogue.yaml")


def test_the_catalogue_names_no_server() -> None:
    text = CATALOGUE.read_text() + Path(image_store.__file__).read_text()
    text += Path(debian.__file__).read_text()
    assert "://" not in text
