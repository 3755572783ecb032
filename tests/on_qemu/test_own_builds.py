"""Builds of the user's own, real ones: from paths, images of the Docker engine, Debian suites."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from bootmatrix.builds import host as builds_module
from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore, facts_text
from bootmatrix.cell import Cell
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine, choose
from bootmatrix.engines.docker import remove_images
from bootmatrix.errors import UserError
from bootmatrix.guests.qcow2 import image as qcow2
from bootmatrix.lab import Lab
from bootmatrix.matrix.expansion import load
from bootmatrix.model import (
    Arch,
    FirmwareBuild,
    FirmwareSource,
    HostSpec,
    Interface,
    QemuBuild,
    QemuSource,
    Verdict,
)
from bootmatrix.roots import debian
from bootmatrix.run.runner import Runner
from helpers import forked
from helpers.cells import HOSTS, cell
from helpers.own_builds import build_tree, link, linked_cache, rebuild, sid_firmware, unpacked

MATRICES = Path(__file__).parents[2] / "matrices"


@pytest.fixture
def tree(store: ImageStore, tmp_path: Path) -> Path:
    return build_tree(store, tmp_path / "build")


@pytest.fixture
def builds(store: ImageStore, tmp_path: Path) -> Iterator[Builds]:
    with Builds(store, tmp_path / "cache") as builds:
        yield builds


def own(path: Path, name: str = "own", firmware: Path | None = None) -> HostSpec:
    return HostSpec(name, QemuSource(path), FirmwareSource(firmware) if firmware else None)


def between(source: HostSpec, destination: HostSpec, policy: str = "stock") -> Cell:
    return replace(cell("sid sid", policy), hosts=(source, destination))


# ---- a build tree -------------------------------------------------------------------------------


def test_a_build_tree_in_both_directions(
    store: ImageStore, builds: Builds, engine: Engine, tree: Path, tmp_path: Path,
    seabios: dict[str, FirmwareBuild],
) -> None:
    host = own(tree)
    mine = seabios["bookworm"].name
    with Runner(builds, engine, tmp_path / "run") as runner:
        there = runner.run(between(HOSTS["bullseye"], host, "machine-owned"))
        back = runner.run(between(host, HOSTS["sid"], "guest-owned"))
    assert there["verdict"] == Verdict.PASS, there["reason"]
    assert back["verdict"] == Verdict.PASS, back["reason"]
    assert [boot["console"] for boot in there["boots"]] == [seabios["bullseye"].name, mine]
    assert [boot["rom"] for boot in back["boots"]] == [mine] * 2
    told: Any = there["cell"]["destination"]
    assert told["qemu"] == store.qemu("debian-bookworm").version
    assert told["firmware"] == mine, "bytes that are known have their known name"
    assert told["build"] == f"qemu-{told['digest'][:8]}"
    assert told["root"] == "debian-bookworm"
    argv = there["qemus"][1]["argv"]
    assert argv[:3] == ["/tmp/build/qemu-system-x86_64", "-L", "/tmp/build/data0"]


def test_it_is_mounted_read_only(
    builds: Builds, engine: Engine, tree: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "cell"
    directory.mkdir()
    build = builds.qemu(QemuSource(tree))
    with engine.sandbox(build, directory) as sandbox:
        for command, status in (("ls /tmp/build/qemu-system-x86_64", 0),
                                ("echo x >>/tmp/build/qemu-system-x86_64", 1),
                                ("echo x >/tmp/build/new", 1),
                                ("rm -rf /tmp/build", 1)):
            log = directory / "log"
            process = sandbox.launch(("/bin/busybox", "sh", "-c", command), log)
            assert process.wait(Deadline.after(60)) == status, (command, log.read_text())
    assert (build.mounts[0][0] / "qemu-system-x86_64").is_file()


def test_a_rebuilt_file_is_a_new_build_of_the_same_version(
    store: ImageStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = builds_module._ask

    def counted(build: QemuBuild, what: str) -> dict[str, Any]:
        asked.append(build.digest)
        return ask(build, what)

    monkeypatch.setattr(builds_module, "_ask", counted)

    def built() -> QemuBuild:
        with Builds(store, tmp_path / "cache") as builds:
            return builds.qemu(QemuSource(tree))

    first, again = built(), built()
    assert first == again
    assert asked == [first.digest]
    rebuild(tree)
    second = built()
    assert second.digest != first.digest
    assert second.name != first.name
    assert (second.version, second.machines) == (first.version, first.machines)
    assert asked == [first.digest, second.digest]
    (tree / "pc-bios" / "kvmvapic.bin").write_bytes(b"another option ROM")
    assert built().digest not in asked[:-1], "its data is a part of it"


def test_a_run_goes_on_with_the_build_it_began_with(
    builds: Builds, bubblewrap: Engine, tree: Path, tmp_path: Path
) -> None:
    host = own(tree)
    with Runner(builds, bubblewrap, tmp_path / "run") as runner:
        before = runner.run(between(host, HOSTS["sid"]))
        rebuild(tree, b"a linker has only begun to write this")
        (tree / "pc-bios" / "bios-256k.bin").unlink()
        after = runner.run(between(host, HOSTS["sid"], "reread"))
    assert (before["verdict"], after["verdict"]) == (Verdict.PASS, Verdict.PASS)
    assert before["cell"]["source"] == after["cell"]["source"]


@pytest.mark.parametrize("path", ["build", "build/qemu-system-x86_64", ".", "link"])
def test_what_a_path_may_be(store: ImageStore, builds: Builds, tree: Path, path: str) -> None:
    (tree.parent / "link").symlink_to(tree / "qemu-system-x86_64")
    build = builds.qemu(QemuSource(tree.parent / path))
    debians = store.qemu("debian-bookworm")
    assert (build.version, build.firmware) == (debians.version, debians.firmware)


def test_an_install_prefix(
    store: ImageStore, builds: Builds, bubblewrap: Engine, tmp_path: Path
) -> None:
    """Its modules, without which this QEMU has no TCG, are where it looks for them from bin."""
    host = own(store.qemu("debian-bookworm").root / "usr")
    build = builds.qemu(host.qemu)
    assert build.binary == "/tmp/build/bin/qemu-system-x86_64"
    assert build.arguments.count("-L") == 2
    modules = "lib/x86_64-linux-gnu/qemu"
    assert build.environment == (("QEMU_MODULE_DIR", f"/tmp/build/{modules}"),)
    assert (build.mounts[0][0] / modules, f"/usr/{modules}") in build.mounts, "the root's own"
    with Runner(builds, bubblewrap, tmp_path / "run") as runner:
        record = runner.run(replace(cell("sid", "stock", "reset"), hosts=(host,)))
    assert record["verdict"] == Verdict.PASS, record["reason"]


def test_libraries_of_this_host(
    store: ImageStore, bubblewrap: Engine, tree: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no image has the right ones, those that run it here come along."""
    only = ImageStore(cache=linked_cache(store, tmp_path / "images", "debian-bullseye"))
    root = store.qemu("debian-bookworm").root
    with Builds(only, tmp_path / "cache") as builds:
        with pytest.raises(UserError, match=r"lacks lib[^(]*\(looked among"):
            builds.qemu(QemuSource(tree))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(root / "usr/lib/x86_64-linux-gnu"))
        host = own(tree)
        build = builds.qemu(host.qemu)
        assert build.root_name.startswith("host-")
        monkeypatch.delenv("LD_LIBRARY_PATH")
        with Runner(builds, bubblewrap, tmp_path / "run") as runner:
            record = runner.run(replace(cell("sid", "stock", "reset"), hosts=(host,)))
    assert record["verdict"] == Verdict.PASS, record["reason"]


