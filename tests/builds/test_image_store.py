"""The catalogue, its cache, and one real build; the rest looks at the machine's own cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds import image_store
from bootmatrix.builds.image_store import ImageStore, facts_text, parse_machines
from bootmatrix.errors import ImageError, UserError
from bootmatrix.model import Arch, Interface
from bootmatrix.roots import debian
from bootmatrix.roots.debian import host_mirror
from helpers.catalogues import SMALL

SHIPPED = ("debian-bullseye", "debian-bookworm", "debian-trixie", "debian-sid")


@pytest.fixture(scope="module")
def store() -> ImageStore:
    """All of the catalogue, in the cache that is shared by everything on this machine."""
    shared = ImageStore()
    shared.build(shared.names(), print)
    return shared


# ---- the shipped catalogue, built -------------------------------------------------------


def test_the_shipped_builds(store: ImageStore) -> None:
    assert store.names() == SHIPPED
    builds = [store.qemu(name) for name in SHIPPED]
    assert [build.version.split(".")[0] for build in builds] == ["5", "7", "10", "11"]
    for build in builds:
        assert (build.root / build.binary.lstrip("/")).is_file()
        assert {"pc-i440fx-5.2", "pc-q35-5.2"} <= set(build.machines)
        assert not {"pc", "q35"} & set(build.machines)
        assert build.default_machine in build.machines
        packages = dict(build.packages)
        assert build.firmware == f"seabios-{packages['seabios']}"
        release = ".".join(build.version.split(".")[:2])
        assert packages["qemu-system-x86"].startswith(f"1:{release}")
    assert len({build.digest for build in builds}) == 4


UEFI = ("ovmf-4m", "ovmf-4m-secure", "ovmf-4m-ms", "ovmf-4m-snakeoil", "ovmf-combined")


def test_the_shipped_firmware(store: ImageStore) -> None:
    firmwares = {firmware.name: firmware for firmware in store.firmwares()}
    for name in SHIPPED:
        assert store.qemu(name).firmware == store.beside(name, "seabios").name
        for kind in store.kinds(name):
            firmware = store.beside(name, kind)
            assert firmware == firmwares[firmware.name] == store.firmware(firmware.name)
            assert firmware.name.startswith(f"{kind}-")
            image = firmware.path.read_bytes()
            code = hashlib.sha256(firmware.code_of(image)).hexdigest()
            assert (len(image), code) == (firmware.size, firmware.sha256)
            assert firmware.prints
            assert (firmware.interface is Interface.UEFI) == kind.startswith("ovmf")
    bios = [store.beside(name, "seabios") for name in SHIPPED]
    assert len({firmware.sha256 for firmware in bios}) == 4


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_ovmf(store: ImageStore, name: str) -> None:
    found = {kind: store.beside(name, kind) for kind in UEFI}
    for kind, firmware in found.items():
        assert firmware.needs_smm == (kind not in ("ovmf-4m", "ovmf-combined"))
        assert ("pc-i440fx-*" in firmware.machines) == (not firmware.needs_smm)
        assert ("enrolled-keys" in firmware.features) == kind.endswith(("-ms", "-snakeoil"))
        assert (firmware.variables is None) == (kind == "ovmf-combined") == (
            firmware.store_size > 0)
    # The same code: which of them it is, their variables tell.
    assert found["ovmf-4m-ms"].sha256 == found["ovmf-4m-secure"].sha256
    old = "ovmf-2m" in store.kinds(name)
    assert old == (name in SHIPPED[:2]) == (found["ovmf-combined"].size == 2 << 20)
    alike = store.beside(name, "ovmf-2m") if old else found["ovmf-4m"]
    assert alike.sha256 == found["ovmf-combined"].sha256


@pytest.mark.parametrize(("architecture", "kinds"), [
    ("aarch64", ("aavmf", "aavmf-ms")), ("riscv64", ("opensbi",)),
])
@pytest.mark.slow
def test_builds_for_other_architectures(
    store: ImageStore, architecture: str, kinds: tuple[str, ...]
) -> None:
    arch = Arch(architecture)
    assert len(store.names(arch)) == 4
    name = store.for_arch("debian-bookworm", arch)
    assert name == store.for_arch(name, arch) == f"debian-bookworm-{architecture}"
    store.build([name], print)
    build = store.qemu(name)
    assert (build.arch, build.version) == (arch, store.qemu("debian-bookworm").version)
    assert build.binary == f"/usr/bin/qemu-system-{architecture}"
    assert any(machine.startswith("virt") for machine in build.machines)
    for kind in kinds:
        firmware = store.beside(name, kind)
        assert firmware.interface is Interface.UEFI
        assert firmware.path.is_file()
        assert (firmware.payload is not None) == (arch is Arch.RISCV64)
        assert not firmware.payload or b"U-Boot 2023.01" in firmware.payload.read_bytes()
    row = next(row for row in store.listing() if row.name == name)
    # Debian 12 ships a descriptor of a file that it does not ship.
    assert row.lacks == {"aarch64": (
        "aavmf-secure: qemu-efi-aarch64 brings no usr/share/AAVMF/AAVMF_CODE.secboot.fd",
    )}.get(architecture, ())
    with pytest.raises(UserError, match=f"^{name} has no aavmf-secure .it has: {kinds[0]}"):
        store.beside(name, "aavmf-secure")


def test_an_architecture_that_a_build_is_not_for(store: ImageStore) -> None:
    assert store.for_arch("debian-sid", Arch.X86_64) == "debian-sid"
    with pytest.raises(UserError, match=r"^debian-sid-aarch64 emulates aarch64, not x86_64 \(for"):
        store.for_arch("debian-sid-aarch64", Arch.X86_64)
    with pytest.raises(UserError, match="no such QEMU build: 'debian-woody'"):
        store.for_arch("debian-woody", Arch.AARCH64)


def test_every_file_can_be_read_by_everyone_and_none_is_privileged(store: ImageStore) -> None:
    for name in SHIPPED:
        for path in store.qemu(name).root.rglob("*"):
            if not path.is_symlink():
                mode = path.stat().st_mode
                assert mode & 0o7777 in ((0o755,) if path.is_dir() else (0o644, 0o755)), path


def test_nothing_in_a_root_tells_of_the_host(store: ImageStore) -> None:
    """Neither the mirror nor the host's name: in no small file, and not in the facts."""
    mirror = (host_mirror() or "no mirror").encode()
    for name in SHIPPED:
        root = store.qemu(name).root
        assert mirror not in Path(f"{root}.json").read_bytes()
        for path in (*root.glob("etc/**/*"), *root.glob("var/**/*")):
            if path.is_file():
                assert mirror not in path.read_bytes(), path
        assert not (root / "etc/hostname").exists()


