"""A QEMU that nobody trusts yet is looked at, copied and asked as little as it may be run."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootmatrix.builds import asking
from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.engines import choose
from bootmatrix.engines.confinement import PROCESSES
from bootmatrix.engines.docker import remove_images
from bootmatrix.errors import UserError
from bootmatrix.model import HostSpec, QemuSource, Verdict
from bootmatrix.roots import elf, libraries
from bootmatrix.run.runner import Runner
from helpers.cells import HOSTS, cell
from helpers.own_builds import build_tree, unpacked

EVIL = Path(__file__).parents[1] / "programs" / "evil.c"
PROGRAM = "qemu-system-x86_64"


@pytest.fixture
def builds(store: ImageStore, tmp_path: Path) -> Iterator[Builds]:
    with Builds(store, tmp_path / "cache") as builds:
        yield builds


def evil(directory: Path, *options: str) -> Path:
    """A program that takes the place of a QEMU, in a tree of its own."""
    directory.mkdir()
    subprocess.run(["clang", "-static", "-O1", *options, "-o", directory / PROGRAM, EVIL],
                   check=True, capture_output=True)
    return directory


# ---- what an ELF says ---------------------------------------------------------------------------


def program(
    loader: str = "", needed: tuple[str, ...] = (), runpath: str = "", rpath: str = ""
) -> bytes:
    """A library, or with a loader a program, that has these in its dynamic section."""
    machine = next(n for n, name in elf._MACHINES.items() if name == platform.machine())
    strings, at = b"\0", {}
    for text in (*needed, runpath, rpath):
        at[text] = len(strings)
        strings += text.encode() + b"\0"
    entries = [(1, at[name]) for name in needed] + [(5, 0x1000)]
    entries += [(29, at[runpath])] * bool(runpath) + [(15, at[rpath])] * bool(rpath) + [(0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    interpreter = loader.encode() + b"\0" if loader else b""
    body = 64 + 3 * 56
    offsets = (body, body + len(strings), body + len(strings) + len(dynamic))
    headers = b"".join(
        struct.pack("<IIQQQQQQ", kind, 4, offset, address, address, size, size, 1)
        for kind, offset, address, size in (
            (1, offsets[0], 0x1000, len(strings)), (2, offsets[1], 0x2000, len(dynamic)),
            (3 if loader else 0, offsets[2], 0x3000, len(interpreter))))
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, machine, 1, 0, 64, 0, 0, 64,
                       56, 3, 0, 0, 0)
    return head + headers + strings + dynamic + interpreter


def test_what_a_program_asks_for(tmp_path: Path) -> None:
    file = tmp_path / "p"
    file.write_bytes(program("/lib/ld.so", ("libz.so.1", "libc.so.6"), "$ORIGIN/lib:/opt", "/old"))
    assert elf.read(file) == elf.Program(
        "/lib/ld.so", ("libz.so.1", "libc.so.6"), ("$ORIGIN/lib", "/opt"))
    file.write_bytes(program(needed=("libm.so.6",), rpath="/old"))
    assert elf.read(file) == elf.Program(
        None, ("libm.so.6",), ("/old",), inherited=True)


def test_it_says_what_the_linkers_own_tool_says() -> None:
    path = shutil.which("bash")
    assert path is not None
    told = subprocess.run(["llvm-readelf", "--needed-libs", path], check=True, text=True,
                          capture_output=True).stdout
    wanted = [line.strip() for line in told.splitlines()[1:-1]]
    assert sorted(elf.read(Path(path)).needed) == sorted(wanted)
    assert "libc.so.6" in wanted


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 479), st.integers(0, 255)), min_size=1, max_size=12))
def test_a_damaged_program_is_no_fault_of_ours(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(program("/lib/ld.so", ("libz.so.1", "libc.so.6"), "$ORIGIN/lib"))
    for at, value in changes:
        data[at % len(data)] = value
    file = tmp_path_factory.getbasetemp() / "damaged"
    file.write_bytes(data)
    with contextlib.suppress(UserError):  # and no other
        elf.read(file)


def test_a_fifo_and_a_device_are_no_programs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(UserError, match="is no regular file"):
            elf.read(path)


# ---- which libraries it gets --------------------------------------------------------------------


def put(root: Path, inside: str, content: bytes) -> None:
    file = root / inside.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def test_libraries_by_the_loaders_rules(tmp_path: Path) -> None:
    """Of its own tree, of what /etc/ld.so.conf says, of the loader's own; and of those theirs."""
    root, build = tmp_path / "root", tmp_path / "build"
    put(build, "qemu", program("/lib64/ld.so", ("own.so", "conf.so", "plain.so", "gone.so"),
                               "$ORIGIN/x/../lib"))
    put(build, "lib/own.so", program(needed=("deep.so", "lost.so")))
    put(root, "etc/ld.so.conf", b"# first\ninclude /etc/\ninclude /etc/ld.so.conf.d/*.conf\n")
    put(root, "etc/ld.so.conf.d/a.conf", b"/opt/conf\n")
    put(root, "opt/conf/conf.so", program())
    put(root, "opt/conf/plain.so", b"for no processor")
    put(root, "usr/lib/plain.so", program())
    put(root, "usr/lib/deep.so", program())
    tree = libraries.Tree(root, [(build, "/tmp/build")])
    found = libraries.resolve(tree, ["/tmp/build/qemu"], within="/tmp/build")
    assert {library.name: library.inside for library in found.libraries} == {
        "own.so": "/tmp/build/lib/own.so", "conf.so": "/opt/conf/conf.so",
        "plain.so": "/usr/lib/plain.so", "deep.so": "/usr/lib/deep.so"}
    assert found.missing == ("gone.so", "lost.so")


