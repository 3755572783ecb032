"""``bootmatrix nvram``: what each action does, says, and refuses without changing anything."""

from __future__ import annotations

import json
import os
import stat
import struct
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cli.main import main
from bootmatrix.model import FirmwareBuild
from bootmatrix.nvram import Nvram, Part, inspect
from bootmatrix.nvram.layout import HEAD, HEADERS
from helpers.own_builds import build_tree

IMAGE, OTHER = b"my firmware " * 1024, b"my other one" * 1024


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.fd").write_bytes(IMAGE)
    Path("other.fd").write_bytes(OTHER)
    return tmp_path


@pytest.fixture
def builds(store: ImageStore) -> dict[str, FirmwareBuild]:
    return {build.name: build for build in store.firmwares()}


@pytest.fixture
def file() -> Path:
    assert main(["nvram", "init", "guest", "--stamp", "7.2.0", "--firmware", "mine.fd"]) == 0
    return Path("guest")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a refusal is, with all files as they were."""
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}

    before = files()
    capsys.readouterr()
    assert main(["nvram", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("bootmatrix: ")
    assert said.err.count("\n") == 1
    assert files() == before
    return said.err


def shown(capsys: pytest.CaptureFixture[str], file: Path) -> Any:
    capsys.readouterr()
    assert main(["nvram", "show", str(file), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# ---- a guest's life ----------------------------------------------------------------------------


def test_init_show_upgrade_clear(
    capsys: pytest.CaptureFixture[str], store: ImageStore, builds: dict[str, FirmwareBuild]
) -> None:
    file = Path("guest")
    old = store.qemu("debian-bullseye")
    new = store.qemu("debian-sid").firmware
    assert main(["nvram", "init", "guest", "--qemu", old.name, "--machine", "pc-q35-5.2",
                 "--policy", "guest-owned-versioned"]) == 0
    about = shown(capsys, file)
    assert about["firmware"] == {
        "name": old.firmware, "sha256": builds[old.firmware].sha256, "known": True}
    assert (about["stamp"], about["generation"], about["staged"]) == (old.version, 1, None)
    assert about["origin"]["machine"] == "pc-q35-5.2"
    assert about["origin"]["policy"] == "guest-owned-versioned"

    assert main(["nvram", "upgrade", "guest", new]) == 0
    about = shown(capsys, file)
    assert about["staged"]["name"] == new
    assert about["firmware"]["name"] == old.firmware
    assert main(["nvram", "show", "guest"]) == 0
    text = capsys.readouterr().out
    assert f"staged       {new}: from the next reset or start on" in text
    assert f"stamp        QEMU {old.version}\n" in text

    with Nvram(file) as nvram:
        nvram.take_staged()
    assert shown(capsys, file)["firmware"]["name"] == new
    assert main(["nvram", "clear", "guest"]) == 0
    assert main(["nvram", "show", "guest"]) == 0
    assert "firmware     none: the next start initialises it" in capsys.readouterr().out
    assert main(["nvram", "init", "guest", "--qemu", "debian-sid"]) == 0
    assert shown(capsys, file)["firmware"]["name"] == new


def test_init_takes_what_a_matrix_takes(
    capsys: pytest.CaptureFixture[str], store: ImageStore, tmp_path: Path
) -> None:
    """A kind of firmware beside a QEMU, with its variables; and a QEMU of one's own."""
    assert main(["nvram", "init", "guest", "--qemu", "debian-sid", "--firmware", "ovmf-4m"]) == 0
    ovmf = store.beside("debian-sid", "ovmf-4m")
    assert ovmf.variables is not None
    with Nvram(Path("guest")) as nvram:
        assert nvram.contents() == {Part.FIRMWARE: ovmf.path.read_bytes(),
                                    Part.VARIABLES: ovmf.variables.read_bytes()}
        assert nvram.header.firmware == ovmf.name
    tree = build_tree(store, tmp_path / "qemu")
    bookworm = store.qemu("debian-bookworm")
    for name, more in (("own", ()), ("other", ("--firmware", "other.fd"))):
        assert main(["nvram", "init", name, "--qemu", f"m={tree}", *more]) == 0
    assert shown(capsys, Path("own"))["firmware"]["name"] == bookworm.firmware
    assert shown(capsys, Path("own"))["stamp"] == bookworm.version
    with Nvram(Path("other")) as nvram:
        assert nvram.contents() == {Part.FIRMWARE: OTHER}
    for wrong, told in ((("--qemu", "m=/nowhere"), "/nowhere is not there"),
                        (("--qemu", "debian-sid", "--machine", "pc-q35-99"), "has no machine type"),
                        (("--qemu", "debian-sid", "--firmware", "ovmf-2m"), "has no ovmf-2m"),
                        (("--qemu", f"m={tree}", "--firmware", "ovmf-4m"), "is the one beside a")):
        assert told in refused(capsys, "init", "none", *wrong)


