"""What the command line says of builds, and whether files can be what they are taken for."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from volumes import STORE, combined, volume

from harness import debian, elf, firmware_file
from harness.cache import KEPT, Cache
from harness.errors import ImageError, UserError
from harness.model import Arch, FirmwareSource, HostSpec, Interface, QemuSource
from harness.sources import expand, parse

RESET = bytes.fromhex("ea5be000f0") + bytes(11)


# ---- the command line -----------------------------------------------------------------------


def test_definitions() -> None:
    given = parse(["head=../build", "img=image:qemu:9", "deb=suite:trixie=1:10.0+ds-1",
                   "plain=suite:sid"], ["test=out/bios.bin"], ["head/test", "head"])
    assert given.qemu == {
        "head": QemuSource(path=Path("../build"), name="head"),
        "img": QemuSource(image="qemu:9", name="img"),
        "deb": QemuSource(suite="trixie", package_version="1:10.0+ds-1", name="deb"),
        "plain": QemuSource(suite="sid", name="plain"),
    }
    assert given.firmware == {"test": FirmwareSource(Path("out/bios.bin"), name="test")}
    assert given.hosts == ("head/test", "head")


def test_hosts_of_the_command_line() -> None:
    given = parse(["head=../build"], ["test=bios.bin"], [])
    head, test = given.qemu["head"], given.firmware["test"]
    assert given.host("head/test") == (HostSpec("head+test", head, test),)
    assert given.host("debian-sid/test") == (HostSpec("debian-sid+test", "debian-sid", test),)
    assert given.host("head/seabios-1") == (HostSpec("head+seabios-1", head, "seabios-1"),)
    assert given.host("head") == (HostSpec("head", head),)


@pytest.mark.parametrize(("arguments", "told"), [
    ((["head"], [], []), "--qemu head: no definition (NAME=PATH"),
    ((["=x"], [], []), "no definition"),
    ((["head="], [], []), "no definition"),
    ((["a b=x"], [], []), "no definition"),
    (([], ["a-to-b=x"], []), "--firmware a-to-b=x: no definition"),
    ((["a=x", "a=y"], [], []), "a is defined twice"),
])
def test_bad_definitions(arguments: tuple[list[str], list[str], list[str]], told: str) -> None:
    with pytest.raises(UserError) as error:
        parse(*arguments)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "/", "a/", "/b", "a/b/c", "a b", "a/../b"])
def test_bad_hosts(text: str) -> None:
    with pytest.raises(UserError, match="is not a name"):
        parse([], [], []).host(text)


def test_a_directory_of_firmware_is_a_host_for_each_image(tmp_path: Path) -> None:
    for name in ("b.bin", "a b.rom", "C.FD", "readme.txt", "bios.bin.elf"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "d.bin").mkdir()
    hosts = expand(HostSpec("h", "debian-sid", FirmwareSource(tmp_path, directory=True)))
    assert [host.name for host in hosts] == ["h-C", "h-a-b", "h-b"]
    assert hosts[2] == HostSpec("h-b", "debian-sid", FirmwareSource(tmp_path / "b.bin"))
    assert {host.qemu for host in hosts} == {"debian-sid"}
    alone = HostSpec("h", "debian-sid", FirmwareSource(tmp_path / "b.bin"))
    assert expand(alone) == (alone,)


def test_images_that_would_make_the_same_host(tmp_path: Path) -> None:
    for name in ("b.bin", "b.rom"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="there is one already"):
        expand(HostSpec("h", "debian-sid", FirmwareSource(tmp_path, directory=True)))


# ---- firmware images ------------------------------------------------------------------------


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
    assert firmware_file.read(file) == file.read_bytes()


@pytest.mark.parametrize("code", [bytes(16), b"\xff" * 16, b"\x90" * 16, b"some other text!",
                                  bytes(11) + RESET[:5]])
def test_no_jump_no_firmware(tmp_path: Path, code: bytes) -> None:
    file = tmp_path / "bios.bin"
    file.write_bytes(RESET * 255 + code)
    with pytest.raises(UserError, match="no jump at the reset vector"):
        firmware_file.read(file)


def test_the_interface_shows_in_the_volumes() -> None:
    assert firmware_file.interface(combined()) is Interface.UEFI
    assert firmware_file.interface(bytes(4096) + volume(size=4096)) is Interface.UEFI  # AAVMF
    assert firmware_file.interface(bytes(40) + b"_FVH" + bytes(100)) is Interface.BIOS
    assert firmware_file.interface(volume(size=4096, system=STORE)) is Interface.BIOS
    assert firmware_file.interface(bytes(144)) is Interface.BIOS


def test_a_file_that_can_be_mapped_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "bios.bin"
    for arch, size in ((Arch.X86_64, 16 << 20), (Arch.AARCH64, 64 << 20)):
        with file.open("wb") as sparse:
            sparse.truncate(size + 4096)
        with pytest.raises(UserError, match=f"at most {size} are mapped"):
            firmware_file.read(file, arch)


# ---- UEFI firmware --------------------------------------------------------------------------

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
    (tmp_path / "bios.bin").write_bytes(bytes(65536 - 16) + RESET)
    (tmp_path / "odd.fd").write_bytes(WHOLE[:1000])
    (tmp_path / "blank.fd").write_bytes(bytes(STORE_SIZE))
    (tmp_path / "arm.fd").write_bytes(bytes(4096) + volume(size=1 << 20))
    (tmp_path / "fw_jump.bin").write_bytes(b"x" * 1001)
    (tmp_path / "good.json").write_text(json.dumps(DESCRIPTOR))
    return tmp_path


def test_what_uefi_firmware_can_be(uefi: Path) -> None:
    code, variables = uefi / "CODE.fd", uefi / "VARS.fd"
    split = firmware_file.load(FirmwareSource(code, variables=variables))
    assert (split.image, split.variables) == (WHOLE[STORE_SIZE:], WHOLE[:STORE_SIZE])
    assert split.store_size == 0
    whole = firmware_file.load(FirmwareSource(uefi / "OVMF.fd"))
    assert (whole.image, whole.variables, whole.store_size) == (WHOLE, None, STORE_SIZE)
    blank = firmware_file.load(FirmwareSource(code, variables=uefi / "blank.fd"))
    assert blank.variables == bytes(STORE_SIZE)
    described = firmware_file.load(FirmwareSource(uefi / "good.json", descriptor=True))
    assert described == replace(split, machines=("pc-q35-*",), features=("acpi-s3",))
    arm = firmware_file.load(
        FirmwareSource(uefi / "arm.fd", variables=variables), Arch.AARCH64)
    assert arm.interface is Interface.UEFI
    riscv = firmware_file.load(FirmwareSource(uefi / "fw_jump.bin"), Arch.RISCV64)
    assert riscv.image == b"x" * 1001


def bad(**changes: Any) -> str:
    return json.dumps(DESCRIPTOR | changes)


@pytest.mark.parametrize(("path", "variables", "told"), [
    ("CODE.fd", None, "CODE.fd is code alone, without a variable store ({path: CODE.fd, varia"),
    ("CODE.fd", "CODE.fd", "CODE.fd is no template of a variable store: it neither begins with "),
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
        firmware_file.load(FirmwareSource(
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
        firmware_file.load(FirmwareSource(file, descriptor=True))
    assert str(error.value).startswith(f"{uefi}/{told}")
    assert "\n" not in str(error.value)


def test_a_riscv_or_bios_image_is_no_aarch64_firmware(uefi: Path) -> None:
    with pytest.raises(UserError, match="is no firmware: it holds no UEFI firmware volume"):
        firmware_file.load(FirmwareSource(uefi / "bios.bin"), Arch.AARCH64)


def test_uefi_firmware_on_the_command_line(uefi: Path) -> None:
    comma = uefi / "a,b.fd"
    comma.write_bytes(b"")
    given = parse([], [f"a={uefi}/CODE.fd,{uefi}/VARS.fd", "b=x.json", f"c={comma}", "d=e,",
                       f"f={uefi}"], []).firmware
    assert given == {
        "a": FirmwareSource(uefi / "CODE.fd", name="a", variables=uefi / "VARS.fd"),
        "b": FirmwareSource(Path("x.json"), name="b", descriptor=True),
        "c": FirmwareSource(comma, name="c"),
        "d": FirmwareSource(Path("e,"), name="d"),
        "f": FirmwareSource(uefi, directory=True, name="f"),
    }


# ---- programs -------------------------------------------------------------------------------


def header(machine: int = 62, kind: int = 3, ident: bytes = b"\x7fELF\x02\x01\x01") -> bytes:
    return struct.pack("<16sHHIQQQIHHHHHH", ident, kind, machine, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0,
                       0)


@pytest.mark.parametrize(("content", "told"), [
    (b"", "is no program"),
    (b"#!/bin/sh\n", "is no program"),
    (b"\x7fELF", "is a program for"),
    (header(183), "is a program for aarch64"),
    (header(22, ident=b"\x7fELF\x02\x02\x01")[:18] + b"\0\x16" + bytes(44), "for s390x"),
    (header(3, ident=b"\x7fELF\x01\x01\x01"), "for i386"),
    (header(9999), "for ELF machine 9999"),
    (header(kind=1), "is no program"),
    (header(kind=4), "is no program"),
])
def test_what_is_no_program_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, told: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    file = tmp_path / "qemu"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        elf.read(file)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_the_loader_of_a_program(tmp_path: Path) -> None:
    loader = elf.read(Path("/bin/sh")).loader
    assert loader is not None
    assert Path(loader).is_file()
    static = tmp_path / "static"
    static.write_bytes(header(next(
        number for number, name in elf._MACHINES.items() if name == platform.machine())))
    assert elf.read(static).loader is None


# ---- the cache, and links in roots ------------------------------------------------------------


def filled(cache: Cache, name: str) -> Path:
    def fill(directory: Path) -> None:
        (directory / "file").write_text(name)

    return cache.entry(name, fill)


def test_the_cache_keeps_what_is_in_use_and_the_latest(tmp_path: Path) -> None:
    with_hold, other = Cache(tmp_path), Cache(tmp_path)
    held = filled(with_hold, "kind-held")
    (tmp_path / "kind-held.json").write_text("{}")
    entries = []
    for number in range(KEPT + 3):
        entries.append(filled(other, f"kind-{number}"))
        os.utime(entries[-1], (number + 10, number + 10))
        other.close()
    os.utime(held, (1, 1))
    filled(other, "another-1")
    last = filled(other, "kind-last")
    assert last.is_dir()
    assert held.is_dir(), "it is in use"
    assert not entries[0].exists()
    assert entries[-1].is_dir()
    assert not (tmp_path / "kind-0.lock").exists()
    with_hold.close()
    filled(Cache(tmp_path), "kind-more")
    assert not held.exists()
    assert not (tmp_path / "kind-held.json").exists()


def test_the_cache_fills_an_entry_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry = filled(cache, "kind-a")
    assert cache.entry("kind-a", lambda directory: pytest.fail("filled twice")) == entry


def test_an_entry_that_cannot_be_filled_leaves_nothing(tmp_path: Path) -> None:
    def fill(directory: Path) -> None:
        (directory / "half").write_text("")
        raise ImageError("no")

    with pytest.raises(ImageError):
        Cache(tmp_path).entry("kind-a", fill)
    assert list(tmp_path.iterdir()) == []


def _fill(home: Path) -> None:
    filled(Cache(home), "kind-a")


def test_processes_may_fill_an_entry_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_fill, [tmp_path] * 8)
    assert (tmp_path / "kind-a" / "file").read_text() == "kind-a"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kind-a", "kind-a.lock"]


def test_links_are_followed_inside_a_root(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("/usr/bin")
    (tmp_path / "out").symlink_to("../../../../usr")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("/a")
    assert debian.follow(tmp_path, "bin/busybox") == tmp_path / "usr/bin/busybox"
    assert debian.follow(tmp_path, "/out/./bin/../lib") == tmp_path / "usr/lib"
    with pytest.raises(ImageError, match="goes round"):
        debian.follow(tmp_path, "a")


def test_sealing_a_root_touches_nothing_outside_of_it(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "var").symlink_to(outside)
    debian.seal_tree(root)
    assert list(outside.iterdir()) == []
    assert (root / str(outside).lstrip("/") / "tmp").is_dir()