def test_the_listing(store: ImageStore) -> None:
    rows = {row.name: row for row in store.listing()}
    assert tuple(rows) == store.names(None)
    for row in map(rows.__getitem__, SHIPPED):
        assert row.built
        assert row.suite == row.name.removeprefix("debian-")
        assert row.size > 100e6
        assert row.digest == store.qemu(row.name).digest
        assert row.when.startswith("20")


def test_what_is_built_is_not_built_again(store: ImageStore) -> None:
    told: list[str] = []
    store.build(SHIPPED, told.append)
    assert told == []


# ---- building ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_build_from_nothing(store: ImageStore, tmp_path: Path) -> None:
    """The same root as the shared one, to the last bit; then gone without a trace.

    A dead builder's leavings are in its way, and two processes ask for it at once.
    """
    name = "debian-bookworm"
    fresh = ImageStore(cache=tmp_path)
    assert not fresh.is_built(name)
    leavings = fresh._work(name) / "root" / "usr"
    leavings.mkdir(parents=True)
    (leavings / "half").write_text("")
    leavings.chmod(0o000)
    fresh._root(name).mkdir()  # a root without its facts counts for nothing

    other = subprocess.Popen(
        [sys.executable, "-c",
         "import sys; from pathlib import Path\n"
         "from bootmatrix.builds.image_store import ImageStore\n"
         "ImageStore(cache=Path(sys.argv[1])).build([sys.argv[2]], print)",
         str(tmp_path), name],
        stdout=subprocess.PIPE, text=True,
    )
    told: list[str] = []
    fresh.build([name], told.append)
    others, _ = other.communicate(timeout=300)
    assert other.returncode == 0
    told += others.splitlines()

    assert sum("built in" in line for line in told) == 1, told
    assert f"{name}: 1/1 building" in told
    built = fresh.qemu(name)
    assert built.digest == store.qemu(name).digest
    assert built.packages == store.qemu(name).packages
    assert not (built.root / "usr" / "half").exists()
    assert not fresh._work(name).exists()

    size = sum(path.lstat().st_size for path in built.root.rglob("*") if not path.is_dir())
    assert fresh.remove([name]) == size
    assert list((tmp_path / "roots").iterdir()) == []
    assert not fresh.is_built(name)
    with pytest.raises(ImageError, match="not built"):
        fresh.qemu(name)


