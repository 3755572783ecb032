"""The Linux guest: Debian's kernel, and an initramfs of ours that says what Linux finds.

The kernel's packages are unpacked once into the cache, and what is used of them is kept there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from bootmatrix.builds import catalogue
from bootmatrix.errors import ImageError
from bootmatrix.files.shipped import IMAGES
from bootmatrix.guests import fat, tools
from bootmatrix.guests.base import LinuxKernel, Program
from bootmatrix.model import Arch, GuestKind
from bootmatrix.roots import debian

CATALOGUE = IMAGES / "catalogue.yaml"
LINUX_SOURCES = IMAGES / "guests" / "linux"

DISK_SIZE = 24 << 20
"""Bytes of the disk: kernel, initramfs and boot loaders, with room for a larger kernel."""

# A serial console that tells of errors, and of little else, but stays on during a suspend. After
# an oops nothing goes on: half a kernel is no witness, and one that starts itself again none
# either. no_timer_check: on a busy machine QEMU's timer does not tick while the kernel looks
# whether it does, "IO-APIC + timer doesn't work!", and it panics. The rest is what takes time under
# TCG and is not what is looked at here.
COMMAND_LINE = (
    "console=ttyS0 loglevel=4 no_console_suspend oops=panic panic=0 nowatchdog no_timer_check "
    "cryptomgr.notests mitigations=off edd=off"
)

# The names under which the parts are kept, and where the packages have them.
_PARTS = {
    "vmlinuz": "boot/vmlinuz-*",
    "busybox": "bin/busybox",
    "boot.efi": "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
    "efivarfs.ko": "lib/modules/*/kernel/fs/efivarfs/efivarfs.ko",
    "qemu_fw_cfg.ko": "lib/modules/*/kernel/drivers/firmware/qemu_fw_cfg.ko",
    **{f"{name}.ko": f"lib/modules/*/kernel/{directory}/{name}.ko" for directory, names in {
        "drivers/virtio": ("virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_mmio",
                           "virtio_pci_legacy_dev", "virtio_pci", "virtio_balloon"),
        "net/core": ("failover",), "drivers/net": ("net_failover", "virtio_net"),
        "drivers/block": ("virtio_blk",), "drivers/char/hw_random": ("virtio-rng",),
        "drivers/scsi": ("scsi_common", "scsi_mod", "sd_mod", "virtio_scsi"),
        "drivers/ata": ("libata", "ata_piix"), "drivers/char": ("virtio_console",),
    }.items() for name in names},
}
_DIGEST = "digest"
_CFLAGS = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Os", "-static", "-s")
_DIRECTORY, _PROGRAM, _FILE = 0o040755, 0o100755, 0o100644
_DIRECTORIES = ("bin", "dev", "lib", "lib/modules", "proc", "sys")


def linux_kernel(
    cache: Path, arch: Arch = Arch.X86_64, *, sources: Path = LINUX_SOURCES
) -> LinuxKernel:
    """Kernel, initramfs and command line, made first if ``cache`` lacks them.

    The first time takes some ten seconds and the package archive. Any number of processes may
    ask at once. The guest names no disk. Raises ImageError when packages or tools are missing,
    ValueError for another architecture than x86_64.
    """
    parts = _kernel_parts(cache, arch)
    return LinuxKernel(parts / "vmlinuz", _initramfs(parts, cache, sources), COMMAND_LINE)


def linux_disk(
    label: str, cache: Path, arch: Arch = Arch.X86_64, *, sources: Path = LINUX_SOURCES
) -> Path:
    """The path of a disk image that boots ``linux_kernel``, made first if ``cache`` lacks it.

    It boots by BIOS, with Syslinux, and by UEFI, with systemd-boot. As ``probe_disk``: raw,
    sparse, shared; it is a FAT file system of DISK_SIZE bytes, and ``label`` is in its kernel
    command line. Raises as ``linux_kernel`` does, and ValueError for a bad label.
    """
    tools.check_label(label)
    parts = _kernel_parts(cache, arch)
    initramfs = _initramfs(parts, cache, sources)
    options = f"{COMMAND_LINE} bootmatrix.disk={label}"
    texts = {
        "syslinux.cfg": "default linux\nlabel linux\n  kernel /vmlinuz\n  initrd /initramfs\n"
                        f"  append {options}\n",
        "loader/loader.conf": "timeout 0\ndefault linux.conf\n",
        "loader/entries/linux.conf": "title linux\nlinux /vmlinuz\ninitrd /initramfs\n"
                                     f"options {options}\n",
    }  # fmt: skip

    def make(scratch: Path) -> Path:
        files: dict[str, Path | bytes] = {
            "vmlinuz": parts / "vmlinuz",
            "initramfs": initramfs,
            "EFI/BOOT/BOOTX64.EFI": parts / "boot.efi",
        }
        disk = scratch / "disk.img"
        fat.image(files | {name: text.encode() for name, text in texts.items()}, DISK_SIZE, disk)
        argv = ["syslinux", "--install", disk.name]
        tools.run(argv, scratch, environment=fat.ENVIRONMENT, about=disk.name)
        return disk

    content = [initramfs.name, tools.read(parts / _DIGEST).decode(), *texts.values()]
    return tools.cached(cache, f"linux-{arch}-{label}", map(str.encode, content), make)


_MIB = 256

LINUX = Program(
    GuestKind.LINUX, boots=lambda firmware, arch: True, mib=_MIB,
    disk=lambda label, cache, arch, firmware: linux_disk(label, cache, arch),
)  # fmt: skip
LINUX_KERNEL = replace(LINUX, kind=GuestKind.LINUX_KERNEL, kernel=linux_kernel)


# ---- the kernel's packages ----------------------------------------------------------------------


def _kernel_parts(cache: Path, arch: Arch) -> Path:
    """The directory with what is used of the packages, under the names of _PARTS."""
    entry = _kernels().get(arch)
    if entry is None:
        raise ValueError(f"no Linux guest for {arch}")
    recipe = json.dumps([entry.model_dump(mode="json"), _PARTS])
    parts = cache / f"kernel-{arch}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if parts in _intact or are_intact(parts):
        _intact.add(parts)
        return parts
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{parts.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # so that the archive is asked once
        if not are_intact(parts):
            debian.remove(parts)
            _unpack(entry, parts)
    return parts


_intact: set[Path] = set()
"""Directories of parts that this process has read."""


def are_intact(parts: Path) -> bool:
    """Whether the parts are there, and what was unpacked; they are read."""
    try:
        return (parts / _DIGEST).read_text() == _digest(parts)
    except (OSError, UnicodeDecodeError):
        return False


def _digest(parts: Path) -> str:
    digest = hashlib.sha256()
    for name in _PARTS:
        digest.update(hashlib.sha256((parts / name).read_bytes()).digest())
    return digest.hexdigest()


@lru_cache
def _kernels() -> Mapping[Arch, catalogue.KernelEntry]:
    return {entry.architecture: entry for entry in catalogue.load(CATALOGUE).kernels.values()}


def _unpack(entry: catalogue.KernelEntry, parts: Path) -> None:
    debian.require_tools()
    with tempfile.TemporaryDirectory(prefix=".kernel-", dir=parts.parent) as scratch:
        root, new = Path(scratch, "root"), Path(scratch, "new")
        root.mkdir()
        new.mkdir()
        debian.unpack(entry.suite, entry.packages, debian.host_mirror(), Path(scratch), root)
        for name, pattern in _PARTS.items():
            found = sorted(root.glob(pattern))
            if len(found) != 1:
                raise ImageError(f"{pattern} is {len(found)} times in the packages of the Linux "
                                 f"guest: {', '.join(entry.packages)}")  # fmt: skip
            (new / name).write_bytes(found[0].read_bytes())
        (new / _DIGEST).write_text(_digest(new))
        new.rename(parts)


# ---- the initramfs ------------------------------------------------------------------------------


def _initramfs(parts: Path, cache: Path, sources: Path) -> Path:
    init, program = tools.read(sources / "init"), tools.read(sources / "guest.c")

    def make(scratch: Path) -> Path:
        (scratch / "guest.c").write_bytes(program)
        tools.run(["clang", *_CFLAGS, "guest.c", "-o", "guest"], scratch, about="guest.c")
        archive = scratch / "initramfs"
        archive.write_bytes(cpio([
            *((name, _DIRECTORY, b"") for name in _DIRECTORIES),
            ("init", _PROGRAM, init),
            ("bin/busybox", _PROGRAM, tools.read(parts / "busybox")),
            ("bin/guest", _PROGRAM, tools.read(scratch / "guest")),
            *((f"lib/modules/{name}", _FILE, tools.read(parts / name))
              for name in _PARTS if name.endswith(".ko")),
        ]))  # fmt: skip
        return archive

    content = [init, program, tools.read(parts / _DIGEST), " ".join(_CFLAGS).encode()]
    return tools.cached(cache, "initramfs", content, make)


def cpio(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """An archive as the kernel unpacks it (its Documentation/.../initramfs/buffer-format.rst).

    ``entries`` are name, mode with file type, and content; a directory stands before what is in
    it. All belongs to root and is of 1970. The kernel need not, and does not, uncompress it:
    under TCG that takes longer than to read it.
    """
    archive = bytearray()
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        path = os.fsencode(name) + b"\0"
        # ino, mode, uid, gid, nlink, mtime, filesize, four device numbers, namesize, check
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        archive += bytes(-len(archive) % 4) + content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
