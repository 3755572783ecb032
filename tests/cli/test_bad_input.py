"""Bad input, through the command: one line with its place, and nothing is started."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cli.main import main
from helpers import forked
from helpers.own_builds import LIBRARY, build_tree, rebuild

MATRIX = """\
schema: 1
hosts:
  old: {qemu: debian-bullseye}
  new: {HOST}
axes:
  source: old
  destination: new
  machine: pc-i440fx-5.2
  policy: stock
  scenario: migrate-reset
  disk: ide
"""
FIRMWARE = "qemu: debian-sid, firmware: "
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """Where a Docker engine would be asked: nobody must come here."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path_factory.mktemp("engine") / "s"))
        listener.listen()
        listener.setblocking(False)
        yield listener


@pytest.fixture
def here(tmp_path: Path, store: ImageStore) -> Path:
    """Files of all kinds that are no builds."""
    def program(name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o755)

    elf = Path(sys.executable).resolve().read_bytes()
    program("script", b"#!/bin/sh\necho QEMU emulator version 9.0.0\n")
    program("arm", elf[:18] + (183).to_bytes(2, "little") + elf[20:4096])
    shutil.copy("/bin/true", tmp_path / "tool")
    program("plain", elf[:4096])
    (tmp_path / "plain").chmod(0o644)
    (tmp_path / "nothing").mkdir()
    bios = store.firmware(store.qemu("debian-sid").firmware).path.read_bytes()
    for name, image in (("empty", b""), ("odd", bios[1:]), ("zeros", bytes(65536)),
                        ("erased", b"\xff" * 65536), ("good", bios)):
        (tmp_path / f"{name}.bin").write_bytes(image)
    code = store.beside("debian-sid", "ovmf-4m").path
    shutil.copy(code, tmp_path / "CODE")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "bare.json").write_text("{}")
    (tmp_path / "arm.json").write_text(json.dumps({
        "interface-types": ["uefi"], "features": [],
        "targets": [{"architecture": "aarch64", "machines": []}],
        "mapping": {"device": "memory", "filename": "CODE"},
    }))
    return tmp_path


def bootmatrix(
    here: Path, engine: socket.socket | None, *arguments: str
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("PYTEST_", "COLUMNS"))}
    if engine is not None:
        environment["DOCKER_HOST"] = f"unix://{engine.getsockname()}"
    script = Path(sys.executable).with_name("bootmatrix")
    return forked.run([script, *arguments], cwd=here, env=environment)


def in_this_process(
    here: Path, engine: socket.socket | None, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """The same: to start a Python takes a hundred times as long as to find a mistake."""
    said, complained = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), \
            contextlib.redirect_stderr(complained):
        patch.chdir(here)
        if engine is not None:
            patch.setenv("DOCKER_HOST", f"unix://{engine.getsockname()}")
        status = main(arguments)
    return subprocess.CompletedProcess(
        arguments, status, said.getvalue(), complained.getvalue())


