"""A build tree and firmware images for tests, made of what the catalogue's images hold."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.images import ImageStore

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


def rebuild(tree: Path, content: bytes | None = None) -> None:
    """A new program under the old name, as a linker makes it. By default it does the same."""
    program = tree / "qemu-system-x86_64"
    old = program.read_bytes()
    program.unlink()
    program.write_bytes(old + b"\0" if content is None else content)
    program.chmod(0o755)


def sid_firmware(store: ImageStore, old: bytes = b"1.17.0-1", new: bytes = b"1.99.0-1") -> bytes:
    """Debian sid's SeaBIOS with a text in it changed; by default the version that it prints."""
    image = store.firmware(store.qemu("debian-sid").firmware).path.read_bytes()
    assert len(old) == len(new)
    assert image.count(old)
    return image.replace(old, new)
