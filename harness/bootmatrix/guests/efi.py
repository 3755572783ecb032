"""The UEFI probe guest: an EFI application, compiled by clang, on a FAT disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bootmatrix.boards import offered
from bootmatrix.files.shipped import IMAGES
from bootmatrix.guests import fat, secure_boot, tools
from bootmatrix.guests.base import Program
from bootmatrix.guests.boot_sector import DISK_SIZE
from bootmatrix.model import PROGRAMS, Arch, FirmwareBuild, GuestKind, Interface, Signing

EFI_SOURCES = IMAGES / "guests" / "uefi"

_CFLAGS = (
    "-std=c11", "-Wall", "-Wextra", "-Werror", "-Os", "-ffreestanding", "-fpie",
    "-fvisibility=hidden", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
)  # fmt: skip


@dataclass(frozen=True)
class _Target:
    """What firmware of an architecture starts from a disk, and what clang must be told.

    ``release`` is that of the clang and lld which know it, as Debian names them; "": any.
    """

    file: str
    flags: tuple[str, ...]
    release: str = ""


_TARGETS = {
    # UEFI leaves vector registers to whoever uses them, and the stack to interrupts.
    Arch.X86_64: _Target("BOOTX64.EFI", ("-mgeneral-regs-only", "-mno-red-zone")),
    Arch.AARCH64: _Target("BOOTAA64.EFI", ("-mgeneral-regs-only", "-mstrict-align")),
    Arch.RISCV64: _Target(
        "BOOTRISCV64.EFI", ("-march=rv64imac", "-mabi=lp64", "-mcmodel=medany", "-mno-relax")
    ),
    # Firmware leaves vector instructions switched off.
    Arch.LOONGARCH64: _Target(
        "BOOTLOONGARCH64.EFI", ("-mabi=lp64s", "-mno-lsx", "-mno-lasx"), release="-19"
    ),
}


def uefi_disk(
    label: str,
    cache: Path,
    arch: Arch = Arch.X86_64,
    *,
    signing: Signing | None = None,
    sources: Path = EFI_SOURCES,
) -> Path:
    """The path of the UEFI probe guest's disk image, built first if ``cache`` lacks it.

    As ``probe_disk``: raw, sparse, DISK_SIZE bytes, shared. It is a FAT file system with the
    application where firmware looks for one on a removable disk and, for boot entries that it
    writes, where PROGRAMS says, and the file LABEL.
    ``signing`` signs the application for Secure Boot, and puts what enrols its keys into KEYS.
    Raises ImageError when a tool is missing or refuses, ValueError for a bad label.
    """
    tools.check_label(label)
    target = _TARGETS[arch]
    parts = tools.read_c(sources)
    signature = [tools.read(path) for path in (signing.key, signing.certificate)] if signing else []

    def build(scratch: Path) -> Path:
        for name, content in parts.items():
            (scratch / name).write_bytes(content)
        platform = f"--target={arch}-unknown-none-elf"
        compiler = [f"clang{target.release}", platform, *_CFLAGS, *target.flags]
        for source in ("pe.S", "probe.c"):
            tools.run([*compiler, "-c", source], scratch, about=source)
        linker = [f"ld.lld{target.release}", "-pie", "--no-dynamic-linker", "-T", "image.lds"]
        tools.run([*linker, "pe.o", "probe.o", "-o", "probe.elf"], scratch, about="image.lds")
        tools.run(["llvm-objcopy", "-O", "binary", "probe.elf", "probe.efi"], scratch)
        keys = {}
        if signing is not None:
            keys = _sign(scratch, signing)
        disk = scratch / "disk.img"
        files: dict[str, Path | bytes] = {
            "LABEL": label.encode(),
            **{f"KEYS/{name.upper()}": content for name, content in keys.items()},
            **dict.fromkeys((f"EFI/BOOT/{target.file}", *PROGRAMS.values()), scratch / "probe.efi"),
        }
        fat.image(files, DISK_SIZE, disk)
        return disk

    options = [label, arch, *_CFLAGS, *target.flags, *PROGRAMS.values()]
    content = [*map(str.encode, parts), *parts.values(), *map(str.encode, options), *signature]
    return tools.cached(cache, f"uefi-{arch}-{label}", content, build)


def _sign(scratch: Path, signing: Signing) -> dict[str, bytes]:
    """Sign probe.efi in ``scratch``, and variables that enrol the keys for it.

    sbsign would ask a terminal for the passphrase.
    """
    key, certificate = (str(path.resolve()) for path in (signing.key, signing.certificate))
    opened = ["openssl", "pkey", "-in", key, "-out", "key.pem", "-passin", "env:PASSPHRASE"]
    tools.run(opened, scratch, environment={"PASSPHRASE": signing.passphrase}, about=key)
    sign = ["sbsign", "--key", "key.pem", "--cert", certificate, "--output", "probe.efi"]
    tools.run([*sign, "probe.efi"], scratch, about="probe.efi")
    return secure_boot.signed(signing, "key.pem", scratch)


def _disk(label: str, cache: Path, arch: Arch, firmware: FirmwareBuild) -> Path:
    return uefi_disk(label, cache, arch, signing=firmware.signing)


EFI = Program(
    GuestKind.PROBE, boots=lambda firmware, arch: offered(firmware, arch) is Interface.UEFI,
    disk=_disk,
)  # fmt: skip