def complaint(
    here: Path, engine: socket.socket | None, *arguments: str, command: Command = in_this_process
) -> str:
    """The one line that the command says before it gives up, without having started anything."""
    done = command(here, engine, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (here / "runs").exists()
    if engine is not None:
        with pytest.raises(BlockingIOError):
            engine.accept()
    return done.stderr.removeprefix("bootmatrix: ").rstrip("\n")


@pytest.mark.parametrize(("host", "told"), [
    # a QEMU that is none
    ("qemu: no-such", "4:15: hosts.new.qemu: no such QEMU build: 'no-such' (in the catalogue: "),
    ("qemu: {path: no-such}", "4:22: hosts.new.qemu.path: no-such is not there (a QEMU, or "),
    ("qemu: {path: script}", "4:22: hosts.new.qemu.path: script is no program (a QEMU is an ELF"),
    ("qemu: {path: arm}", "4:22: hosts.new.qemu.path: arm is a program for aarch64 (this machine"),
    ("qemu: {path: plain}", "4:22: hosts.new.qemu.path: plain is not executable (chmod +x plain)"),
    ("qemu: {path: nothing}", "4:22: hosts.new.qemu.path: nothing holds no qemu-system-x86_64 ("),
    ("qemu: {path: tool}, firmware: {path: good.bin}",
     "4:22: hosts.new.qemu.path: tool is no QEMU: to --version it says 'true (GNU coreutils"),
    ("qemu: {path: tool}", "4:8: hosts.new.firmware: no firmware is given, and beside tool there "),
    ("qemu: {root: no-such}", "4:22: hosts.new.qemu.root: no-such is not there (a directory"),
    ("qemu: {root: nothing}", "4:22: hosts.new.qemu.root: nothing holds no QEMU (looked for usr/"),
    ("qemu: {root: nothing, program: q}", "4:22: hosts.new.qemu.root: nothing holds no q (prog"),
    ("qemu: {path: plain, program: q}", "4:29: hosts.new.qemu.program: is that of a root ({roo"),
    ("qemu: {root: nothing, data: q}", "4:31: hosts.new.qemu.data: is that of a path ({path: "),
    ("qemu: {suite: Not A Suite}", "4:23: hosts.new.qemu.suite: 'Not A Suite' is no name of a"),
    ("qemu: {suite: sid, package-version: new}", "4:23: hosts.new.qemu.suite: 'new' is no version"),
    # shapes
    ("qemu: {path: a, image: b}", "4:15: hosts.new.qemu: found path and image (just one of path"),
    ("qemu: {}", "4:15: hosts.new.qemu: found none of its fields (just one of path, root, image,"),
    ("qemu: {pth: a}", "4:16: hosts.new.qemu.pth: no such field (did you mean 'path'?"),
    ("qemu: {path: [a]}", "4:22: hosts.new.qemu.path: found a list; it must be text"),
    ("qemu: {path: a, package-version: '1'}", "4:25: hosts.new.qemu.package-version: is that of"),
    (FIRMWARE + "{path: a, directory: b}", "4:37: hosts.new.firmware: found path and directory"),
    # a firmware that is none
    (FIRMWARE + "no-such", "4:37: hosts.new.firmware: no such firmware build: 'no-such'"),
    (FIRMWARE + "{path: no-such}", "4:44: hosts.new.firmware.path: no-such is not there (the file"),
    (FIRMWARE + "{path: nothing}", "4:44: hosts.new.firmware.path: nothing is a directory (an im"),
    (FIRMWARE + "{path: empty.bin}", "4:44: hosts.new.firmware.path: empty.bin is empty (the fi"),
    (FIRMWARE + "{path: odd.bin}", "4:44: hosts.new.firmware.path: odd.bin has 262143 bytes (a "),
    (FIRMWARE + "{path: zeros.bin}", "4:44: hosts.new.firmware.path: zeros.bin is no firmware: "),
    (FIRMWARE + "{path: erased.bin}", "4:44: hosts.new.firmware.path: erased.bin is no firmware"),
    (FIRMWARE + "ovmf-2m", "4:37: hosts.new.firmware: debian-sid has no ovmf-2m (it has: seabios"),
    (FIRMWARE + "{variables: odd.bin}", "4:37: hosts.new.firmware: found none of its fields (just"),
    (FIRMWARE + "{path: CODE}", "4:44: hosts.new.firmware.path: CODE is code alone, without a v"),
    (FIRMWARE + "{path: CODE, variables: good.bin}",
     "4:61: hosts.new.firmware.variables: good.bin is no template of a variable store: it neither"),
    (FIRMWARE + "{path: good.bin, variables: zeros.bin}", "4:44: hosts.new.firmware.path: good.bin "
                                                          "is no UEFI firmware (it has no variab"),
    (FIRMWARE + "{descriptor: arm.json, variables: CODE}", "4:60: hosts.new.firmware.variables: s"),
    (FIRMWARE + "{descriptor: arm.json, symbols: CODE}", "4:60: hosts.new.firmware.symbols: st"),
    (FIRMWARE + "{path: good.bin, symbols: odd.bin}", "4:63: hosts.new.firmware.symbols: odd."),
    (FIRMWARE + "{descriptor: no.json}", "4:50: hosts.new.firmware.descriptor: no.json is not the"),
    (FIRMWARE + "{descriptor: broken.json}", "4:50: hosts.new.firmware.descriptor: broken.json: is "
                                             "not JSON: "),
    (FIRMWARE + "{descriptor: bare.json}", "4:50: hosts.new.firmware.descriptor: bare.json: mappi"),
    (FIRMWARE + "{descriptor: arm.json}", "4:50: hosts.new.firmware.descriptor: arm.json: is for "),
    (FIRMWARE + "{directory: good.bin}", "4:37: hosts.new.firmware: good.bin is no directory ("),
    (FIRMWARE + "{directory: no-such}", "4:37: hosts.new.firmware: no-such is not there (a dir"),
    (FIRMWARE + "{directory: nothing}", "4:37: hosts.new.firmware: nothing holds no firmware im"),
    (FIRMWARE + "{directory: .}", "4:49: hosts.new.firmware.directory: empty.bin is empty ("),
])
def test_a_build_that_is_none(here: Path, engine: socket.socket, host: str, told: str) -> None:
    (here / "m.yaml").write_text(MATRIX.replace("HOST", host))
    assert complaint(here, engine, "run", "m.yaml").startswith(f"m.yaml:{told}")
    if "tool" not in host or "good" not in host:  # to hear what it says, it has to be run
        assert complaint(here, engine, "list", "m.yaml").startswith(f"m.yaml:{told}")


@pytest.mark.parametrize(("old", "new", "told"), [
    ("destination: new", "destination: nwe", "7:16: axes.destination: no host has the name 'nwe' "
                                             "(did you mean 'new'?"),
    ("policy: stock", "policy: stok", "9:11: axes.policy: found 'stok' (did you mean 'stock'?"),
    ("scenario: migrate-reset", "scenario: migrate", "10:13: axes.scenario: no scenario has the "),
    ("machine: pc-i440fx-5.2", "machine: 5.2", "8:12: axes.machine: 5.2 without quotes is a num"),
    ("machine: pc-i440fx-5.2", "machine: a b", "8:12: axes.machine: 'a b' is not what mach"),
    ("  disk: ide", "  disk: ide\n  disk: ahci", "12:3: disk: stands here twice"),
    ("  new: {HOST}", "  old: {qemu: debian-sid}", "4:3: old: stands here twice"),
    (MATRIX, "", "1:1: the file must be a mapping"),
    ("axes:\n", "exclude: [{source: old}]\naxes:\n", "5:1: exclude: no cell remains: these rules"),
])
def test_a_matrix_that_is_wrong(
    here: Path, engine: socket.socket, old: str, new: str, told: str
) -> None:
    text = MATRIX.replace(old, new, 1).replace("HOST", "qemu: debian-sid")
    (here / "m.yaml").write_text(text)
    for command in ("run", "list"):
        assert complaint(here, engine, command, "m.yaml").startswith(f"m.yaml:{told}")


@pytest.mark.parametrize("command", ["run", "list"])
def test_a_process_of_its_own_says_the_same(
    here: Path, engine: socket.socket, command: str
) -> None:
    (here / "m.yaml").write_text(MATRIX.replace("HOST", "qemu: {path: script}"))
    told = complaint(here, engine, command, "m.yaml", command=bootmatrix)
    assert told.startswith("m.yaml:4:22: hosts.new.qemu.path: script is no program (a QEMU is")
    assert told == complaint(here, engine, command, "m.yaml")


@pytest.mark.parametrize(("options", "told"), [
    (("--qemu", "head"), "--qemu head: no definition (NAME=PATH"),
    (("--qemu", "head=no-such", "--host", "head"), "--host head: qemu: no-such is not there ("),
    (("--firmware", "f=odd.bin", "--host", "debian-sid/f"),
     "--host debian-sid/f: firmware: odd.bin has 262143 bytes (a "),
    (("--firmware", "f=nothing", "--host", "debian-sid/f"),
     "--host debian-sid/f: nothing holds no firmware image (files"),
    (("--firmware", "f=CODE,good.bin", "--host", "debian-sid/f"),
     "--host debian-sid/f: firmware: good.bin is no template of a variable store"),
    (("--host", "no-such"), "--host no-such: qemu: no such QEMU build: 'no-such' (in the cat"),
    (("--host", "debian-sid/no-such"), "--host debian-sid/no-such: firmware: no such firmware b"),
    (("--host", "a b"), "--host a b: 'a b' is not a name (QEMU or QEMU/FIRMWARE"),
    (("--qemu", "new=good.bin"), "m.yaml:4:15: hosts.new.qemu: good.bin is no program ("),
])
def test_options_that_are_wrong(
    here: Path, engine: socket.socket, options: tuple[str, ...], told: str
) -> None:
    (here / "m.yaml").write_text(MATRIX.replace("HOST", "qemu: new").replace(
        "qemu: new", "qemu: new" if "new=good.bin" in options else "qemu: debian-sid"))
    for command in ("run", "list"):
        assert complaint(here, engine, command, "m.yaml", *options).startswith(told)


def test_a_missing_library_is_named(here: Path, engine: socket.socket, store: ImageStore) -> None:
    tree = build_tree(store, here / "build")
    program = (tree / "qemu-system-x86_64").read_bytes()
    assert program.count(LIBRARY) == 1
    rebuild(tree, program.replace(LIBRARY, b"libcapstone.so.X\0"))
    (here / "m.yaml").write_text(MATRIX.replace("HOST", "qemu: {path: build}"))
    told = complaint(here, engine, "run", "m.yaml")
    assert told.startswith("m.yaml:4:22: hosts.new.qemu.path: build lacks libcapstone.so.X (looked")
    assert "debian-bookworm" in told


def test_a_program_that_dies_is_told(here: Path, engine: socket.socket, store: ImageStore) -> None:
    tree = build_tree(store, here / "build")
    program = tree / "qemu-system-x86_64"
    rebuild(tree, program.read_bytes()[: program.stat().st_size // 2])
    (here / "m.yaml").write_text(MATRIX.replace("HOST", "qemu: {path: build}"))
    told = complaint(here, engine, "run", "m.yaml")
    assert told.startswith("m.yaml:4:22: hosts.new.qemu.path: build does not start: ")


@pytest.mark.thorough
def test_a_version_that_the_suite_does_not_have(here: Path, engine: socket.socket) -> None:
    host = "qemu: {suite: bookworm, package-version: '1:0.1'}"
    (here / "m.yaml").write_text(MATRIX.replace("HOST", host))
    told = complaint(here, engine, "run", "m.yaml")
    assert told.startswith("m.yaml:4:23: hosts.new.qemu.suite: bookworm has no qemu-system-x86 1:0")


@pytest.mark.docker
@pytest.mark.parametrize(("image", "told"), [
    ("bootmatrix-no-such:image", "the Docker engine has no image bootmatrix-no-such:image (docker"),
    ("No Image", "'No Image' is no name of an image"),
])
def test_an_image_that_is_none(here: Path, image: str, told: str) -> None:
    (here / "m.yaml").write_text(MATRIX.replace("HOST", f"qemu: {{image: '{image}'}}"))
    place = "m.yaml:4:23: hosts.new.qemu.image: "
    assert complaint(here, None, "run", "m.yaml").startswith(place + told)


def test_a_machine_type_that_one_qemu_lacks_is_no_mistake(here: Path, store: ImageStore) -> None:
    (here / "m.yaml").write_text(MATRIX.replace("HOST", "qemu: debian-sid").replace(
        "pc-i440fx-5.2", "pc-i440fx-11.0"))
    done = bootmatrix(here, None, "run", "m.yaml", "--engine", "bubblewrap", "--json", "r")
    assert done.returncode == 2, done.stdout + done.stderr  # of the run: it learnt nothing
    assert "none of these cells can be run" in done.stdout
    assert '"verdict": "unsupported"' in (here / "r").read_text()
    version = store.qemu("debian-bullseye").version
    reason = f"QEMU {version} (debian-bullseye) has no machine pc-i440fx-11.0"
    assert reason in (here / "r").read_text()
