"""What the command line says of builds, and whether files can be what they are taken for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.matrix.sources import expand, parse
from bootmatrix.model import FirmwareSource, GitSource, HostSpec, QemuSource
from helpers.source_trees import GitRepository

RESET = bytes.fromhex("ea5be000f0") + bytes(11)


# ---- the command line -----------------------------------------------------------------------


def test_definitions() -> None:
    given = parse(["head=../build", "img=image:qemu:9", "deb=suite:trixie=1:10.0+ds-1",
                   "plain=suite:sid", "bundle=out/qemu,out/data",
                   "root=root:out/fs", "nix=root:fs,nix/bin/qemu"],
                  ["test=out/bios.bin"], ["head/test", "head"])
    assert given.qemu == {
        "head": QemuSource(path=Path("../build"), name="head"),
        "img": QemuSource(image="qemu:9", name="img"),
        "deb": QemuSource(suite="trixie", package_version="1:10.0+ds-1", name="deb"),
        "plain": QemuSource(suite="sid", name="plain"),
        "root": QemuSource(root=Path("out/fs"), name="root"),
        "nix": QemuSource(root=Path("fs"), program="nix/bin/qemu", name="nix"),
        "bundle": QemuSource(path=Path("out/qemu"), name="bundle", data=Path("out/data")),
    }
    assert given.firmware == {"test": FirmwareSource(Path("out/bios.bin"), name="test")}
    assert given.hosts == ("head/test", "head")


def test_hosts_of_the_command_line() -> None:
    given = parse(["head=../build"], ["test=bios.bin"], [])
    head, test = given.qemu["head"], given.firmware["test"]
    assert given.host("head/test") == (HostSpec("head+test", head, test),)
    assert given.host("debian-sid/test") == (HostSpec("debian-sid+test", "debian-sid", test),)
    assert given.host("head/seabios-1") == (HostSpec("head+seabios-1", head, "seabios-1"),)
    assert given.host("head/seabios-1.1[0-4].*") == (
        HostSpec("head+seabios-1.1-0-4-.", head, "seabios-1.1[0-4].*"),)
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


@pytest.mark.parametrize(("host", "told"), [
    ("debian-sid", r"--qemu a=\.\.\.: no host has it \(--host a makes one"),
    ("a", r"--firmware f=\.\.\.: no host has it \(--host QEMU/f makes one"),
    ("debian-sid/f", r"--qemu a=\.\.\.: no host has it"),
])
def test_a_build_that_no_host_has(host: str, told: str) -> None:
    given = parse(["a=/q"], ["f=/f.bin"], [])
    given.host(host)
    with pytest.raises(UserError, match=told):
        given.check_meant()
    given.host("a/f")
    given.check_meant()


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


def test_uefi_firmware_on_the_command_line(tmp_path: Path) -> None:
    comma = tmp_path / "a,b.fd"
    comma.write_bytes(b"")
    given = parse([], [f"a={tmp_path}/CODE.fd,{tmp_path}/VARS.fd", "b=x.json", f"c={comma}", "d=e,",
                       f"f={tmp_path}"], []).firmware
    assert given == {
        "a": FirmwareSource(tmp_path / "CODE.fd", name="a", variables=tmp_path / "VARS.fd"),
        "b": FirmwareSource(Path("x.json"), name="b", descriptor=True),
        "c": FirmwareSource(comma, name="c"),
        "d": FirmwareSource(Path("e,"), name="d"),
        "f": FirmwareSource(tmp_path, directory=True, name="f"),
    }


# ---- commits that are to be built ---------------------------------------------------------------


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    there = GitRepository(tmp_path / "qemu")
    there.commit("one", {"file": "1"})
    for name in ("v8.0.0", "v8.0.0-rc1", "v8.0.1", "v9.0.0", "v10.0.0", "v10.1.0-rc2", "v11.0.0",
                 "v9", "other"):
        there.git("tag", name)
    return there.path


@pytest.mark.parametrize(("revisions", "wanted"), [
    (["v8.0.0..v10.0.0 tags"], ["v8.0.0", "v8.0.1", "v9.0.0", "v10.0.0"]),
    (["v8.0.0..v11.0.0 tags v*.0.0"], ["v8.0.0", "v9.0.0", "v10.0.0", "v11.0.0"]),
    (["v8.0.0-rc1..v10.1.0-rc2 tags"], ["v8.0.0-rc1", "v10.1.0-rc2"]),
    (["main", "v9.0.0..v10.0.0 tags", "v9.0.0"], ["main", "v9.0.0", "v10.0.0"]),
], ids=["range", "glob", "candidates", "list"])
def test_a_host_for_each_revision(tagged: Path, revisions: list[str], wanted: list[str]) -> None:
    git = GitSource(tagged, revisions=tuple(revisions), options=("--enable-x",))
    each = [replace(git, revision=name, revisions=()) for name in wanted]
    of_qemu = expand(HostSpec("rel", QemuSource(git=git), "seabios"))
    assert of_qemu == tuple(HostSpec(f"rel-{one.revision}", QemuSource(git=one), "seabios")
                            for one in each)
    of_firmware = expand(HostSpec("fw", "debian-sid", FirmwareSource(tagged, git=git)))
    assert [host.name for host in of_firmware] == [f"fw-{name}" for name in wanted]
    assert [host.firmware for host in of_firmware] == [
        FirmwareSource(tagged, git=one) for one in each]


@pytest.mark.parametrize(("revisions", "says"), [
    ("v7.0.0..v9.0.0 tags", r"has no tag 'v7.0.0' \(did you mean 'v\d+.0.0'"),
    ("v8.0.0..nothing tags", r"has no tag 'nothing'"),
    ("v9.0.0..v8.0.0 tags", r"no tag from v9.0.0 to v8.0.0 \(the first is the older"),
    ("v8.0.0..v9.0.0 tags x*", r"no tag from v8.0.0 to v9.0.0 like x\*"),
    ("v8.0.0..v9.0.0", r"is neither a revision nor a range of tags \(such as"),
    ("two words", r"is neither a revision nor a range of tags"),
])
def test_revisions_that_are_none(tagged: Path, revisions: str, says: str) -> None:
    git = GitSource(tagged, revisions=(revisions,))
    with pytest.raises(UserError, match=says):
        expand(HostSpec("rel", QemuSource(git=git)))


def test_revisions_that_would_be_called_alike(tagged: Path) -> None:
    git = GitSource(tagged, revisions=("a/b", "a-b"))
    with pytest.raises(UserError, match=r"a-b would make a host called 'rel-a-b' \(there is one"):
        expand(HostSpec("rel", QemuSource(git=git)))


def test_the_command_line_names_a_commit() -> None:
    given = parse(["head=source:../qemu", "old=source:../qemu,v9.2.0"],
                  ["fw=source:../seabios,rel-1.16.3"], [])
    assert given.qemu == {
        "head": QemuSource(name="head", git=GitSource(Path("../qemu"))),
        "old": QemuSource(name="old", git=GitSource(Path("../qemu"), "v9.2.0"))}
    seabios = Path("../seabios")
    assert given.firmware == {"fw": FirmwareSource(
        seabios, name="fw", git=GitSource(seabios, "rel-1.16.3"))}
    with pytest.raises(UserError, match="nothing is named"):
        parse(["head=source:"], [], [])