# ---- firmware -----------------------------------------------------------------------------------


def test_a_firmware_of_ones_own_is_recognised(
    store: ImageStore, builds: Builds, bubblewrap: Engine, tmp_path: Path
) -> None:
    """By its bytes and by what it prints, though it is no build of the catalogue."""
    bios = tmp_path / "my bios.bin"
    bios.write_bytes(sid_firmware(store))
    spec = HostSpec("mine", "debian-sid", FirmwareSource(bios))
    with Runner(builds, bubblewrap, tmp_path / "run") as runner:
        record = runner.run(between(HOSTS["bullseye"], spec, "machine-owned"))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    host: Any = record["cell"]["destination"]
    name = host["firmware"]
    assert re.fullmatch(r"my-bios-[0-9a-f]{8}", name)
    assert host["firmware_sha256"].startswith(name[-8:])
    assert (record["boots"][1]["console"], record["boots"][1]["rom"]) == (name, name)


def test_the_wrong_one_of_two_with_the_same_banner_is_caught(
    store: ImageStore, builds: Builds, bubblewrap: Engine, tmp_path: Path
) -> None:
    """The planted defect: another image than the one that was read is installed on the host."""
    bios = tmp_path / "mine.bin"
    sid = store.beside("debian-sid", "seabios")
    bios.write_bytes(sid.path.read_bytes().replace(b"XenHVMSeaBIOS", b"xenHVMSeaBIOS"))
    spec = HostSpec("mine", "debian-sid", FirmwareSource(bios))
    with Runner(builds, bubblewrap, tmp_path / "run") as runner:
        fine = runner.run(between(HOSTS["bullseye"], spec, "machine-owned"))
        build = builds.firmware(spec)
        builds._firmwares[FirmwareSource(bios), Arch.X86_64] = replace(
            build, path=sid.path)
        wrong = runner.run(between(HOSTS["bullseye"], spec, "machine-owned"))
    assert fine["verdict"] == Verdict.PASS, fine["reason"]
    assert wrong["verdict"] == Verdict.WRONG_FIRMWARE
    assert wrong["boots"][1]["rom"] == sid.name