def test_an_unknown_firmware_is_named_by_its_bytes(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    about = shown(capsys, file)
    assert about["firmware"]["name"] is None
    assert main(["nvram", "show", "guest"]) == 0
    assert f"unknown, sha256 {about['firmware']['sha256']} (12 KiB at 0x4000)" in (
        capsys.readouterr().out)


def test_what_the_guest_did_is_shown(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    with Nvram(file) as nvram:
        nvram.lend("7.2.0", "source")
        with file.open("r+b") as raw:
            raw.seek(HEAD)
            raw.write(OTHER[:4096])
        assert main(["nvram", "show", "guest"]) == 0
        assert "lent         to QEMU 7.2.0 (source), " in capsys.readouterr().out
        assert main(["nvram", "verify", "guest"]) == 0
        assert "whole; a QEMU has it" in capsys.readouterr().out
    assert main(["nvram", "show", "guest"]) == 0
    text = capsys.readouterr().out
    assert "changed      by the guest, " in text
    assert ", 1 block\n" in text
    assert "firmware     unknown, sha256 " in text


def test_export_and_import(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert main(["nvram", "export", "guest", "--code", "CODE.fd"]) == 0
    assert Path("CODE.fd").read_bytes() == IMAGE
    Path("vars.fd").write_bytes(b"\xff" * 8192)
    assert main(["nvram", "import", "guest", "--vars", "vars.fd"]) == 0
    about = shown(capsys, file)
    assert [window["part"] for window in about["windows"]] == ["firmware", "variables"]
    assert (about["stamp"], about["changed"]["blocks"]) == ("7.2.0", 3), "as initialised"
    assert main(["nvram", "import", "guest", "--code", "other.fd"]) == 0
    assert inspect(file).contents == {Part.FIRMWARE: OTHER, Part.VARIABLES: b"\xff" * 8192}
    assert main(["nvram", "export", "guest", "--code", "a", "--vars", "b"]) == 0
    assert (Path("a").read_bytes(), Path("b").read_bytes()) == (OTHER, b"\xff" * 8192)
    assert sorted(path.name for path in Path().iterdir()) == [
        "CODE.fd", "a", "b", "guest", "mine.fd", "other.fd", "vars.fd"]


def test_moved_away_and_forced(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    with Nvram(file) as nvram:
        nvram.move_to(Path("there")).close()
    for arguments in (
        ("upgrade", "guest", "other.fd"), ("clear", "guest"), ("import", "guest", "--code",
                                                               "other.fd")):
        assert "the guest has moved away to " in refused(capsys, *arguments)
    assert main(["nvram", "show", "guest"]) == 0
    assert "moved away   to " in capsys.readouterr().out
    assert main(["nvram", "export", "guest", "--code", "CODE.fd"]) == 0, "looking is allowed"
    assert main(["nvram", "repair", "guest"]) == 0
    assert "nothing to repair" in capsys.readouterr().out
    assert main(["nvram", "repair", "guest", "--force"]) == 0
    assert "the guest lives here again" in capsys.readouterr().out
    assert main(["nvram", "upgrade", "guest", "other.fd"]) == 0


def test_verify_and_repair(
    capsys: pytest.CaptureFixture[str], store: ImageStore, builds: dict[str, FirmwareBuild]
) -> None:
    assert main(["nvram", "init", "guest", "--qemu", "debian-sid"]) == 0
    assert main(["nvram", "verify", "guest"]) == 0
    assert capsys.readouterr().out.endswith("guest: whole\n")
    spoil("guest", HEADERS[1] + 70)
    for arguments in (("verify", "guest"), ("show", "guest"), ("clear", "guest"),
                      ("export", "guest", "--code", "x")):
        assert "header page at 0x1000 is damaged" in refused(capsys, *arguments)
    assert main(["nvram", "repair", "guest"]) == 0
    assert "the header is whole again" in capsys.readouterr().out
    spoil("guest", HEAD + 0x30010)
    assert "damaged between 0x34000 and 0x35000" in refused(capsys, "verify", "guest")
    assert main(["nvram", "show", "guest"]) == 0
    assert "damaged      the firmware window" in capsys.readouterr().out
    assert "damaged between" in refused(capsys, "export", "guest", "--code", "x")
    assert main(["nvram", "repair", "guest"]) == 0
    assert "written anew from the known build" in capsys.readouterr().out
    assert main(["nvram", "verify", "guest"]) == 0
    assert inspect(Path("guest")).contents[Part.FIRMWARE] == (
        builds[store.qemu("debian-sid").firmware].path.read_bytes())


def spoil(file: str, offset: int) -> None:
    data = bytearray(Path(file).read_bytes())
    data[offset] ^= 0x10
    Path(file).write_bytes(data)


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("init", "guest", "--stamp", "1", "--firmware", "mine.fd"), "initialised already"),
        (("init", "new", "--stamp", "1"), "does not say which firmware"),
        (("init", "new", "--stamp", "1", "--firmware", "nosuch"),
         "no such file: nosuch; no such firmware build: 'nosuch' (`bootmatrix"),
        (("init", "new", "--stamp", "1", "--firmware", "odd.fd"), "multiple of 4 KiB"),
        (("init", "no/such/place", "--stamp", "1", "--firmware", "mine.fd"), "No such file"),
        (("init", "new", "--stamp", "x" * 600, "--firmware", "mine.fd"), "cannot be printed"),
        (("init", "new", "--stamp", "1\n2", "--firmware", "mine.fd"), "cannot be printed"),
        (("init", "new", "--qemu", "nosuch"), "nosuch"),
        (("show", "nothing"), "nothing: No such file"),
        (("show", "."), "Is a directory"),
        (("show", "empty"), "empty: no nvram file: it is empty"),
        (("show", "mine.fd"), "mine.fd: no nvram file: it begins with"),
        (("show", "newer"), "newer: format 2; this version of bootmatrix knows format 1 only"),
        (("show", "short"), "short: truncated"),
        (("verify", "disk.qcow2"), "a qcow2 image"),
        (("upgrade", "disk.qcow2", "mine.fd"), "a qcow2 image"),
        (("repair", "disk.qcow2"), "a qcow2 image"),
        (("upgrade", "nothing", "mine.fd"), "nothing: no such file (`bootmatrix nvram init`"),
        (("upgrade", "guest", "odd.fd"), "an image of 0x5 bytes does not fit into a flash of 0x3"),
        (("upgrade", "guest", "."), "no file"),
        (("export", "guest"), "nothing to export"),
        (("export", "guest", "--code", "mine.fd"), "mine.fd: exists already"),
        (("export", "guest", "--vars", "x"), "the nvram has no variables"),
        (("export", "guest", "--code", "no/such/place"), "No such file"),
        (("import", "guest"), "nothing to import"),
        (("import", "guest", "--code", "odd.fd"), "multiple of 4 KiB"),
        (("import", "guest", "--vars", "nothing"), "nothing: No such file"),
    ],
)
def test_refused(
    capsys: pytest.CaptureFixture[str], file: Path, arguments: tuple[str, ...], message: str
) -> None:
    Path("odd.fd").write_bytes(b"12345")
    Path("empty").write_bytes(b"")
    Path("disk.qcow2").write_bytes(b"QFI\xfb" + bytes(70000))
    from benchmarks.nvram_inputs import head, sealed

    Path("newer").write_bytes(head(sealed(b"what it will be", version=2)))
    Path("short").write_bytes(file.read_bytes()[:-1])
    assert message in refused(capsys, *arguments)


def test_a_file_in_use_names_who_has_it(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    with Nvram(file, role="cell 7"):
        capsys.readouterr()
        for arguments in (["upgrade", "guest", "other.fd"], ["clear", "guest"],
                          ["repair", "guest"], ["import", "guest", "--code", "other.fd"]):
            assert main(["nvram", *arguments]) == 2
            assert f"guest: in use by cell 7, pid {os.getpid()} on " in capsys.readouterr().err
        assert main(["nvram", "show", "guest"]) == 0, "looking is allowed"


# ---- UEFI variables ----------------------------------------------------------------------------


def variable_store(name: str, guid: UUID, data: bytes, size: int = 0x20000) -> bytes:
    """An OVMF variable store with one authenticated variable.

    UEFI PI volume 3 (firmware volume header); edk2's Guid/VariableFormat.h.
    """
    volume = struct.pack(
        "<16s16sQ4sIHHHBB", bytes(16), UUID("fff12b8d-7696-4c8b-a985-2747075b4f50").bytes_le,
        size, b"_FVH", 0x0004FEFF, 72, 0, 0, 0, 2,
    ) + struct.pack("<IIII", size // 4096, 4096, 0, 0)  # fmt: skip
    label = name.encode("utf-16-le") + b"\0\0"
    variable = struct.pack("<HBBIQ16sIII16s", 0x55AA, 0x3F, 0, 7, 0, bytes(16), 0,
                           len(label), len(data), guid.bytes_le) + label + data  # fmt: skip
    header = struct.pack(
        "<16sIBBHI", UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le, 0xE000, 0x5A, 0xFE,
        0, 0,
    )  # fmt: skip
    return (volume + header + variable).ljust(size, b"\xff")


FAKE = """#!{python}
import json, pathlib, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
store = pathlib.Path(arguments["--input"]).read_bytes()
if b"_FVH" not in store:
    sys.exit("no variable store")
name = "BootOrder" if "BootOrder".encode("utf-16-le") in store else "?"
pathlib.Path(arguments["--output-json"]).write_text(json.dumps({{"version": 2, "variables": [
    {{"name": name, "guid": "8be4df61-93ca-11d2-aa0d-00e098032b8c", "attr": 7, "data": "0100"}}
]}}))
"""
GLOBAL = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")


def with_variables(variables: bytes) -> None:
    Path("vars.fd").write_bytes(variables)
    assert main(["nvram", "init", "guest", "--stamp", "7.2.0", "--firmware", "mine.fd",
                 "--vars", "vars.fd"]) == 0


def test_variables_through_virt_fw_vars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    command = here / "bin" / "virt-fw-vars"
    command.parent.mkdir()
    command.write_text(FAKE.format(python=sys.executable))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(command.parent))
    with_variables(variable_store("BootOrder", GLOBAL, b"\x01\0"))
    about = shown(capsys, Path("guest"))
    assert about["variables"] == [
        {"name": "BootOrder", "guid": str(GLOBAL), "attr": 7, "data": "0100"}]
    assert main(["nvram", "show", "guest"]) == 0
    text = capsys.readouterr().out
    assert "variables    1 (128 KiB at 0x7000)" in text
    assert f"    BootOrder                {GLOBAL} 0100\n" in text


@pytest.mark.parametrize("there", [True, False])
def test_without_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, here: Path, there: bool
) -> None:
    command = here / "bin" / "virt-fw-vars"
    command.parent.mkdir()
    if there:
        command.write_text(FAKE.format(python=sys.executable))
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent))
    with_variables(b"\xff" * 4096)
    about = shown(capsys, Path("guest"))
    assert about["variables"] is None
    assert ("cannot read them: no variable store" if there else "not installed") in (
        about["variables_note"])
    assert main(["nvram", "show", "guest"]) == 0
    assert "variables    virt-fw-vars" in capsys.readouterr().out