def fake_tools(path: Path, monkeypatch: pytest.MonkeyPatch, mmdebstrap: str) -> None:
    """Put a mmdebstrap of our own before the real one."""
    path.mkdir()
    tool = path / "mmdebstrap"
    tool.write_text(f"#!/bin/sh\n{mmdebstrap}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")


def test_a_build_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalogue: Callable[[str], Path]
) -> None:
    fake_tools(tmp_path / "bin", monkeypatch, "echo 'E: no such suite' >&2; exit 25")
    store = ImageStore(catalogue(SMALL), tmp_path / "cache")
    with pytest.raises(ImageError) as failed:
        store.build(["small"], print)
    assert failed.value.status == 25
    assert failed.value.tail == "E: no such suite"
    assert "mmdebstrap failed" in str(failed.value)
    assert [path.suffix for path in (tmp_path / "cache" / "roots").iterdir()] == [".lock"]
    assert not store.is_built("small")


def test_packages_that_lack_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalogue: Callable[[str], Path]
) -> None:
    script = 'd=$(mktemp -d); touch "$d/.packages"; tar -C "$d" -c .; rm -r "$d"'
    fake_tools(tmp_path / "bin", monkeypatch, script)
    store = ImageStore(catalogue(SMALL), tmp_path / "cache")
    with pytest.raises(ImageError, match="usr/bin/qemu-system-x86_64 is not in the packages"):
        store.build(["small"], print)
    assert not store.is_built("small")


def test_without_mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="apt install mmdebstrap bubblewrap"):
        ImageStore(cache=tmp_path).build(["debian-sid"], print)


def test_the_key_follows_the_entry(tmp_path: Path, catalogue: Callable[[str], Path]) -> None:
    roots = set()
    for old, new in (
        ("", ""), ("bookworm", "trixie"), ("seabios]\n", "seabios, ipxe-qemu]\n"),
        ("bios-256k", "bios"), ("    small:", "    # other words\n      small:"),
    ):
        roots.add(ImageStore(catalogue(SMALL.replace(old, new, 1)), tmp_path)._root("small").name)
    assert len(roots) == 4  # a comment changes nothing


def test_a_damaged_file_of_facts(tmp_path: Path, catalogue: Callable[[str], Path]) -> None:
    store = ImageStore(catalogue(SMALL), tmp_path)
    facts = store._facts_file("small")
    facts.parent.mkdir()
    facts.write_text('{"version": ')
    with pytest.raises(ImageError, match=r"damaged.*bootmatrix images rm small"):
        store.qemu("small")


def test_removing_touches_no_other_build(tmp_path: Path, catalogue: Callable[[str], Path]) -> None:
    two = SMALL + SMALL.split("qemu:\n")[1].replace("small", "small-too")
    store = ImageStore(catalogue(two), tmp_path)
    for name in store.names():
        root = store._root(name)
        root.mkdir(parents=True)
        (root / "file").write_text("12345")
        Path(f"{root}.lock").touch()
        Path(f"{root}.docker").touch()
        store._facts_file(name).write_text("{}")
    former = tmp_path / "roots" / f"small-{'0' * 16}"  # of an entry that has changed since
    former.mkdir()
    Path(f"{former}.lock").touch()
    assert store.remove(["small"]) == 5
    assert {path.name.split(".")[0] for path in (tmp_path / "roots").iterdir()} == {
        store._root("small-too").name
    }


def test_two_images_of_one_name(tmp_path: Path, catalogue: Callable[[str], Path]) -> None:
    two = SMALL + SMALL.split("qemu:\n")[1].replace("small", "small-too")
    store = ImageStore(catalogue(two), tmp_path)
    (tmp_path / "roots").mkdir()
    for name in store.names():
        firmware = {"short": "seabios", "name": "seabios-1", "file": "f", "size": 1,
                    "interface": "bios", "prints": None, "variables": None, "payload": None,
                    "machines": [], "features": [], "store_size": 0,
                    "sha256": hashlib.sha256(name.encode()).hexdigest()}
        store._facts_file(name).write_text(facts_text({"firmware": [firmware]}))
    with pytest.raises(ImageError, match="two different images are called seabios-1"):
        store.firmwares()