def ovmf(store: ImageStore, directory: Path, kind: str = "ovmf-4m") -> tuple[Path, Path]:
    """Debian sid's OVMF as a user's own files: its code with another byte, and its variables."""
    build = store.beside("debian-sid", kind)
    assert build.variables
    code, variables = directory / "CODE.fd", directory / "VARS.fd"
    image = bytearray(build.path.read_bytes())
    image[-4096] ^= 1  # what stands there is padding
    code.write_bytes(image)
    shutil.copyfile(build.variables, variables)
    return code, variables


def test_uefi_firmware_of_ones_own(store: ImageStore, builds: Builds, tmp_path: Path) -> None:
    code, variables = ovmf(store, tmp_path)
    split = builds.firmware(HostSpec("h", "debian-sid", FirmwareSource(code, variables=variables)))
    assert re.fullmatch("CODE-[0-9a-f]{8}", split.name)
    assert (split.interface, split.prints) == (
        Interface.UEFI, store.beside("debian-sid", "ovmf-4m").prints)
    assert split.path.read_bytes() == code.read_bytes()
    assert split.variables
    assert split.variables.read_bytes() == variables.read_bytes()
    assert (split.size, split.store_size, split.machines) == (3653632, 0, ())

    whole = tmp_path / "whole.fd"
    whole.write_bytes(variables.read_bytes() + code.read_bytes())
    combined = builds.firmware(HostSpec("h", "debian-sid", FirmwareSource(whole)))
    assert (combined.variables, combined.store_size) == (None, variables.stat().st_size)
    assert combined.sha256 == split.sha256, "the code is the same"
    assert combined.name != split.name

    told = {
        "description": "", "interface-types": ["uefi"], "features": ["requires-smm"], "tags": [],
        "mapping": {"device": "flash",
                    "executable": {"filename": "../CODE.fd", "format": "raw"},
                    "nvram-template": {"filename": str(variables), "format": "raw"}},
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
    }
    descriptor = tmp_path / "descriptors" / "own.json"
    descriptor.parent.mkdir()
    descriptor.write_text(json.dumps(told))
    described = builds.firmware(
        HostSpec("h", "debian-sid", FirmwareSource(descriptor, descriptor=True, name="mine")))
    assert described.name == f"mine-{split.name[-8:]}"
    assert (described.machines, described.needs_smm) == (("pc-q35-*",), True)
    assert described.variables == split.variables


def test_uefi_firmware_that_is_debians(store: ImageStore, builds: Builds) -> None:
    """Of builds with the same code, the variables tell which it is."""
    for kind in ("ovmf-4m", "ovmf-4m-secure", "ovmf-4m-ms", "ovmf-combined"):
        build = store.beside("debian-trixie", kind)
        source = FirmwareSource(build.path, variables=build.variables)
        own = builds.firmware(HostSpec("h", "debian-sid", source))
        assert own == replace(build, machines=()), "where it runs is for its user to say"


def test_uefi_firmware_in_qcow2_and_by_bios(
    store: ImageStore, builds: Builds, tmp_path: Path
) -> None:
    """As Fedora ships it, and without a store: the same build."""
    build = store.beside("debian-trixie", "ovmf-4m")
    assert build.variables is not None
    code, variables = tmp_path / "CODE.qcow2", tmp_path / "VARS.qcow2"
    code.write_bytes(qcow2(build.path.read_bytes()))
    variables.write_bytes(qcow2(build.variables.read_bytes()))
    given = FirmwareSource(code, variables=variables)
    assert builds.firmware(HostSpec("h", "debian-sid", given)) == replace(build, machines=())
    build = store.beside("debian-trixie", "ovmf-combined")
    given = FirmwareSource(build.path, flash=False)
    own = builds.firmware(HostSpec("h", "debian-sid", given))
    assert own == replace(build, machines=(), in_flash=False)


