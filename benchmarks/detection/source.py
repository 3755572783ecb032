"""QEMU with faults in it: Debian's source, planted and built, then a binary for each fault."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bootmatrix.errors import ImageError
from bootmatrix.roots import debian

from .faults import Fault, Plant

SUITE = "trixie"
PROGRAM = "qemu-system-x86_64"
PACKAGES = (
    "build-essential", "libfdt-dev", "libglib2.0-dev", "ninja-build", "patch", "pkg-config",
    "xz-utils", "zlib1g-dev",
)
"""Of Debian's, what a QEMU is built with."""

_OPTIONS = (
    "--target-list=x86_64-softmmu", "--without-default-features", "--enable-tcg",
    "--enable-fdt=system", "--disable-docs", "--disable-werror", "--disable-install-blobs",
    "--disable-debug-info", "--extra-cflags=-O1",  # built in half the time
)
# meson's own wheel, which Debian takes out of QEMU's source.
_MESON = "meson==1.5.0"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# Which fault a binary has stands in its bytes: one build, and a binary for each in no time.
MARK = b"bootmatrix-planted:"
_HEADER = "bootmatrix-planted.h"
_DECLARED = """\
#ifndef BOOTMATRIX_PLANTED_H
#define BOOTMATRIX_PLANTED_H
extern const volatile char bootmatrix_planted[];
#define PLANTED(n) (bootmatrix_planted[19] == '0' + (n) / 10 && \\
                    bootmatrix_planted[20] == '0' + (n) % 10)
#endif
"""
# SeaBIOS' segments leave no place for such bytes: there it is a number of the compiler's.
_CONSTANT = """\
#ifndef BOOTMATRIX_PLANTED_H
#define BOOTMATRIX_PLANTED_H
#define PLANTED(n) ((n) == %d)
#endif
"""
_DEFINED = f'const volatile char bootmatrix_planted[] = "{MARK.decode()}00";\n'
_HOME = "hw/core/loader.c"


def qemu(faults: Sequence[Fault], work: Path, jobs: int) -> Path:
    """The program with all the faults in it, none of which is chosen (``chosen``).

    ``work`` is a directory that may have what an earlier call has left there. Takes ten to twenty
    minutes of two processors the first time. Raises ImageError.
    """
    _require()
    tree, made = work / "qemu", work / "build"
    if not (tree / "configure").exists():
        shutil.rmtree(tree, ignore_errors=True)
        unpack("qemu", work, tree)
        _meson(work, tree / "python/wheels")
    texts = planted(faults, tree, work / "untouched", behind='#include "qemu/osdep.h"\n')
    texts[_HOME] = texts.get(_HOME) or _original(tree, work / "untouched", _HOME)
    texts[_HOME] += _DEFINED
    _write(tree, texts | {f"include/{_HEADER}": _DECLARED})
    if not (made / "build.ninja").exists():
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        _run([str(tree / "configure"), *_OPTIONS], made, work / "configure.log")
    _run(["ninja", f"-j{jobs}", PROGRAM], made, work / "ninja.log")
    return made / PROGRAM


def seabios(faults: Sequence[Fault], fault: Fault, work: Path, jobs: int) -> Path:
    """A SeaBIOS image that has one of the faults. Raises ImageError."""
    _require()
    tree = work / "seabios"
    if not (tree / "Makefile").exists():
        shutil.rmtree(tree, ignore_errors=True)
        unpack("seabios", work, tree)
        # Some versions of gcc make calls of NVMe's code that SeaBIOS does not have.
        # Without that it would fit into less than the 256 KiB of Debian's.
        (tree / ".config").write_text(
            "CONFIG_QEMU=y\n# CONFIG_NVME is not set\nCONFIG_ROM_SIZE=256\n")
        _run(["make", "olddefconfig"], tree, work / "seabios.log")
    texts = planted(faults, tree, work / "untouched-seabios")
    _write(tree, texts | {f"src/{_HEADER}": _CONSTANT % fault.number})
    _run(["make", f"-j{jobs}", "EXTRAVERSION=-planted"], tree, work / "seabios.log")
    return tree / "out/bios.bin"


def _require() -> None:
    """Raise ImageError, which says what to install, if QEMU cannot be built here."""
    tools = all(map(shutil.which, ("apt-get", "cc", "make", "ninja", "patch", "pkg-config", "xz")))
    if not tools or subprocess.run(["pkg-config", "--exists", "glib-2.0", "zlib"],
                                   stderr=subprocess.DEVNULL, check=False).returncode:
        raise ImageError(f"QEMU cannot be built here: apt install {' '.join(PACKAGES)}")


