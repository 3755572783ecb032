"""A QEMU of the user's own: what belongs to it, what is copied of it, and which root it gets."""

from __future__ import annotations

import shutil
import stat
import subprocess
from io import BufferedReader, BufferedWriter
from pathlib import Path

import pytest

from bootmatrix.builds.own_qemu import (
    PROGRAM,
    Root,
    choose_root,
    copy,
    data_directories,
    default_firmware,
    find,
    last_words,
)
from bootmatrix.errors import ImageError, UserError
from bootmatrix.files import given_file
from bootmatrix.roots import elf
from bootmatrix.roots.cache import Cache


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A build tree; its program is a real one of this host, which no test here runs."""
    build = tmp_path / "src" / "build"
    (build / "pc-bios").mkdir(parents=True)
    shutil.copy("/bin/true", build / PROGRAM)
    (build / PROGRAM).chmod(0o755)
    (build / "pc-bios" / "bios-256k.bin").write_bytes(b"bios")
    (build / "pc-bios" / "vgabios.bin").write_bytes(b"vga")
    return build


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.mark.parametrize("path", ["", "..", PROGRAM])
def test_what_a_path_may_be(tree: Path, path: str) -> None:
    assert find(tree / path).resolve() == tree / PROGRAM


def test_what_is_none(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"holds no {PROGRAM}"):
        find(tmp_path)
    (tree / PROGRAM).chmod(0o644)
    with pytest.raises(UserError, match="is not executable"):
        find(tree)
    (tree / PROGRAM).write_text("#!/bin/sh\n")
    with pytest.raises(UserError):
        find(tree)


def test_its_data_is_found_where_it_was_built_and_where_it_is_installed(
    tree: Path, tmp_path: Path
) -> None:
    assert data_directories(tree / PROGRAM)[0] == tree / "pc-bios"
    assert default_firmware(tree / PROGRAM) == tree / "pc-bios" / "bios-256k.bin"
    prefix = tmp_path / "usr"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "share" / "qemu").mkdir(parents=True)
    shutil.copy(tree / PROGRAM, prefix / "bin")
    (prefix / "share" / "qemu" / "rom.bin").touch()
    assert data_directories(prefix / "bin" / PROGRAM) == (prefix / "share" / "qemu",)
    assert default_firmware(prefix / "bin" / PROGRAM) is None


@pytest.mark.parametrize("share", ["bin/share/qemu", "share/qemu", "share/seabios"])
def test_its_data_is_found_beside_it_and_in_its_prefix(tmp_path: Path, share: str) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / share).mkdir(parents=True)
    (tmp_path / share / "bios-256k.bin").touch()
    assert data_directories(tmp_path / "bin" / PROGRAM) == (tmp_path / share,)


def test_named_data_comes_first(tree: Path, tmp_path: Path, cache: Cache) -> None:
    """As with QEMU's -L, the rest is looked for where it would be without."""
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(UserError, match="mine holds no data of a QEMU's"):
        copy(tree, cache, mine)
    (mine / "vgabios.bin").write_bytes(b"mine")
    made = copy(tree, cache, mine)
    assert made.arguments == ("-L", "/tmp/build/data0", "-L", "/tmp/build/data1")
    assert (made.directory / "data0" / "vgabios.bin").read_bytes() == b"mine"
    (mine / "bios-256k.bin").write_bytes(b"bios of mine")
    made = copy(tree, cache, mine)
    assert made.arguments == ("-L", "/tmp/build/data0")
    assert made.firmware is not None
    assert made.firmware.read_bytes() == b"bios of mine"
    (mine / "x.bin").symlink_to(tree / PROGRAM)
    (tmp_path / "secret.bin").touch()
    (mine / "y.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(UserError, match=r"y\.bin is a link out of its tree, to /"):
        copy(tree, cache, mine)


def test_a_copy_is_called_by_its_bytes(tree: Path, cache: Cache) -> None:
    first = copy(tree, cache)
    assert first == copy(tree, cache)
    assert (first.directory / first.program).read_bytes() == (tree / PROGRAM).read_bytes()
    assert first.firmware is not None
    assert first.firmware.read_bytes() == b"bios"
    assert first.arguments == ("-L", "/tmp/build/data0")
    assert first.binary == f"/tmp/build/{PROGRAM}"
    assert first.loader == "/lib64/ld-linux-x86-64.so.2"
    (tree / "pc-bios" / "vgabios.bin").write_bytes(b"new")
    second = copy(tree, cache)
    assert second.digest != first.digest
    assert (first.directory / "data0" / "vgabios.bin").read_bytes() == b"vga"


def test_modes_are_not_widened(tree: Path, cache: Cache) -> None:
    (tree / "pc-bios" / "vgabios.bin").chmod(0o604)
    made = copy(tree, cache)
    mode = (made.directory / "data0" / "vgabios.bin").stat().st_mode
    assert stat.S_IMODE(mode) == 0o604


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../secret"])
def test_a_link_out_of_the_tree_is_refused_by_name(
    tree: Path, tmp_path: Path, cache: Cache, target: str
) -> None:
    (tmp_path / "secret").write_text("s")
    (tree / "pc-bios" / "x.bin").symlink_to(target)
    with pytest.raises(UserError, match=r"x\.bin is a link out of its tree, to /"):
        copy(tree, cache)


def roots(tmp_path: Path) -> list[Root]:
    """One without its libraries, and this host's own."""
    (tmp_path / "empty").mkdir()
    return [Root("empty", tmp_path / "empty", "0"), Root("host", Path("/"), "1")]


def test_the_first_root_in_which_it_starts(tree: Path, tmp_path: Path, cache: Cache) -> None:
    tried = []

    def start(root: Root) -> str:
        tried.append(root.name)
        return "QEMU"

    found = roots(tmp_path)
    assert choose_root(copy(tree, cache), found, tree, cache, start) == found[1]
    assert tried == ["host"], "what lacks its loader is not even tried"


def test_what_starts_nowhere_has_its_own_words(tree: Path, tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/true", tmp_path / "bin" / "busybox")  # the shell of a root
    first = Root("first", tmp_path, "2")

    def start(root: Root) -> str:
        raise ImageError("does not run", status=1, tail="warning\nno such symbol\n")

    with pytest.raises(UserError, match=(
            r"does not start: no such symbol \(tried with the libraries of first, host and ")):
        choose_root(copy(tree, cache), [first, roots(tmp_path)[1]], tree, cache, start)


def test_last_words() -> None:
    assert last_words(ImageError("m")) == "m"
    assert last_words(ImageError("m", status=3)) == "exit status 3"
    assert last_words(ImageError("m", status=3, tail="a\nb\n")) == "b"


@pytest.mark.parametrize("link", ["qemu-bundle", "qemu-bundle/usr"])
def test_a_bundle_is_not_gone_out_of(
    tree: Path, tmp_path: Path, cache: Cache, link: str
) -> None:
    """A link there can lead to all of this host, in which to look takes as long as it likes."""
    elsewhere = tmp_path / "elsewhere"
    for file in ("usr/accel.so", "usr/share/qemu/bios-256k.bin", "accel.so"):
        (elsewhere / file).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / file).write_bytes(b"theirs")
    (tree / link).parent.mkdir(exist_ok=True)
    (tree / link).symlink_to(elsewhere)
    assert data_directories(tree / PROGRAM) == (tree / "pc-bios",)
    assert copy(tree, cache).modules == ()


def test_the_modules_of_a_bundle_come_along(tree: Path, cache: Cache) -> None:
    module = tree / "qemu-bundle" / "usr" / "lib" / "qemu" / "accel-tcg-x86_64.so"
    module.parent.mkdir(parents=True)
    module.write_bytes(b"module")
    assert copy(tree, cache).modules == (
        "qemu-bundle/usr/lib/qemu/accel-tcg-x86_64.so",)


# ---- a program that brings its libraries along --------------------------------------------------


def compiled(target: Path, source: str, *options: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["clang", *options, "-x", "c", "-", "-o", target], input=source, text=True,
                   check=True)
    return target


def bundle(top: Path, *runpath: str) -> Path:
    """bin/qemu-system-x86_64 wants libnear.so of bin/lib, and that libfar.so beside it."""
    lib = top / "bin" / "lib"
    far = compiled(lib / "libfar.so", "int far(void) { return 7; }", "-shared",
                   "-Wl,-soname,libfar.so")
    near = compiled(lib / "libnear.so", "int far(void); int near(void) { return far(); }",
                    "-shared", str(far), "-Wl,-soname,libnear.so", *runpath[1:])
    compiled(top / "bin" / PROGRAM, "int near(void); int main(void) { return near(); }",
             str(near), f"-Wl,-rpath-link,{lib}", runpath[0])
    return top


@pytest.mark.parametrize("runpath", [
    ("-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib", "-Wl,--enable-new-dtags,-rpath,$ORIGIN"),
    ("-Wl,--disable-new-dtags,-rpath,${ORIGIN}/lib",),
], ids=["a RUNPATH each", "an RPATH for all"])
def test_the_libraries_that_it_brings_along(
    tmp_path: Path, cache: Cache, runpath: tuple[str, ...]
) -> None:
    made = copy(bundle(tmp_path / "theirs", *runpath), cache)
    assert sorted(file.name for file in (made.directory / "bin" / "lib").iterdir()) == [
        "libfar.so", "libnear.so"]
    assert subprocess.run([made.directory / made.program], check=False).returncode == 7

    def start(root: Root) -> str:
        return root.name

    host = Root("host", Path("/"), "1")
    assert choose_root(made, [host], tmp_path, cache, start) == host


def test_no_library_is_taken_from_outside_its_tree(tmp_path: Path, cache: Cache) -> None:
    """Neither by a RUNPATH that leads there, nor by a link."""
    for number, runpath in enumerate((f"{tmp_path}/out/bin/lib", "$ORIGIN/../../out/bin/lib")):
        bundle(tmp_path / "out", f"-Wl,-rpath,{runpath}", "-Wl,-rpath,$ORIGIN")
        top = tmp_path / f"theirs{number}"
        (top / "bin").mkdir(parents=True)
        shutil.copy(tmp_path / "out" / "bin" / PROGRAM, top / "bin")
        made = copy(top, cache)
        assert [file.name for file in made.directory.rglob("*") if file.is_file()] == [PROGRAM]
    bundle(top, "-Wl,-rpath,$ORIGIN/lib", "-Wl,-rpath,$ORIGIN")
    (top / "bin" / "lib" / "libfar.so").unlink()
    (top / "bin" / "lib" / "libfar.so").symlink_to(tmp_path / "out" / "bin" / "lib" / "libfar.so")
    made = copy(top, cache)
    assert [file.name for file in made.directory.rglob("*.so")] == ["libnear.so"]


@pytest.mark.parametrize("place", ["lib/x86_64-linux-gnu/qemu", "bin/lib/qemu"])
def test_modules_of_a_prefix_are_named_to_it(
    tree: Path, tmp_path: Path, cache: Cache, place: str
) -> None:
    (tmp_path / "p" / "bin").mkdir(parents=True)
    shutil.copy(tree / PROGRAM, tmp_path / "p" / "bin")
    (tmp_path / "p" / place).mkdir(parents=True)
    (tmp_path / "p" / place / "accel-tcg-x86_64.so").touch()
    made = copy(tmp_path / "p", cache)
    assert made.environment == (("QEMU_MODULE_DIR", f"/tmp/build/{place}"),)
    assert made.modules_directory == made.directory / place
    assert copy(tree, cache).environment == ()


def test_a_program_with_a_loader_of_its_own_is_one_for_a_root(
    tmp_path: Path, cache: Cache
) -> None:
    """As Nix makes them: what they want has absolute paths, out of their tree."""
    program = compiled(tmp_path / "nix" / "bin" / PROGRAM, "int main(void) { return 0; }",
                       "-Wl,--dynamic-linker,/nix/store/glibc/lib/ld-linux-x86-64.so.2")
    with pytest.raises(UserError, match=(
            r"lacks /nix/store/glibc/lib/ld-linux-x86-64\.so\.2 \(a loader of its own: .*root: ")):
        choose_root(copy(program, cache), roots(tmp_path), program, cache, lambda root: "")


def test_a_name_that_becomes_a_link_meanwhile_leads_nowhere(
    tree: Path, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = Path(shutil.copy("/bin/true", tmp_path / "secret"))
    look = given_file.open_regular

    def exchanged(path: Path, largest: int) -> BufferedReader:
        return look(secret if path.name == PROGRAM else path, largest)

    monkeypatch.setattr(given_file, "open_regular", exchanged)
    with pytest.raises(UserError, match=f"is a link out of its tree, to {secret}"):
        copy(tree, cache)


def test_a_file_that_grows_while_it_is_copied(
    tree: Path, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = given_file.copy

    def grown(file: BufferedReader, made: BufferedWriter, size: int, *, holes: bool) -> None:
        copied(file, made, size - 1, holes=holes)

    monkeypatch.setattr(given_file, "copy", grown)
    with pytest.raises(UserError, match=r"was changed while it was read \(try again\)"):
        copy(tree, cache)
    assert not [path for path in tmp_path.glob("cache/**/qemu-*") if path.is_dir()]


def test_a_program_in_the_way_of_its_data(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "tree" / "pc-bios").mkdir(parents=True)
    (tmp_path / "tree" / "pc-bios" / "bios-256k.bin").write_bytes(b"bios")
    program = Path(shutil.copy("/bin/true", tmp_path / "tree" / "data0"))
    with pytest.raises(UserError, match=r"data0.* would be a file and a directory in its copy"):
        copy(program, cache)


def test_a_tree_that_is_too_large_is_told_before_it_is_copied(
    tree: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "qemu-bundle" / "x").mkdir(parents=True)
    for number in range(3):
        with (tree / "qemu-bundle" / "x" / f"{number}.so").open("wb") as module:
            module.truncate(2 << 30)
    monkeypatch.setattr(given_file, "open_regular", None)  # nothing is read
    monkeypatch.setattr(elf, "read", lambda path: elf.Program())
    with pytest.raises(UserError, match=r"is too large for a QEMU: at most 4 GiB"):
        copy(tree, cache)