def test_a_firmware_by_its_kind(store: ImageStore, builds: Builds) -> None:
    """A name without a version is the one beside the host's QEMU."""
    def named(qemu: str | QemuSource, kind: str, arch: Arch = Arch.X86_64) -> str:
        host = HostSpec("h", qemu, kind, arch)
        builds.check([host])
        builds.prepare([host])
        return builds.host(host).firmware.name

    assert named("debian-bullseye", "ovmf-4m").startswith("ovmf-4m-2020.11-")
    for kind in "ovmf-4m", "seabios":
        assert named("debian-sid", kind) == store.beside("debian-sid", kind).name
    assert named(QemuSource(suite="bookworm"), "ovmf-2m-ms").startswith("ovmf-2m-ms-2022.11-")
    assert named("debian-bookworm", "aavmf", Arch.AARCH64).startswith("aavmf-2022.11-")
    beside = HostSpec("h", "debian-bookworm", None, Arch.RISCV64)
    builds.prepare([beside])
    assert builds.host(beside).qemu.name == "debian-bookworm-riscv64"
    assert builds.host(beside).firmware.name.startswith("opensbi-1.1-")
    assert builds.machines(beside).count("virt") == 1


@pytest.mark.parametrize(("host", "told"), [
    (HostSpec("h", "debian-sid", "ovmf-2m"), "debian-sid has no ovmf-2m (it has: seabios, "),
    (HostSpec("h", QemuSource(path=Path("/q")), "ovmf-4m"), "ovmf-4m is the one beside a QEMU of "),
    (HostSpec("h", "debian-sid-aarch64"), "debian-sid-aarch64 emulates aarch64, not x86_64"),
    (HostSpec("h", QemuSource(path=Path("/q")), None, Arch.AARCH64),
     "/q is asked for on aarch64: QEMUs of your own are those of PCs"),
])
def test_what_no_host_can_have(builds: Builds, host: HostSpec, told: str) -> None:
    """Whoever asks, and whether or not the image is built."""
    if host.firmware:
        with pytest.raises(UserError) as error:
            builds._check_firmware(host)
    else:
        with pytest.raises(UserError) as error:
            builds.check([host])
    assert str(error.value).startswith(told)
    with pytest.raises(UserError) as error:
        builds.host(host) if not host.firmware else builds.firmware(host)
    assert str(error.value).startswith(told)


