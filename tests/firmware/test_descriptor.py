"""Firmware descriptors: Debian's own, and ones that are not as QEMU's format has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.errors import UserError
from bootmatrix.firmware.descriptor import Descriptor, parse
from bootmatrix.model import Arch, Interface

FLASH: dict[str, Any] = {
    "description": "UEFI", "interface-types": ["uefi"], "features": ["requires-smm"], "tags": [],
    "mapping": {
        "device": "flash",
        "executable": {"filename": "/c.fd", "format": "raw"},
        "nvram-template": {"filename": "v.fd", "format": "raw"},
    },
    "targets": [{"architecture": "i386", "machines": ["pc-*"]},
                {"architecture": "x86_64", "machines": ["pc-q35-*"]},
                {"architecture": "x86_64", "machines": ["pc-i440fx-*"]}],
}


def changed(place: str, value: Any = None) -> str:
    """FLASH with the value at a place changed, or taken out."""
    tree = json.loads(json.dumps(FLASH))
    *above, key = place.split(".")
    node = tree
    for part in above:
        node = node[int(part) if part.isdigit() else part]
    if value is None:
        del node[key]
    else:
        node[key] = value
    return json.dumps(tree)


def test_what_a_descriptor_says() -> None:
    assert parse(json.dumps(FLASH), Arch.X86_64) == Descriptor(
        "/c.fd", "v.fd", Interface.UEFI, ("pc-q35-*", "pc-i440fx-*"), ("requires-smm",))
    both = parse(changed("interface-types", ["bios", "uefi"]), Arch.X86_64)
    assert both.interface is Interface.UEFI
    for mode in ("combined", "stateless"):
        whole = parse(changed("mapping.mode", mode), Arch.X86_64)
        assert (whole.variables, whole.in_flash) == (None, mode == "combined")
    assert parse(changed("mapping.mode", "split"), Arch.X86_64).variables == "v.fd"
    memory = changed("mapping", {"device": "memory", "filename": "/bios.bin"})
    given = parse(memory, Arch.X86_64)
    assert (given.executable, given.in_flash) == ("/bios.bin", False)


def test_the_files_of_a_flash_can_be_qcow2() -> None:
    both = json.loads(changed("mapping.executable.format", "qcow2"))
    both["mapping"]["nvram-template"]["format"] = "qcow2"
    for text, forms in ((changed("mapping.executable.format", "qcow2"), ("qcow2", "raw")),
                        (json.dumps(both), ("qcow2", "qcow2"))):
        said = parse(text, Arch.X86_64)
        assert (said.form, said.variables_form) == forms


@pytest.mark.parametrize(("text", "told"), [
    ("", "is not JSON: "),
    ("[" * 100_000, "is not JSON: "),
    ("[]", "the descriptor: must be an object"),
    ("{}", "mapping: is missing (QEMU's docs/interop/firmware.json)"),
    (changed("mapping", 1), "mapping: must be an object"),
    (changed("mapping.device"), "mapping.device: is missing"),
    (changed("mapping.device", "kernel"), "mapping.device: found 'kernel' (what is run: flash, m"),
    (changed("mapping.mode", "both"), "mapping.mode: found 'both' (split, stateless, combined)"),
    (changed("mapping.mode", ["split"]), "mapping.mode: found ['split']"),
    (changed("mapping.executable"), "mapping.executable: is missing"),
    (changed("mapping.executable.filename", 3), "mapping.executable.filename: must be a string"),
    (changed("mapping.executable.format", "vmdk"), "mapping.executable.format: found 'vmdk' (raw,"),
    (changed("mapping.nvram-template"), "mapping.nvram-template: is missing"),
    (changed("interface-types", ["openfirmware"]), "interface-types: found openfirmware (bios, ue"),
    (changed("features", "none"), "features: must be a list"),
    (changed("features", [1]), "features: must be a list of strings"),
    (changed("targets", []), "is for no architecture, not for x86_64"),
    (changed("targets", ["x86_64"]), "targets[0]: must be an object"),
    (changed("targets.0.machines"), "targets[0].machines: is missing"),
])
def test_what_is_no_descriptor(text: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text, Arch.X86_64)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


def test_for_another_architecture() -> None:
    with pytest.raises(UserError, match=r"^is for i386, x86_64, not for aarch64$"):
        parse(json.dumps(FLASH), Arch.AARCH64)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from([*FLASH, *FLASH["mapping"], "filename"]), inner), max_leaves=20)


@given(_JSON)
def test_any_json(tree: Any) -> None:
    """It is one or it is refused; nothing else happens."""
    try:
        assert parse(json.dumps(tree), Arch.X86_64).executable
    except UserError as error:
        assert str(error)  # noqa: PT017  # both are fine


@pytest.mark.parametrize("build", ["debian-bullseye", "debian-bookworm", "debian-trixie",
                                   "debian-sid"])
def test_debians_own(store: ImageStore, build: str) -> None:
    files: list[Path] = sorted(store.qemu(build).root.glob("usr/share/qemu/firmware/*.json"))
    assert len(files) >= 3
    for file in files:
        said = parse(file.read_text(), Arch.X86_64)
        assert said.interface is Interface.UEFI
        assert said.variables
        assert ("requires-smm" in said.features) == ("-secure" in file.name)
        assert "pc-q35-*" in said.machines
