"""Can these files be a firmware: by a jump at the reset vector, by volumes, by sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import UserError
from bootmatrix.firmware import image_file
from bootmatrix.guests.qcow2 import image as qcow2
from bootmatrix.model import Arch, FirmwareSource, Interface
from helpers.volumes import STORE, combined, volume

RESET = bytes.fromhex("ea5be000f0") + bytes(11)


@pytest.mark.parametrize("code", [
    RESET,
    b"\x90\x90\xe9\x00\x00" + bytes(11),        # OVMF
    b"\xfa\xfc\x0f\x09\xeb\xf0" + bytes(10),
    b"\x66\xea" + bytes(14),
    bytes.fromhex("0f20c0a8017405e90cffffffe9f1fe90"),  # OVMF of today
])
def test_a_jump_at_the_reset_vector_makes_a_firmware(tmp_path: Path, code: bytes) -> None:
    file = tmp_path / "bios.bin"
    file.write_bytes(bytes(4096 - 16) + code)
    assert image_file.read(file) == file.read_bytes()


@pytest.mark.parametrize("code", [bytes(16), b"\xff" * 16, b"\x90" * 16, b"some other text!",
                                  bytes(11) + RESET[:5]])
def test_no_jump_no_firmware(tmp_path: Path, code: bytes) -> None:
    file = tmp_path / "bios.bin"
    file.write_bytes(RESET * 255 + code)
    with pytest.raises(UserError, match="no jump at the reset vector"):
        image_file.read(file)


def test_the_interface_shows_in_the_volumes() -> None:
    assert image_file.interface(combined()) is Interface.UEFI
    assert image_file.interface(bytes(4096) + volume(size=4096)) is Interface.UEFI  # AAVMF
    assert image_file.interface(bytes(40) + b"_FVH" + bytes(100)) is Interface.BIOS
    assert image_file.interface(volume(size=4096, system=STORE)) is Interface.BIOS
    assert image_file.interface(bytes(144)) is Interface.BIOS


def test_a_file_that_can_be_mapped_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "bios.bin"
    for arch, size in ((Arch.X86_64, 16 << 20), (Arch.AARCH64, 64 << 20)):
        with file.open("wb") as sparse:
            sparse.truncate(size + 4096)
        with pytest.raises(UserError, match=f"at most {size} are read"):
            image_file.read(file, arch)


WHOLE = combined(b"driver")
STORE_SIZE = 0x20000
DESCRIPTOR: dict[str, Any] = {
    "interface-types": ["uefi"], "features": ["acpi-s3"],
    "mapping": {"device": "flash",
                "executable": {"filename": "CODE.fd", "format": "raw"},
                "nvram-template": {"filename": "VARS.fd", "format": "raw"}},
    "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
}


@pytest.fixture
def uefi(tmp_path: Path) -> Path:
    """A directory with firmware, made up but for its bytes that count."""
    (tmp_path / "OVMF.fd").write_bytes(WHOLE)
    (tmp_path / "CODE.fd").write_bytes(WHOLE[STORE_SIZE:])
    (tmp_path / "VARS.fd").write_bytes(WHOLE[:STORE_SIZE])
    (tmp_path / "half.fd").write_bytes(WHOLE[:STORE_SIZE // 2])
    (tmp_path / "bios.bin").write_bytes(bytes(65536 - 16) + RESET)
    (tmp_path / "odd.fd").write_bytes(WHOLE[:1000])
    (tmp_path / "blank.fd").write_bytes(bytes(STORE_SIZE))
    (tmp_path / "arm.fd").write_bytes(bytes(4096) + volume(size=1 << 20))
    (tmp_path / "fw_jump.bin").write_bytes(b"x" * 1001)
    (tmp_path / "good.json").write_text(json.dumps(DESCRIPTOR))
    return tmp_path


def test_what_uefi_firmware_can_be(uefi: Path) -> None:
    code, variables = uefi / "CODE.fd", uefi / "VARS.fd"
    split = image_file.load(FirmwareSource(code, variables=variables))
    assert (split.image, split.variables) == (WHOLE[STORE_SIZE:], WHOLE[:STORE_SIZE])
    assert split.store_size == 0
    whole = image_file.load(FirmwareSource(uefi / "OVMF.fd"))
    assert (whole.image, whole.variables, whole.store_size) == (WHOLE, None, STORE_SIZE)
    blank = image_file.load(FirmwareSource(code, variables=uefi / "blank.fd"))
    assert blank.variables == bytes(STORE_SIZE)
    described = image_file.load(FirmwareSource(uefi / "good.json", descriptor=True))
    assert described == replace(split, machines=("pc-q35-*",), features=("acpi-s3",))
    arm = image_file.load(
        FirmwareSource(uefi / "arm.fd", variables=variables), Arch.AARCH64)
    assert arm.interface is Interface.UEFI
    riscv = image_file.load(FirmwareSource(uefi / "fw_jump.bin"), Arch.RISCV64)
    assert riscv.image == b"x" * 1001


def bad(**changes: Any) -> str:
    return json.dumps(DESCRIPTOR | changes)


@pytest.mark.parametrize(("path", "variables", "told"), [
    ("CODE.fd", None, "CODE.fd is code alone, without a variable store ({path: CODE.fd, variables: "
     "VARS.fd}, or, for -bios and no store, {path: CODE.fd, flash: false})"),
    ("CODE.fd", "CODE.fd", "CODE.fd is no template of a variable store: it neither begins with "),
    ("CODE.fd", "half.fd", "half.fd is cut off: it has 65536 bytes, and its variable store 131072"),
    ("CODE.fd", "bios.bin", "bios.bin is no template of a variable store"),
    ("CODE.fd", "odd.fd", "odd.fd has 1000 bytes (a firmware image has a multiple of 4096)"),
    ("CODE.fd", "no.fd", "no.fd is not there (the template of a variable store)"),
    ("no.fd", "VARS.fd", "no.fd is not there (the file of a firmware image)"),
    ("bios.bin", "VARS.fd", "bios.bin is no UEFI firmware (it has no variables)"),
    ("VARS.fd", None, "VARS.fd is no firmware: it has no jump at the reset vector"),
    ("arm.fd", "VARS.fd", "arm.fd is no firmware: it has no jump at the reset vector"),
])
def test_what_uefi_firmware_cannot_be(
    uefi: Path, path: str, variables: str | None, told: str
) -> None:
    with pytest.raises(UserError) as error:
        image_file.load(FirmwareSource(
            uefi / path, variables=uefi / variables if variables else None))
    assert str(error.value).startswith(f"{uefi}/{told}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "told"), [
    (b"{", "bad.json: is not JSON: Expecting property name"),
    (b"\xff", "bad.json is no text (a firmware descriptor, in JSON)"),
    (b"", "bad.json is empty (a firmware descriptor)"),
    (bad(mapping={"device": "kernel"}), "bad.json: mapping.device: found 'kernel' (what is run:"),
    (bad(mapping={"device": "memory", "filename": "no.bin"}),
     "no.bin is not there (the file of a firmware image), says "),
    (bad(targets=[{"architecture": "aarch64", "machines": []}]),
     "bad.json: is for aarch64, not for x86_64"),
    (bad(features=None), "bad.json: features: must be a list"),
])
def test_descriptors_that_are_wrong(uefi: Path, text: str | bytes, told: str) -> None:
    file = uefi / "bad.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        image_file.load(FirmwareSource(file, descriptor=True))
    assert str(error.value).startswith(f"{uefi}/{told}")
    assert "\n" not in str(error.value)


def test_a_riscv_or_bios_image_is_no_aarch64_firmware(uefi: Path) -> None:
    with pytest.raises(UserError, match="is no firmware: it holds no UEFI firmware volume"):
        image_file.load(FirmwareSource(uefi / "bios.bin"), Arch.AARCH64)


# ---- in qcow2, and by -bios ---------------------------------------------------------------------


@pytest.fixture
def packed(uefi: Path) -> Path:
    """The same files in QEMU's format, as distributions ship them."""
    for name in ("CODE", "VARS", "OVMF", "odd"):
        (uefi / f"{name}.qcow2").write_bytes(qcow2((uefi / f"{name}.fd").read_bytes()))
    return uefi