def test_what_is_built_for_whom(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of other architectures are built where a host is of theirs, and only there."""
    monkeypatch.setattr(builds._store, "is_built", lambda name: False)
    monkeypatch.setattr(builds._store, "firmwares", lambda: ())
    missing = builds.missing([HostSpec("h", "debian-sid", "ovmf-4m")])
    assert missing == ("debian-sid",)
    assert builds.missing([HostSpec("h", "debian-sid", None, Arch.AARCH64)]) == (
        "debian-sid-aarch64",)
    monkeypatch.setattr(builds._store, "is_built", lambda name: name == "debian-sid")
    for name in "seabios-1.14.0", "seabios-1.14.*":
        missing = builds.missing([HostSpec("h", "debian-sid", name)])
        assert missing == ("debian-bullseye", "debian-bookworm", "debian-trixie")
    # Only what could have it: microvm's is not in bullseye's packages.
    assert builds.missing([HostSpec("h", "debian-sid", "seabios-microvm-1.16.2")]) == (
        "debian-bookworm", "debian-trixie")
    assert builds.missing([HostSpec("h", "debian-sid", "seabois-1.14.0")]) == ()


def test_a_build_for_other_machine_types_is_no_candidate(store: ImageStore, builds: Builds) -> None:
    """SeaBIOS for microvm prints what SeaBIOS prints: on a PC it cannot have been that."""
    pc = builds.host(HostSpec("h", "debian-sid"))
    known = builds.known_firmware([pc], "pc-q35-5.2")
    prints = pc.firmware.prints
    assert prints
    assert known.by_print(prints).candidates == (pc.firmware.name,)
    microvm = builds.host(HostSpec("h", "debian-sid", "seabios-microvm"))
    known = builds.known_firmware([microvm], "microvm")
    assert known.by_print(prints).name == microvm.firmware.name
    # SeaBIOS of another version is no host's: that of PCs alone is known there.
    other = store.beside("debian-bullseye", "seabios")
    assert other.prints
    assert builds.known_firmware([pc], "pc-q35-5.2").by_print(other.prints).candidates == (
        other.name,)
    on_default = builds.known_firmware([pc], "default")
    assert on_default.by_print(prints).name == pc.firmware.name
    # The cell's own name, where two builds are the same bytes.
    secure = builds.host(HostSpec("h", "debian-sid", "ovmf-4m-ms"))
    known = builds.known_firmware([secure], "pc-q35-5.2")
    assert known.by_bytes(secure.firmware.sha256) == secure.firmware.name


def test_where_no_bytes_tell_a_host_s_own_firmware_is_meant(builds: Builds) -> None:
    """An image of one's own that prints what a build of the catalogue prints."""
    host = builds.host(HostSpec("h", "debian-sid"))
    mine = replace(host, firmware=replace(host.firmware, name="mine", sha256="0a", machines=()))
    prints = host.firmware.prints
    assert prints
    assert builds.known_firmware([mine], "isapc").by_print(prints).name == "mine"
    both = builds.known_firmware([mine], "pc-q35-5.2").by_print(prints)
    assert both.candidates == ("mine", host.firmware.name)


def test_a_named_firmware_of_an_image_that_no_host_uses(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = linked_cache(store, tmp_path, "debian-bookworm")
    fresh = ImageStore(cache=cache)
    asked: list[Sequence[str]] = []

    def build(names: Sequence[str], progress: object, jobs: int = 2) -> None:
        asked.append(names)
        for name in names:
            link(store, cache, name)

    monkeypatch.setattr(fresh, "build", build)
    builds = Builds(fresh, tmp_path / "own")
    sid = store.beside("debian-sid", "seabios").name
    host = HostSpec("h", "debian-bookworm", sid)
    builds.check([host])
    builds.prepare([replace(host, firmware=store.qemu("debian-bookworm").firmware)])
    assert asked == []
    builds.prepare([host])
    assert asked == [("debian-bullseye", "debian-trixie", "debian-sid")]
    assert builds.firmware(host).name == sid
    assert builds.missing([host]) == ()
    unknown = replace(host, firmware="seabios-0")
    with pytest.raises(UserError, match="no such firmware build: 'seabios-0'"):
        builds.prepare([unknown])


def test_a_named_firmware_of_another_architecture(
    store: ImageStore, tmp_path: Path
) -> None:
    """boards.yaml where the demo's images are built: what only the others have is built first."""
    fresh = ImageStore(cache=linked_cache(store, tmp_path, *store.names()))
    versions = {"debian-trixie-aarch64": "2025.02-8", "debian-trixie-riscv64": "1.6-1",
                "debian-trixie-ppc64": "1-10.0.13", "debian-trixie-sparc64": "1-10.0.13",
                "debian-trixie-loongarch64": "2025.02-8",
                "debian-sid-loongarch64": "2026.08-2", "debian-bookworm-s390x": "1-7.2-1"}
    built: list[str] = []

    def build(names: Iterable[str]) -> None:
        for name in names:
            version = versions.get(name, "0.1-1")
            kinds: list[dict[str, Any]] = [
                {"short": kind, "name": f"{kind}-{version}",
                 "file": "f", "sha256": f"{kind} of {version}", "size": 1,
                 "interface": "uefi", "prints": None, "variables": None, "machines": [],
                 "features": [], "payload": None, "store_size": 0}
                for kind in fresh.kinds(name)]  # fmt: skip
            fresh._facts_file(name).write_text(facts_text({"firmware": kinds}))
            built.append(name)

    matrix = load(MATRICES / "boards.yaml")
    builds = Builds(fresh, tmp_path / "own")
    builds.check(matrix.used_hosts, matrix.place)
    while missing := builds.missing(matrix.used_hosts):
        build(missing)
    assert set(built) == set(store.names(None)) - set(store.names())
    assert {"aavmf-2025.02-8", "opensbi-1.6-1"} <= {build.name for build in fresh.firmwares()}


def test_a_wrong_name_is_told_before_anything_is_built(
    store: ImageStore, tmp_path: Path
) -> None:
    builds = Builds(ImageStore(cache=linked_cache(store, tmp_path, "debian-sid")), tmp_path / "own")
    host = HostSpec("h", "debian-sid", "seabois-1.14.0")
    with pytest.raises(UserError) as error:
        builds.check([host])
    assert str(error.value).startswith("no such firmware build: 'seabois-1.14.0' (near it: seabios")


def test_a_directory_of_firmware_as_an_axis(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "fw").mkdir()
    for name in ("a", "b"):
        (tmp_path / "fw" / f"{name}.bin").write_bytes(
            sid_firmware(store, name))
    file = tmp_path / "m.yaml"
    file.write_text("""
schema: 1
hosts:
  old: {qemu: debian-bullseye}
  new: {qemu: debian-sid, firmware: {directory: fw}}
axes:
  source: old
  destination: new
  host-3: new
  machine: pc-i440fx-5.2
  policy: stock
  scenario: [migrate-reset, chain]
exclude:
  - {scenario: chain, host-3: new-a}
  - {scenario: chain, destination: new-b}
known:
  - {when: {destination.host: new}, verdict: silent, reason: none}
""")
    matrix = load(file)
    assert [host.name for host in matrix.hosts] == ["old", "new-a", "new-b"]
    assert [cell.id.split(",")[0] for cell in matrix.cells(lambda qemu: ())] == [
        "old-to-new-a", "old-to-new-a-to-new-b", "old-to-new-b"]
    assert matrix.known[0].when == (("destination.host", ("new-a", "new-b")),)
    Builds(store, tmp_path / "own").check(matrix.used_hosts, matrix.place)
    file.write_text(file.read_text().replace("exclude:", "exclude:\n  - {destination: new}"))
    with pytest.raises(UserError, match="no cell remains"):
        load(file).cells(lambda qemu: ())


# ---- the command line ---------------------------------------------------------------------------

MATRIX = """
schema: 1
hosts:
  bullseye: {qemu: debian-bullseye}
  sid: {qemu: debian-sid}
axes:
  machine: pc-i440fx-5.2
  policy: machine-owned
  scenario: migrate-reset
  disk: ide
exclude:
  - {destination: "=source"}
"""
CELL = "pc-i440fx-5.2,machine-owned,migrate-reset,ide"


def command(here: Path, *arguments: str | Path, status: int = 0) -> str:
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("PYTEST_", "COLUMNS"))}
    program = Path(sys.executable).with_name(str(arguments[0]))
    environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    if program.name == "bootmatrix":
        done = forked.run([program, *arguments[1:]], cwd=here, env=environment)
    else:
        done = subprocess.run([program, *arguments[1:]], cwd=here, text=True, timeout=300,
                              capture_output=True, env=environment)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def records(file: Path) -> dict[str, dict[str, Any]]:
    found = (json.loads(line) for line in file.read_text().splitlines())
    return {record["cell"]["id"]: record for record in found}