@pytest.mark.thorough
def test_a_package_that_does_not_have_what_it_should(
    store: ImageStore, tmp_path: Path, catalogue: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Further firmware is left out with a word; without the one beside its QEMU there is no build.

    Nothing is downloaded: what is unpacked is a copy of Debian 12's firmware.
    """
    def unpack(suite: str, packages: object, mirror: object, work: Path, root: Path) -> None:
        for name in ("usr/share/seabios", "usr/share/OVMF", "usr/share/qemu/firmware"):
            shutil.copytree(store.qemu("debian-bookworm").root / name, root / name)
        (root / "bin").mkdir()
        for name in ("bin/busybox", "usr/bin/qemu-system-x86_64"):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(b"")
        (root / "usr/share/OVMF/OVMF_CODE_4M.fd").unlink()
        (root / "usr/share/qemu/firmware/40-edk2-x86_64-secure-enrolled.json").write_text("{}")
        (root / ".packages").write_text("seabios_1.16.2~bpo-1_all.deb\novmf_2022.11-6_all.deb\n")

    said = {"--version": "QEMU emulator version 7.2.0", "help": "Machines:\npc-q35-7.2  (default)"}
    monkeypatch.setattr(debian, "unpack", unpack)
    monkeypatch.setattr(debian, "ask", lambda *words: said[words[-1]])
    further = """
      gone: {package: ovmf, descriptor: 60-edk2-x86_64.json}
      broken: {package: ovmf, descriptor: 40-edk2-x86_64-secure-enrolled.json}
    qemu:"""
    text = SMALL.replace("\n    qemu:", further, 1).replace("86, seabios]", "86, seabios, ovmf]")
    text = text.replace("firmware: [seabios]", "firmware: [seabios, gone, broken]")
    small = ImageStore(catalogue(text), tmp_path)
    told: list[str] = []
    small.build(["small"], told.append)
    lacks = ("gone: ovmf brings no usr/share/OVMF/OVMF_CODE_4M.fd",
             "broken: ovmf's usr/share/qemu/firmware/40-edk2-x86_64-secure-enrolled.json: mapping: "
             "is missing (QEMU's docs/interop/firmware.json)")
    assert small.listing()[0].lacks == lacks
    assert [line for line in told if "without" in line] == [
        f"small: 1/1 goes without {lack}" for lack in lacks]
    assert small.qemu("small").firmware == "seabios-1.16.2-bpo-1"  # a name for ids and shells
    with pytest.raises(UserError, match=r"^small has no gone \(it has: seabios\)"):
        small.beside("small", "gone")

    first = ImageStore(catalogue(text.replace("[seabios, gone", "[gone, seabios")), tmp_path)
    with pytest.raises(ImageError, match=r"small: ovmf brings no usr/share/OVMF/OVMF_CODE_4M\.fd"):
        first.build(["small"], told.append)


# ---- names and files --------------------------------------------------------------------


def test_unknown_names(store: ImageStore) -> None:
    with pytest.raises(UserError, match=r"no such QEMU build: 'debian-woody' \(accepted: debian-b"):
        store.qemu("debian-woody")
    with pytest.raises(UserError, match=r"no such firmware build: 'ovmf' \(near it: ovmf-"):
        store.firmware("ovmf")
    for act in (store.is_built, lambda name: store.remove([name]),
                lambda name: store.build([name], print)):
        with pytest.raises(UserError, match="no such QEMU build"):
            act("debian-woody")


def test_the_machines_in_qemu_s_help() -> None:
    text = """Supported machines are:
microvm              microvm (i386)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-10.0)
pc-i440fx-10.0       Standard PC (i440FX + PIIX, 1996) (default)
pc-i440fx-2.4        Standard PC (i440FX + PIIX, 1996) (deprecated)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-10.0)
none                 empty machine
"""
    assert parse_machines(text) == (
        ["microvm", "pc-i440fx-10.0", "pc-i440fx-2.4", "none"], "pc-i440fx-10.0"
    )


def test_a_name_that_no_machine_has_is_left_out() -> None:
    names = ("pc-\x1b[2J", "x,graphics=on", "-help", "<b>", "pc-" + "9" * 5000, "٩", "\u202e")
    text = "".join(f"{name}  Standard PC (default)\n" for name in (*names, "pc-q35-9.2", *names))
    assert parse_machines(f"Supported machines are:\n{text}") == (["pc-q35-9.2"], "pc-q35-9.2")


@pytest.mark.parametrize(("value", "base"), [
    ("/some/where", Path("/some/where")), ("", Path.home() / ".cache"),
    ("relative", Path.home() / ".cache"),  # to be ignored, says the specification
])
def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, value: str, base: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert image_store.cache_home() == base / "bootmatrix"


# ---- what a failing or interrupted mmdebstrap leaves -------------------------------------------


BUILDING = """
import signal, sys
from pathlib import Path
from bootmatrix.builds.image_store import ImageStore

for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have had them ignored
    signal.signal(number, signal.default_int_handler)