def described(file: Path, executable: str, variables: str) -> FirmwareSource:
    """A descriptor of files whose names say what they are, with what it says that they are."""
    mapping = {"device": "flash",
               "executable": {"filename": "CODE.qcow2", "format": executable},
               "nvram-template": {"filename": "VARS.fd", "format": variables}}
    file.write_text(json.dumps(DESCRIPTOR | {"mapping": mapping}))
    return FirmwareSource(file, descriptor=True)


def test_flash_files_in_qcow2_are_what_is_in_them(packed: Path) -> None:
    raw = image_file.load(FirmwareSource(packed / "CODE.fd", variables=packed / "VARS.fd"))
    code = packed / "CODE.qcow2"
    for variables in ("VARS.fd", "VARS.qcow2"):
        split = image_file.load(FirmwareSource(code, variables=packed / variables))
        assert split == replace(raw, file=code)
    whole = image_file.load(FirmwareSource(packed / "OVMF.qcow2"))
    assert (whole.image, whole.store_size) == (WHOLE, STORE_SIZE)
    said = image_file.load(
        described(packed / "good.json", "qcow2", "raw"))
    assert (said.image, said.variables) == (raw.image, raw.variables)


@pytest.mark.parametrize(("executable", "variables", "told"), [
    ("raw", "raw", "CODE.qcow2 is no raw image (format: qcow2), says "),
    ("qcow2", "qcow2", "VARS.fd is no qcow2 image (format: raw), says "),
])
def test_what_a_descriptor_says_of_a_format_must_be_so(
    packed: Path, executable: str, variables: str, told: str
) -> None:
    with pytest.raises(UserError) as error:
        image_file.load(described(
            packed / "bad.json", executable, variables))
    assert str(error.value).startswith(f"{packed}/{told}")


def test_what_is_in_a_qcow2_is_judged_like_any_file(packed: Path) -> None:
    for file, told in (("VARS.qcow2", "VARS.qcow2 is no firmware: it has no jump at the reset vec"),
                       ("odd.qcow2", "odd.qcow2 has 1024 bytes (a firmware image has a multiple")):
        with pytest.raises(UserError) as error:
            image_file.load(FirmwareSource(packed / file))
        assert str(error.value).startswith(f"{packed}/{told}")
    (packed / "CODE.qcow2").write_bytes((packed / "CODE.qcow2").read_bytes()[:70000])
    with pytest.raises(UserError, match=r"CODE\.qcow2 is cut off"):
        image_file.load(FirmwareSource(packed / "CODE.qcow2"))


def test_uefi_firmware_by_bios_needs_no_store(uefi: Path) -> None:
    for name, store in (("CODE.fd", 0), ("OVMF.fd", STORE_SIZE)):
        found = image_file.load(FirmwareSource(uefi / name, flash=False))
        assert (found.in_flash, found.variables, found.store_size) == (False, None, store)
    for mapping in ({"device": "memory", "filename": "CODE.fd"},
                    {"device": "flash", "mode": "stateless",
                     "executable": {"filename": "CODE.fd", "format": "raw"}}):
        (uefi / "good.json").write_text(json.dumps(DESCRIPTOR | {"mapping": mapping}))
        assert not image_file.load(FirmwareSource(uefi / "good.json", descriptor=True)).in_flash