@pytest.fixture
def here(store: ImageStore, tree: Path, tmp_path: Path) -> Path:
    (tmp_path / "m.yaml").write_text(MATRIX)
    (tmp_path / "out").mkdir()
    image = sid_firmware(store)
    (tmp_path / "out" / "bios.bin").write_bytes(image)
    return tmp_path


OWN = ("--qemu", "head=build", "--firmware", "test=out/bios.bin", "--host", "head/test")
IDS = {f"{way},{CELL}" for way in ("bullseye-to-head+test", "sid-to-head+test",
                                   "head+test-to-bullseye", "head+test-to-sid")}


@pytest.mark.thorough
def test_my_build_against_all_others_in_both_directions(here: Path) -> None:
    listed = command(here, "bootmatrix", "list", "m.yaml", *OWN).splitlines()
    assert {line for line in listed if CELL in line} == IDS
    assert "4 cells" in listed
    said = command(here, "bootmatrix", "run", "m.yaml", *OWN, "--engine", "bubblewrap", "-n", "2",
                   "--json", "all.jsonl")
    found = records(here / "all.jsonl")
    assert set(found) == IDS
    for record in found.values():
        assert record["verdict"] == "pass", record["reason"]
        mine = next(record["cell"][role] for role in ("source", "destination")
                    if record["cell"][role]["host"] == "head+test")
        assert mine["build"] == "head"
        assert re.fullmatch("test-[0-9a-f]{8}", mine["firmware"])
    # What is offered as the command for one cell does run that cell again.
    again = next(line for line in said.splitlines() if line.startswith("one cell again: "))
    words = shlex.split(again.partition(": ")[2])
    assert words[2:9] == ["m.yaml", *OWN]
    command(here, "bootmatrix", *words[1:], "--json", "one.jsonl")
    assert set(records(here / "one.jsonl")) == {words[-1]}


