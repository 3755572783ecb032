"""A whole root file system of somebody else's, with a QEMU in it: an unpacked distribution, a
container's.

Nothing of it is run, and no link in it is followed but inside it. A copy of it is made, which
holds what a QEMU in a sandbox could read there.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bootmatrix.builds.own_qemu import DEFAULT_FIRMWARE, FOR_EVERYONE, PROGRAM
from bootmatrix.errors import ImageError, UserError
from bootmatrix.files import given_file
from bootmatrix.roots import debian, elf

# Where distributions and QEMU's own installation put a program.
_PROGRAMS = tuple(f"{directory}/{name}"
                  for directory in ("usr/bin", "usr/local/bin", "opt/qemu/bin", "usr/libexec")
                  for name in (PROGRAM, "qemu-kvm"))
# Where it finds its BIOS from its directory.
_DATA = ("../share/qemu", "../share/seabios", "../share/qemu-kvm", "pc-bios", "../pc-bios")
# A live container's are mounts, and an engine mounts its own there.
_EMPTY = frozenset(("dev", "proc", "run", "sys", "tmp"))
# A distribution with a desktop has half a million files; a QEMU's root some thousand.
_MOST_FILES, _MOST_BYTES, _DEEPEST = 1_000_000, 16 << 30, 100


def find(root: Path, program: str | None = None) -> str:
    """The path of the QEMU in a root, from there, without a link in it.

    Raises UserError, without a place, if there is none for this host.
    """
    if not root.is_dir():
        raise UserError(f"{root} is {'no directory' if root.exists() else 'not there'}",
                        hint="a directory that holds a whole root file system")
    for name in _PROGRAMS if program is None else (program,):
        found = _follow(root, name)
        if found.is_file():
            if not _is_script(found):
                elf.read(found)
            if not found.stat().st_mode & 0o111:
                raise UserError(f"{found} is not executable", hint=f"chmod +x {found}")
            return found.relative_to(root).as_posix()
    raise UserError(f"{root} holds no {program or 'QEMU'}",
                    hint="program: its path in there, such as usr/bin/qemu-system-x86_64"
                    if program else "looked for " + ", ".join(_PROGRAMS))


def _is_script(file: Path) -> bool:
    """Nix wraps programs so; who interprets it is in the root, too."""
    try:
        with file.open("rb") as opened:
            return opened.read(2) == b"#!"
    except OSError:
        return False


def default_firmware(root: Path, program: str) -> Path | None:
    """The BIOS that a QEMU, by its path in a root, finds there; as a path without a link in it."""
    above = PurePosixPath(program).parent
    files = (_follow(root, f"{above}/{name}/{DEFAULT_FIRMWARE}") for name in _DATA)
    return next(filter(Path.is_file, files), None)


def fingerprint(root: Path) -> str:
    """A hash that changes when anything in a root does: over what is there, and when it changed."""
    digest = hashlib.sha256()
    for path, info, _ in _walk(root):
        changed = (info.st_size, info.st_ctime_ns, info.st_mtime_ns, info.st_ino)
        told = (path, info.st_mode, () if stat.S_ISDIR(info.st_mode) else changed)
        digest.update(repr(told).encode())
    return digest.hexdigest()


def copy(root: Path, target: Path) -> None:
    """Copy a root into an empty directory, modes included.

    Left out are devices, sockets, other file systems in it, and files that a QEMU could not read:
    where the harness is root, that runs as nobody. Raises UserError for what cannot be copied.
    """
    made = {target}
    try:
        for path, info, directory in _walk(root):
            there = target / path
            if there.parent not in made:  # it was no directory when it was looked at
                continue
            if stat.S_ISDIR(info.st_mode):
                there.mkdir(mode=info.st_mode & 0o755 | stat.S_IRWXU)
                made.add(there)
            elif stat.S_ISLNK(info.st_mode):
                there.symlink_to(os.readlink(there.name, dir_fd=directory))
            elif stat.S_ISREG(info.st_mode):
                _copy_file(directory, there, info.st_size)
    except OSError as error:
        raise UserError(f"{root} cannot be copied: {error.strerror}") from None
    except given_file.Unreadable as problem:
        raise UserError(f"{root}/{path} {problem}", hint="try again") from None


def _copy_file(directory: int, target: Path, size: int) -> None:
    """Copy the file of the same name in an open directory, if a QEMU could read it there.

    It had ``size`` bytes when it was counted.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        opened = os.open(target.name, flags, dir_fd=directory)
    except PermissionError:
        return
    with os.fdopen(opened, "rb") as file:
        mode = os.fstat(opened).st_mode
        if stat.S_ISREG(mode) and (os.getuid() or mode & FOR_EVERYONE):
            with target.open("xb") as made:
                target.chmod(stat.S_IRUSR | stat.S_IWUSR)
                given_file.copy(file, made, size)
            target.chmod(mode & 0o755)


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result, int]]:
    """All in a root by its path from there, with the directory that holds it, open.

    Raises UserError for one that is too large to be a QEMU's root.
    """
    files = size = 0
    device = root.stat().st_dev
    for place, directories, names, opened in os.fwalk(root, follow_symlinks=False):
        above = os.path.relpath(place, root)
        above = "" if above == "." else f"{above}/"
        entered = []
        for name in sorted((*directories, *names)):
            try:
                info = os.stat(name, dir_fd=opened, follow_symlinks=False)
            except (FileNotFoundError, PermissionError):
                continue
            files += 1
            size += info.st_size if stat.S_ISREG(info.st_mode) else 0
            if files > _MOST_FILES or size > _MOST_BYTES or above.count("/") > _DEEPEST:
                raise UserError(f"{root} is too large for a QEMU's root: at most {_MOST_FILES} "
                                f"files, {_MOST_BYTES >> 30} GiB, {_DEEPEST} directories deep")
            yield above + name, info, opened
            if stat.S_ISDIR(info.st_mode) and info.st_dev == device and (
                    above or name not in _EMPTY):
                entered.append(name)
        directories[:] = entered


def _follow(root: Path, path: str) -> Path:
    try:
        return debian.follow(root, path)
    except ImageError as error:
        raise UserError(error.message) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} in {root}: {error}") from None