def chosen(program: Path, fault: Fault, into: Path) -> Path:
    """A copy of the program, in a directory of its own, that has this fault."""
    content = program.read_bytes()
    place = content.index(MARK) + len(MARK)
    if content.count(MARK) != 1:
        raise ImageError(f"{program}: the place of the fault's number is not there once")
    into.mkdir(parents=True, exist_ok=True)
    made = into / PROGRAM
    made.write_bytes(content[:place] + b"%02d" % fault.number + content[place + 2:])
    made.chmod(0o755)
    return made


def unpack(package: str, work: Path, tree: Path) -> None:
    """A package's source as its maintainers have it, with their patches. Raises ImageError."""
    apt = work / "apt"
    for directory in ("lists/partial", "cache/archives/partial", "source"):
        (apt / directory).mkdir(parents=True, exist_ok=True)
    mirror = debian.host_mirror()
    if mirror is None:
        raise ImageError("sources come from Debian's archive, and this host installs from another")
    (apt / "sources.list").write_text(
        f"deb-src [signed-by={_KEYRING}] {mirror} {SUITE} main\n")
    command = ["apt-get", "-qq", f"-oDir::Etc::sourcelist={apt}/sources.list",
               "-oDir::Etc::sourceparts=-", f"-oDir::State::lists={apt}/lists",
               f"-oDir::Cache={apt}/cache", "-oAPT::Sandbox::User=root"]
    source = apt / "source"
    _run([*command, "update"], source, work / "apt.log")
    _run([*command, "source", "--download-only", package], source, work / "apt.log")
    tree.mkdir()
    for archive in (*source.glob(f"{package}_*.orig.tar.*"),
                    *source.glob(f"{package}_*.debian.tar.*")):
        strip = ["--strip-components=1"] if ".orig." in archive.name else []
        _run(["tar", "-xf", str(archive), *strip], tree, work / "tar.log")
    for line in (tree / "debian/patches/series").read_text().splitlines():
        if line and not line.startswith("#"):
            _run(["patch", "-sp1", "-i", f"debian/patches/{line.split()[0]}"], tree,
                 work / "patch.log")


def planted(
    faults: Iterable[Fault], tree: Path, untouched: Path, behind: str = ""
) -> dict[str, str]:
    """The files of the source, by name, with the faults in them.

    ``untouched`` gets the files as they were: what was planted before is not planted on.
    The header is included behind a line that must be the first, or at the very beginning. Raises
    ImageError where a place is not in the source.
    """
    texts: dict[str, str] = {}
    for fault in faults:
        for one in fault.plants:
            text = texts.get(one.file) or _original(tree, untouched, one.file)
            texts[one.file] = _with(text, one, fault.number)
    for name, text in texts.items():
        first = text.index(behind) + len(behind)
        texts[name] = f'{text[:first]}#include "{_HEADER}"\n{text[first:]}'
    return texts


def _write(tree: Path, texts: Mapping[str, str]) -> None:
    """Write them; a file that stays what it is keeps its time, and is not built again."""
    for name, text in texts.items():
        file = tree / name
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def _original(tree: Path, untouched: Path, name: str) -> str:
    kept = untouched / name
    if not kept.exists():
        if not (tree / name).is_file():
            raise ImageError(f"{name} is not in the source")
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / name, kept)
    return kept.read_text()


def _with(text: str, one: Plant, number: int) -> str:
    """The text with a fault's lines in their place."""
    begun = text.find(one.within)
    place = text.find(one.line, begun)
    if begun < 0 or place < 0:
        raise ImageError(f"{one.file}: {one.within if begun < 0 else one.line!r} is not there")
    start = text.rindex("\n", 0, place) + 1
    end = text.index("\n", place) + 1
    code = one.code.replace("PLANTED(N)", f"PLANTED({number})").rstrip("\n") + "\n"
    keep_before, keep_after = {
        "after": (end, end), "before": (start, start), "instead": (start, end)}[one.where]
    return text[:keep_before] + code + text[keep_after:]


def _meson(work: Path, wheels: Path) -> None:
    """Put meson's wheel where QEMU's configure looks for it."""
    environment = work / "wheels-venv"
    venv.create(environment, with_pip=True)
    wheels.mkdir(parents=True, exist_ok=True)
    _run([str(environment / "bin/pip"), "-q", "download", "--no-deps", "-d", str(wheels), _MESON],
         work, work / "pip.log")


def _run(argv: Sequence[str], where: Path, log: Path) -> None:
    with log.open("ab") as output:
        done = subprocess.run(argv, cwd=where, stdin=subprocess.DEVNULL, stdout=output,
                              stderr=subprocess.STDOUT, check=False,
                              env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        print(*log.read_text(errors="replace").splitlines()[-20:], sep="\n", file=sys.stderr)
        raise ImageError(f"{argv[0]} ended with {done.returncode}; the whole of it is in {log}")