try:
    ImageStore(cache=Path(sys.argv[1])).build(["debian-sid"], print)
except KeyboardInterrupt:
    sys.exit("interrupted")
except BaseException as error:
    sys.exit(f"{type(error).__name__}: {error.message}")
"""


def builder(here: Path, path: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDING, here / "cache"], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env=os.environ | {"TMPDIR": str(here), "PATH": path})


@pytest.mark.slow
def test_a_full_disk_ends_a_build_and_nothing_else(tmp_path: Path) -> None:
    """The real mmdebstrap sends SIGHUP to its process group where its output fails."""
    (tmp_path / "cache").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path / "cache"],
                   check=True)
    try:
        done = builder(tmp_path, os.environ["PATH"])
        told, _ = done.communicate(timeout=300)
        assert done.returncode == 1, told
        assert told.splitlines()[-1].endswith("mmdebstrap failed"), told
        assert [path.name for path in tmp_path.iterdir()] == ["cache"]
        left = {path.suffix for path in (tmp_path / "cache" / "roots").iterdir()}
        assert left == {".lock"}
    finally:
        subprocess.run(["umount", tmp_path / "cache"], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_takes_mmdebstrap_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    fake_tools(tmp_path / "bin", monkeypatch,
               'mktemp -d >/dev/null; sleep 1000 & echo $! >"$0.pid"; wait')
    os.mkfifo(tmp_path / "bin" / "mmdebstrap.pid")
    child = builder(tmp_path, os.environ["PATH"])
    pid = int((tmp_path / "bin" / "mmdebstrap.pid").read_text())
    child.send_signal(number)
    told, _ = child.communicate(timeout=300)
    assert (child.returncode, told.splitlines()[-1]) == (1, "interrupted")
    with contextlib.suppress(FileNotFoundError):  # nobody need have reaped it
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "cache"]


def test_an_interrupt_before_all_builds_have_been_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalogue: Callable[[str], Path]
) -> None:
    """What has begun by then is ended, too, and not waited for until its time is over."""
    fake_tools(tmp_path / "bin", monkeypatch, 'sleep 1234 & echo $! >"$0.pid"; wait')
    os.mkfifo(tmp_path / "bin" / "mmdebstrap.pid")
    begun: list[int] = []

    class Interrupted(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Any:
            super().submit(*arguments, **options)
            begun.append(int((tmp_path / "bin" / "mmdebstrap.pid").read_text()))
            raise KeyboardInterrupt

    monkeypatch.setattr(image_store, "ThreadPoolExecutor", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        ImageStore(catalogue(SMALL), tmp_path / "cache").build(["small"], print)
    with contextlib.suppress(FileNotFoundError):  # nobody need have reaped it
        assert Path(f"/proc/{begun[0]}/cmdline").read_bytes() == b""


# ---- removing beside others ---------------------------------------------------------------------

USER = """
    import sys
    from pathlib import Path
    from bootmatrix.builds.image_store import ImageStore
    store = ImageStore(cache=Path(sys.argv[1]))
    print(store.qemu(sys.argv[2]).name, flush=True)
    sys.stdin.read()
"""


@pytest.mark.thorough
def test_what_another_process_uses_is_not_removed(store: ImageStore, tmp_path: Path) -> None:
    """Not by the command either, which says so in one line and removes nothing; later it does."""
    name = "debian-bookworm"
    cache = tmp_path / "bootmatrix"
    (cache / "roots").mkdir(parents=True)
    root = store.qemu(name).root
    subprocess.run(["cp", "-a", root, cache / "roots"], check=True)
    shutil.copy(f"{root}.json", cache / "roots")
    command = [str(Path(sys.executable).with_name("bootmatrix")), "images", "rm", name]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(USER), cache, name], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == f"{name}\n"
        refused = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "debian-bookworm is in use by another process" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        with pytest.raises(UserError, match="is in use by another process"):
            ImageStore(cache=cache).remove([name])
        assert ImageStore(cache=cache).is_built(name)
        user.communicate("")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((cache / "roots").iterdir()) == []


def test_who_uses_a_build_himself_may_remove_it(store: ImageStore, tmp_path: Path) -> None:
    root = store.qemu("debian-bookworm").root
    (tmp_path / "roots").mkdir()
    subprocess.run(["cp", "-a", root, tmp_path / "roots"], check=True)
    shutil.copy(f"{root}.json", tmp_path / "roots")
    own = ImageStore(cache=tmp_path)
    own.qemu("debian-bookworm")
    own.remove(["debian-bookworm"])
    assert not own.is_built("debian-bookworm")