def test_a_program_names_no_directory_of_this_host(tmp_path: Path) -> None:
    """Neither by its RUNPATH nor by a name with a directory, nor by a link."""
    secret, root, build = tmp_path / "secret", tmp_path / "root", tmp_path / "build"
    put(secret, "key.so", program())
    put(build, "qemu", program("/lib64/ld.so", ("key.so", f"{secret}/key.so"),
                               f"{secret}:$ORIGIN/../secret:$ORIGIN/l"))
    root.mkdir()
    (build / "l").symlink_to(secret)
    tree = libraries.Tree(Path("/"), [(build, "/tmp/build")])
    found = libraries.resolve(tree, ["/tmp/build/qemu"], within="/tmp/build")
    assert found.libraries == ()
    assert found.missing == ("key.so", f"{secret}/key.so")


def test_a_loader_of_its_own_is_not_run(builds: Builds, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        (tmp_path / "s").chmod(0o777)
        listener.listen()
        listener.setblocking(False)
        loader = tmp_path / "loader"
        loader.write_text(f"#!{sys.executable}\nimport socket\n"
                          f"socket.socket(socket.AF_UNIX).connect({str(tmp_path / 's')!r})\n")
        loader.chmod(0o755)
        subprocess.run([loader], check=True)  # that it would be seen
        listener.accept()[0].close()
        tree = tmp_path / "tree"
        put(tree, PROGRAM, program(str(loader)))
        (tree / PROGRAM).chmod(0o755)
        with pytest.raises(UserError, match=f"lacks {loader}"):
            builds.qemu(QemuSource(tree))
        with pytest.raises(BlockingIOError):
            listener.accept()


# ---- asking it ----------------------------------------------------------------------------------


def test_asking_is_no_weaker_than_running(builds: Builds, tmp_path: Path) -> None:
    build = builds.qemu(QemuSource(evil(tmp_path / "tree")))
    _, uid, forks = map(int, build.version.split("."))
    assert uid == (os.getuid() or 65534)
    assert 0 < forks < PROCESSES
    assert build.machines == ("pc-i440fx-5.2",)


@pytest.mark.parametrize(("version", "taken"), [
    ("9" * 5000 + ".1.2", None),  # more digits than Python makes a number of
    ("9." * 2000 + "1", "9.9.9.9"),
    ("٩.٩.٩", None),
    ("9.2.1-rc1", "9.2.1"),
])
def test_a_version_that_no_record_could_hold_is_none(
    builds: Builds, tmp_path: Path, version: str, taken: str | None
) -> None:
    """A record with it could not be read again, nor those of other cells beside it."""
    source = QemuSource(evil(tmp_path / "tree", f'-DVERSION="{version}"'))
    if taken is None:
        with pytest.raises(UserError, match="is no QEMU: to --version it says"):
            builds.qemu(source)
    else:
        assert builds.qemu(source).version == taken


def test_a_flood_of_words_is_no_answer(builds: Builds, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not start"):
        builds.qemu(QemuSource(evil(tmp_path / "tree", "-DFLOOD")))


def test_no_answer_ends_with_its_time(
    builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SECONDS", 1.0)
    with pytest.raises(UserError, match=r"does not start: .* no end after 1 s"):
        builds.qemu(QemuSource(evil(tmp_path / "tree", "-DHANG")))


# ---- copying it ---------------------------------------------------------------------------------


def nowhere(secret: bytes, below: Path) -> bool:
    return not any(secret in file.read_bytes() for file in below.rglob("*") if file.is_file())


def test_a_build_directory_that_is_a_link_leads_out_of_its_tree(
    store: ImageStore, builds: Builds, tmp_path: Path
) -> None:
    build_tree(store, tmp_path / "elsewhere")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "build").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link out of its tree"):
        builds.prepare([HostSpec("evil", QemuSource(tree))])


@pytest.mark.parametrize("name", ["pc-bios/vgabios.bin", f"{PROGRAM}", "qemu-bundle/x/evil.so"])
def test_no_link_is_followed_out_of_its_tree(
    store: ImageStore, builds: Builds, tmp_path: Path, name: str
) -> None:
    tree = build_tree(store, tmp_path / "tree")
    secret = tmp_path / "elsewhere" / "secret"
    content = (tree / PROGRAM).read_bytes() if name == PROGRAM else b""
    put(secret.parent, "secret", content + b"my password")
    secret.chmod(0o755)
    link = tree / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    with pytest.raises(UserError, match="is a link out of its tree"):
        builds.qemu(QemuSource(tree))
    assert nowhere(b"my password", tmp_path / "cache")


def test_links_within_its_tree_are_its_own(
    store: ImageStore, builds: Builds, tmp_path: Path
) -> None:
    """As a build in a source tree has them: build/pc-bios/x.bin leads to ../../pc-bios."""
    build = build_tree(store, tmp_path / "source" / "build")
    (build / "pc-bios").rename(build.parent / "pc-bios")
    (build / "pc-bios").mkdir()
    for file in (build.parent / "pc-bios").iterdir():
        (build / "pc-bios" / file.name).symlink_to(file)
    for path in (build.parent, build, build / PROGRAM):
        assert builds.qemu(QemuSource(path)).version == store.qemu("debian-bookworm").version


def test_what_not_everyone_may_read(
    store: ImageStore, builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A harness that is root refuses it; of a plain user's a copy is no more readable."""
    tree = build_tree(store, tmp_path / "tree")
    private = tree / "pc-bios" / "kvmvapic.bin"
    private.chmod(0o600)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(UserError, match=r"kvmvapic.bin is not readable for everyone .*chmod o\+r"):
        builds.qemu(QemuSource(tree))
    (tree / PROGRAM).chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    from bootmatrix.builds import own_qemu
    from bootmatrix.roots.cache import Cache
    copy = own_qemu.copy(tree, Cache(tmp_path / "private"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode)
             for file in copy.directory.rglob("*") if file.is_file()}
    assert (modes["kvmvapic.bin"], modes[PROGRAM]) == (0o600, 0o700)
    assert modes["bios-256k.bin"] == 0o644


# ---- an image whose directories are links -------------------------------------------------------


@pytest.mark.docker
@pytest.mark.parametrize("name", [
    pytest.param("bubblewrap", marks=pytest.mark.thorough), "docker"])
def test_links_of_an_image_stay_in_it(
    store: ImageStore, builds: Builds, name: str, tmp_path: Path
) -> None:
    """Where things are mounted for it, links to directories of this host stand in its root."""
    root = unpacked(store.qemu("debian-bookworm").root, tmp_path / "root")
    (root / "opt").mkdir(exist_ok=True)
    (root / "usr").rename(root / "opt" / "usr")
    (root / "usr").symlink_to("/opt/usr")  # which this host does not have
    for place, target in (("cell", "/etc"), ("tmp", "/usr/bin"), ("proc", "/root")):
        shutil.rmtree(root / place)
        (root / place).symlink_to(target)
    assert not Path("/opt/usr").exists()
    image = f"bootmatrix-test-{os.getpid()}:links-{name}"
    client = docker.from_env()
    try:
        subprocess.run(["sh", "-c", 'tar -C "$1" -c . | docker import - "$2"', "sh", str(root),
                        image], check=True, capture_output=True, timeout=300)
        host = HostSpec("image", QemuSource(image=image, name="boxed"))
        with choose(name) as engine, Runner(builds, engine, tmp_path / "run") as runner:
            builds.prepare([host])
            source = cell("bullseye sid", "stock")
            record = runner.run(type(source)(
                (HOSTS["bullseye"], host), source.machine, source.policy, source.scenario,
                source.disk, seconds=source.seconds))
        assert record["verdict"] == Verdict.PASS, record["reason"]
        assert not Path("/opt/usr").exists()
    finally:
        remove_images([path.name for path in (tmp_path / "cache" / "own").glob("image-*")],
                      tmp_path / "cache")
        client.api.remove_image(image, force=True)
        client.close()
