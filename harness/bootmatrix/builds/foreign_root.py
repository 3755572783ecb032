"""A whole root file system of somebody else's, with a QEMU in it: an unpacked distribution, a
container's.

Nothing of it is run, and no link in it is followed but inside it. A copy of it is made, which
holds what a QEMU in a sandbox could read there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import stat
import sys
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
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
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
    with contextlib.suppress(OSError, given_file.Unreadable), \
            given_file.open_regular(file, elf.LARGEST) as opened:
        return opened.read(2) == b"#!"
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
        entry = (path, info.st_mode, () if stat.S_ISDIR(info.st_mode) else changed)
        digest.update(repr(entry).encode())
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


def leave_out_devices(root: Path) -> None:
    """Remove what ``copy`` leaves out from a root that is our own already."""
    for path, info, directory in _walk(root):
        if not (stat.S_ISDIR(info.st_mode) or stat.S_ISLNK(info.st_mode)
                or stat.S_ISREG(info.st_mode)):
            os.unlink(path.rpartition("/")[2], dir_fd=directory)


def _copy_file(directory: int, target: Path, size: int) -> None:
    """Copy the file of the same name in an open directory, if a QEMU could read it there.

    It had ``size`` bytes when it was counted.
    """
    try:
        file = given_file.open_regular(target.name, sys.maxsize, directory)
    except given_file.Unreadable:  # by this user; or it is no file any more
        return
    with file:
        mode = os.fstat(file.fileno()).st_mode
        if os.getuid() or mode & FOR_EVERYONE:
            with target.open("xb") as made:
                target.chmod(stat.S_IRUSR | stat.S_IWUSR)
                given_file.copy(file, made, size, holes=True)
            target.chmod(mode & 0o755)


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result, int]]:
    """All in a root by its path from there, with the directory that holds it, open.

    Raises UserError for one that is too large to be a QEMU's root.
    """
    size = 0
    every = _entries(os.open(root, _DIRECTORY), "")
    for files, (path, info, directory) in enumerate(every, 1):
        size += info.st_size if stat.S_ISREG(info.st_mode) else 0
        if files > _MOST_FILES or size > _MOST_BYTES or path.count("/") > _DEEPEST:
            raise UserError(f"{root} is too large for a QEMU's root: at most {_MOST_FILES} "
                            f"files, {_MOST_BYTES >> 30} GiB, {_DEEPEST} directories deep")
        yield path, info, directory


def _entries(directory: int, above: str) -> Iterator[tuple[str, os.stat_result, int]]:
    """The same of a directory and those below it, which is closed in the end.

    Not os.fwalk: it opens whatever has taken a directory's place, a link to somewhere or a FIFO.
    """
    try:
        device = os.fstat(directory).st_dev
        with os.scandir(directory) as found:
            names = sorted(entry.name for entry in itertools.islice(found, _MOST_FILES + 1))
        for name in names:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                info = os.stat(name, dir_fd=directory, follow_symlinks=False)
                yield above + name, info, directory
                if stat.S_ISDIR(info.st_mode) and info.st_dev == device and (
                        above or name not in _EMPTY):
                    try:
                        inner = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
                    except OSError as error:
                        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                            raise
                    else:
                        yield from _entries(inner, f"{above}{name}/")
    finally:
        os.close(directory)


def _follow(root: Path, path: str) -> Path:
    try:
        return debian.follow(root, path)
    except ImageError as error:
        raise UserError(error.message) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} in {root}: {error}") from None