def test_hosts_that_the_matrix_or_the_catalogue_has(
    here: Path, seabios: dict[str, FirmwareBuild]
) -> None:
    def ways(*options: str) -> list[str]:
        listed = command(here, "bootmatrix", "list", "m.yaml", *options)
        return [line.partition(",")[0] for line in listed.splitlines() if CELL in line]

    assert ways("--host", "sid") == ["bullseye-to-sid", "sid-to-bullseye"]
    assert ways("--host", "debian-trixie") == [
        "bullseye-to-debian-trixie", "sid-to-debian-trixie",
        "debian-trixie-to-bullseye", "debian-trixie-to-sid"]
    old = seabios["bullseye"].name
    assert ways("--host", f"debian-sid/{old}", "-k", "bullseye") == [
        f"bullseye-to-debian-sid+{old}", f"debian-sid+{old}-to-bullseye"]
    two = ways("--host", "head", "--qemu", "head=build", "--host", "sid")
    assert len(two) == 6
    assert "bullseye-to-sid" in two
    assert "head-to-sid" in two
    # A definition stands before the catalogue: the matrix's own sid is the user's build now.
    assert ways("--qemu", "debian-sid=build") == ["bullseye-to-sid", "sid-to-bullseye"]


def test_a_directory_on_the_command_line(here: Path) -> None:
    shutil.copy(here / "out" / "bios.bin", here / "out" / "other.rom")
    listed = command(here, "bootmatrix", "list", "m.yaml", "--firmware", "test=out",
                     "--host", "debian-sid/test", "-k", "bullseye")
    assert f"bullseye-to-debian-sid+test-bios,{CELL}" in listed.splitlines()
    assert f"bullseye-to-debian-sid+test-other,{CELL}" in listed.splitlines()


@pytest.mark.slow
def test_the_same_with_plain_pytest_and_workers(here: Path) -> None:
    options = [f"--bootmatrix-{name[2:]}={value}" for name, value in zip(
        OWN[::2], OWN[1::2], strict=True)]
    said = command(here, "pytest", "m.yaml", "-q", "-n", "2", "-k", "sid", *options,
                   "--bootmatrix-engine", "bubblewrap", "--bootmatrix-records", "all.jsonl")
    assert "2 passed" in said
    assert set(records(here / "all.jsonl")) == {cell for cell in IDS if "sid" in cell}


def test_a_replaced_build_is_the_users(here: Path, store: ImageStore) -> None:
    command(here, "bootmatrix", "run", "m.yaml", "--qemu", "debian-sid=build", "-k",
            "bullseye-to-sid", "--engine", "bubblewrap", "--json", "all.jsonl")
    record = records(here / "all.jsonl")[f"bullseye-to-sid,{CELL}"]
    assert record["verdict"] == "pass", record["reason"]
    assert record["cell"]["destination"]["qemu"] == store.qemu("debian-bookworm").version


# ---- other sources ------------------------------------------------------------------------------


def test_in_a_test_of_ones_own(
    builds: Builds, bubblewrap: Engine, tree: Path, tmp_path: Path,
    seabios: dict[str, FirmwareBuild],
) -> None:
    old, new = seabios["bullseye"].name, seabios["bookworm"].name
    head = QemuSource(tree, name="head")
    with Lab(builds, bubblewrap, tmp_path / "lab") as lab:
        guest = lab.guest("debian-bullseye", head, machine="pc-i440fx-5.2", policy="machine-owned")
        assert guest.start("debian-bullseye").firmware == old
        assert guest.migrate("head").rom == old
        assert guest.reset().firmware == new


@pytest.mark.slow
def test_a_suite_at_a_version(store: ImageStore, tmp_path: Path) -> None:
    """The very packages that the catalogue's own build has, so the very same root."""
    there = store.qemu("debian-bookworm")
    version = dict(there.packages)["qemu-system-x86"]
    fresh = ImageStore(cache=tmp_path / "cache")
    source = QemuSource(suite="bookworm", package_version=version)
    builds = Builds(fresh, tmp_path / "own")
    build = builds.qemu(source)
    assert build.digest == there.digest
    assert build.packages == there.packages
    assert build.name.startswith("debian-bookworm-1-7.2")
    assert builds.firmware(HostSpec("h", source)).name == there.firmware
    assert debian.ask(build.root, build.binary, "--version").startswith("QEMU emulator")


