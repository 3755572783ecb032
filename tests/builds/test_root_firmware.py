"""A firmware in a root of packages: found behind links and descriptors, and told as facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.catalogue import FirmwareEntry, SigningEntry
from bootmatrix.builds.root_firmware import DESCRIPTORS, build, describe
from bootmatrix.errors import ImageError
from bootmatrix.firmware.identity import sha256
from bootmatrix.model import Arch, Interface

PACKAGES = {"seabios": "1.14.0-2~bpo+1", "ovmf": "2022.11-6+deb12u2"}
BIOS = b"SeaBIOS (version 1.14.0-2)\0".ljust(4096, b"\0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    share = tmp_path / "usr/share"
    (share / "seabios").mkdir(parents=True)
    (share / "OVMF").mkdir()
    (tmp_path / DESCRIPTORS).mkdir(parents=True)
    (share / "seabios/bios-256k.bin").write_bytes(BIOS)
    (share / "OVMF/CODE.fd").write_bytes(b"code" * 1024)
    (share / "OVMF/VARS.fd").write_bytes(b"vars")
    (share / "link.bin").symlink_to("/usr/share/seabios/bios-256k.bin")
    return tmp_path


def entry(**fields: Any) -> FirmwareEntry:
    return FirmwareEntry.model_validate({"package": "seabios"} | fields)


def descriptor(root: Path, code: str = "/usr/share/OVMF/CODE.fd") -> FirmwareEntry:
    """An entry of one, which is written into the root."""
    (root / DESCRIPTORS / "50-x.json").write_text(json.dumps({
        "interface-types": ["uefi"], "features": ["requires-smm"],
        "mapping": {"device": "flash", "executable": {"filename": code, "format": "raw"},
                    "nvram-template": {"filename": "/usr/share/OVMF/VARS.fd", "format": "raw"}},
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}]}))
    return entry(package=["edk2", "ovmf"], descriptor="50-x.json")


def test_a_file_is_told_with_its_package_s_version_as_name(root: Path) -> None:
    facts = describe("seabios", entry(file="usr/share/seabios/bios-256k.bin"), root, PACKAGES,
                     Arch.X86_64)
    assert json.dumps(facts)
    assert facts["name"] == "seabios-1.14.0-2-bpo+1", "no ~ in a name"
    assert (facts["sha256"], facts["size"]) == (sha256(BIOS), 4096)
    assert facts["interface"] == "bios"
    made = build(facts, root)
    assert made.path == root / "usr/share/seabios/bios-256k.bin"
    assert made.path.read_bytes() == BIOS
    assert made.catalogued
    assert (made.variables, made.payload, made.signing) == (None, None, None)


def test_the_first_of_several_files_that_is_there(root: Path) -> None:
    two = entry(file=["usr/share/none.bin", "usr/share/link.bin"])
    assert describe("s", two, root, PACKAGES, Arch.X86_64)["file"] == (
        "usr/share/seabios/bios-256k.bin")


def test_a_link_is_followed_inside_the_root(root: Path) -> None:
    (root / "usr/share/out.bin").symlink_to("/etc/passwd")
    with pytest.raises(ImageError, match=r"^seabios brings no usr/share/out\.bin"):
        describe("s", entry(file="usr/share/out.bin"), root, PACKAGES, Arch.X86_64)


def test_a_descriptor_says_the_rest(root: Path) -> None:
    facts = describe("ovmf", descriptor(root), root, PACKAGES, Arch.X86_64)
    made = build(facts, root, SigningEntry(key="k", certificate="c", passphrase="p"))
    assert made.interface is Interface.UEFI
    assert made.variables == root / "usr/share/OVMF/VARS.fd"
    assert (made.machines, made.features) == (("pc-q35-*",), ("requires-smm",))
    assert made.name == "ovmf-2022.11-6+deb12u2"
    assert made.signing is not None
    assert (made.signing.key, made.signing.passphrase) == (root / "k", "p")


def test_what_a_descriptor_names_and_the_package_lacks(root: Path) -> None:
    with pytest.raises(ImageError, match=r"^ovmf brings no usr/share/OVMF/SECURE\.fd"):
        describe("o", descriptor(root, "/usr/share/OVMF/SECURE.fd"), root, PACKAGES, Arch.X86_64)


def test_a_descriptor_that_is_none(root: Path) -> None:
    wanted = descriptor(root)
    (root / DESCRIPTORS / "50-x.json").write_bytes(b"\xff{")
    with pytest.raises(ImageError, match=r"^ovmf's usr/share/qemu/firmware/50-x\.json: "):
        describe("o", wanted, root, PACKAGES, Arch.X86_64)
