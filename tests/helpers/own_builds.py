"""Build trees, firmware and caches for tests, made of what the catalogue's images hold."""

from __future__ import annotations

import shutil
from pathlib import Path

from bootmatrix.builds.image_store import NOT_RUN, ImageStore

LIBRARY = b"libcapstone.so.4\0"
MODULES = "usr/lib/x86_64-linux-gnu/qemu"


def build_tree(store: ImageStore, tree: Path) -> Path:
    """Debian 12's QEMU as a build tree of a recent QEMU has it: with pc-bios, and its modules."""
    root = store.qemu("debian-bookworm").root
    (tree / "pc-bios").mkdir(parents=True)
    for data in ("usr/share/qemu", "usr/share/seabios"):
        for file in (root / data).glob("*.bin"):
            shutil.copyfile(file, tree / "pc-bios" / file.name)
    bundle = tree / "qemu-bundle" / MODULES
    bundle.mkdir(parents=True)
    for module in (root / MODULES).glob("accel-*.so"):
        shutil.copyfile(module, bundle / module.name)
    shutil.copy(root / "usr/bin/qemu-system-x86_64", tree)
    return tree


def unpacked(root: Path, place: Path) -> Path:
    """A copy of an image's root, without the documentation that is two thirds of its files.

    A copy: a hard link would change the times of the cache's own files, which would be read anew.
    """
    root = root.resolve()  # it may be a link, in a cache made of links for a trial
    left_out = [root / path for path in NOT_RUN]
    return Path(shutil.copytree(root, place, symlinks=True, ignore=lambda above, names: [
        name for name in names if Path(above, name) in left_out]))


def rebuild(tree: Path, content: bytes | None = None) -> None:
    """A new program under the old name, as a linker makes it. By default it does the same."""
    program = tree / "qemu-system-x86_64"
    old = program.read_bytes()
    program.unlink()
    program.write_bytes(old + b"\0" if content is None else content)
    program.chmod(0o755)


def sid_firmware(store: ImageStore, last: str = "x") -> bytes:
    """Debian sid's SeaBIOS, but for the last character of the version that it prints."""
    build = store.beside("debian-sid", "seabios")
    assert build.prints
    return build.path.read_bytes().replace(
        build.prints.encode(), (build.prints[:-1] + last).encode())


def linked_cache(store: ImageStore, cache: Path, *names: str) -> Path:
    """A cache in which only these images are built."""
    for name in names:
        link(store, cache, name)
    return cache


def link(store: ImageStore, cache: Path, name: str) -> None:
    root = store.qemu(name).root
    (cache / "roots").mkdir(parents=True, exist_ok=True)
    # Without the manifest each process would read the whole image to know that it is intact.
    for suffix in ("", ".json", ".manifest"):
        (cache / "roots" / f"{root.name}{suffix}").symlink_to(f"{root}{suffix}")