def test_a_suite_that_the_catalogue_has(store: ImageStore, builds: Builds) -> None:
    build = builds.qemu(QemuSource(suite="trixie", name="head"))
    assert replace(build, name="debian-trixie", root_name="") == store.qemu("debian-trixie")
    assert build.name == "head"


# ---- a whole root -------------------------------------------------------------------------------


def test_a_root_of_somebody_elses(
    store: ImageStore, builds: Builds, bubblewrap: Engine, tmp_path: Path
) -> None:
    """An unpacked distribution, in which the program is not where one would look for it."""
    bookworm = store.qemu("debian-bookworm")
    theirs = tmp_path / "theirs"
    unpacked(bookworm.root, theirs)
    program = "usr/bin/qemu-system-x86_64"
    (theirs / program).rename(theirs / "usr" / "bin" / "mine")
    (theirs / "opt").mkdir(exist_ok=True)
    (theirs / "opt" / "qemu").symlink_to("/usr/bin/mine")
    (theirs / "usr" / "bin" / "busybox").unlink()
    host = HostSpec("root", QemuSource(root=theirs, program="opt/qemu", name="theirs"))
    builds.check([host])
    with Runner(builds, bubblewrap, tmp_path / "run") as runner:
        record = runner.run(between(HOSTS["bullseye"], host, "machine-owned"))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert record["boots"][1]["rom"] == bookworm.firmware
    told: Any = record["cell"]["destination"]
    assert (told["build"], told["qemu"]) == ("theirs", bookworm.version)
    with pytest.raises(UserError, match="holds this host's cache of builds"):
        builds.qemu(QemuSource(root=tmp_path, program="theirs/usr/bin/mine"))


@pytest.mark.docker
@pytest.mark.parametrize("name", [
    "bubblewrap", pytest.param("docker", marks=pytest.mark.thorough)])
def test_an_image_of_the_docker_engine(
    store: ImageStore, builds: Builds, name: str, tmp_path: Path
) -> None:
    """In both engines alike, with what is in the image and nothing else."""
    bookworm = store.qemu("debian-bookworm")
    image = f"bootmatrix-test-{os.getpid()}:{name}"
    client = docker.from_env()
    volumes = {volume["Name"] for volume in client.api.volumes()["Volumes"] or ()}
    try:
        subprocess.run(["sh", "-c", 'tar -C "$1" --exclude=./usr/bin/busybox --exclude=./cell '
                        '--exclude=./usr/share/doc --exclude=./usr/share/locale -c . '
                        '| docker import --change "VOLUME /usr/share" - "$2"',
                        "sh", str(bookworm.root), image],
                       check=True, capture_output=True, timeout=300)
        host = HostSpec("image", QemuSource(image=image, name="boxed"))
        builds.prepare([host])
        build = builds.qemu(host.qemu)
        assert (build.name, build.version, build.firmware) == (
            "boxed", bookworm.version, bookworm.firmware)
        with choose(name) as engine, Runner(builds, engine, tmp_path / "run") as runner:
            record = runner.run(between(HOSTS["bullseye"], host, "machine-owned"))
        assert record["verdict"] == Verdict.PASS, record["reason"]
        assert record["boots"][1]["rom"] == bookworm.firmware
        assert client.api.containers(all=True, filters={"ancestor": image}) == []
        assert {volume["Name"] for volume in client.api.volumes()["Volumes"] or ()} <= volumes
    finally:
        own = tmp_path / "cache" / "own"
        remove_images([path.name for path in own.glob("image-*")], own)
        client.api.remove_image(image, force=True)
        client.close()


def test_copies_can_be_removed(
    store: ImageStore, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but those that a run is using, and what was built of other suites."""
    home = here / "home" / "bootmatrix"
    linked_cache(store, home, "debian-bookworm")
    (home / "roots" / "debian-etch-1-0123456789abcdef").mkdir()
    (home / "roots" / "debian-etch-1-0123456789abcdef.lock").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "home"))
    bios = HostSpec("h", "debian-bookworm", FirmwareSource(here / "out" / "bios.bin"))
    only = ImageStore(cache=home)
    with Builds(only, home) as used, Builds(only, home) as unused:
        kept = used.qemu(QemuSource(here / "build")).mounts[0][0]
        gone = unused.firmware(bios).path
        unused.close()
        assert "copies of your own builds: " in command(here, "bootmatrix", "images", "list")
        command(here, "bootmatrix", "images", "rm", "own")
        assert kept.is_dir()
        assert not gone.exists()
        assert not list((home / "roots").glob("debian-etch*"))
        assert only.is_built("debian-bookworm")
