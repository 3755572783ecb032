"""A root file system of Debian packages: made, sealed, and asked what is in it.

Nothing in a root tells of the machine that made it, so the same packages give the same digest
everywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from harness.errors import ImageError

HOOKS = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
BUILD_SECONDS = 600.0

# What mmdebstrap writes about the machine it runs on: its mirror, its name, its resolver. None
# of it belongs to the build, and without it the digest is the same wherever it was built.
_ABOUT_THE_HOST = (
    "dev", "etc/apt", "etc/dpkg", "etc/fstab", "etc/hostname", "etc/resolv.conf",
    "var/cache/apt", "var/lib/apt", "var/lib/dpkg", "var/log",
)
_PACKAGES = ".packages"
_LIST_PACKAGES = f'ls "$1/var/cache/apt/archives" > "$1/{_PACKAGES}"'
# Where the engines mount things: they cannot make a directory in a read-only root.
_MOUNT_POINTS = ("cell", "dev", "proc", "sys", "tmp", "var/tmp")


def require_tools() -> None:
    """Raise ImageError, which says what to install, if roots cannot be made here."""
    if not shutil.which("mmdebstrap") or not shutil.which("bwrap"):
        raise ImageError("images are built with mmdebstrap and bubblewrap; "
                         "install them: apt install mmdebstrap bubblewrap")


def host_mirror() -> str | None:
    """The archive this Debian host installs from; None (mmdebstrap's default) on any other."""
    try:
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"],
            capture_output=True, text=True, check=True, timeout=30,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    # The security and backports archives have labels of their own.
    prefix = "Debian|Debian|main|"
    found = (line.removeprefix(prefix) for line in listed.splitlines() if line.startswith(prefix))
    return next(found, None)


def unpack(suite: str, packages: Sequence[str], mirror: str | None, work: Path, root: Path) -> None:
    """Unpack packages, and what they depend on, into ``root``, an empty directory.

    ``work`` is a directory for what is needed meanwhile. Raises ImageError.
    """
    argv = [
        *_mmdebstrap(), "--variant=extract", "--format=tar", f"--include={','.join(packages)}",
        # sid's Release file is no longer valid when its mirror has not been updated lately.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        f"--hook-dir={HOOKS}", f"--extract-hook={_LIST_PACKAGES}", suite, "-",
    ]
    archive = work / "root.tar"
    with archive.open("wb") as tar:
        run([*argv, mirror] if mirror else argv, "mmdebstrap failed", stdout=tar)
    run(["tar", "--extract", "--file", str(archive), "--directory", str(root),
         "--exclude=./dev/*", "--no-same-owner", "--delay-directory-restore"],
        "the root could not be unpacked")
    archive.unlink()


def _mmdebstrap() -> list[str]:
    """mmdebstrap in a mode that works for this user: nothing of the root is run to make it.

    Its own choice for a plain user wants subordinate ids (subuid(5)) or a chroot that has a tar.
    """
    if os.getuid() and shutil.which("fakeroot"):
        return ["fakeroot", "mmdebstrap", "--mode=chrootless"]
    return ["mmdebstrap", "--mode=auto"]


def seal(root: Path) -> tuple[dict[str, str], str, int]:
    """Finish a root: its packages' versions, the sha256 over all of it, and its bytes.

    The digest is over (path, mode, size, sha256 of the content or target) of all in it, sorted
    by path. Raises ImageError for what is neither file, directory nor link.
    """
    packages = _packages((root / _PACKAGES).read_text().split())
    for path in (*_ABOUT_THE_HOST, _PACKAGES):
        remove(root / path)
    digest, size = seal_tree(root)
    return packages, digest, size


def seal_tree(root: Path) -> tuple[str, int]:
    """Finish any root, of Debian packages or not: the sha256 over all of it, and its bytes."""
    for path in _MOUNT_POINTS:
        follow(root, path).mkdir(parents=True, exist_ok=True)
    return _digest(root)


def follow(root: Path, path: str) -> Path:
    """Where a path leads that is followed inside a root, as a path of the host; never out of it.

    It need not exist. Raises ImageError for links that go round.
    """
    left = path.split("/")[::-1]
    here: list[str] = []
    for _ in range(1000):
        if not left:
            return root.joinpath(*here)
        part = left.pop()
        if part == "..":
            del here[-1:]
        elif part not in ("", "."):
            link = root.joinpath(*here, part)
            if not link.is_symlink():
                here.append(part)
                continue
            target = str(link.readlink())
            left += target.split("/")[::-1]
            if target.startswith("/"):
                here.clear()
    raise ImageError(f"{path} in {root} is a link that goes round")


def _packages(archives: Sequence[str]) -> dict[str, str]:
    """Package versions from the names apt gives to the archives: seabios_1.16.2-1_all.deb."""
    parts = [archive.split("_") for archive in archives if archive.endswith(".deb")]
    return {package: unquote(version) for package, version, _ in parts}


def _digest(root: Path) -> tuple[str, int]:
    """Make everything readable for everyone and nothing set-uid; sha256 of it all, and bytes."""
    digest, total = hashlib.sha256(), 0
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            mode, content = 0o777, os.fsencode(path.readlink())
            told = hashlib.sha256(content).hexdigest()
        elif stat.S_ISDIR(info.st_mode):
            mode, content, told = 0o755, b"", "directory"
            path.chmod(mode)
        elif stat.S_ISREG(info.st_mode):
            mode = 0o755 if info.st_mode & 0o100 else 0o644
            path.chmod(mode)
            content = path.read_bytes()
            told = hashlib.sha256(content).hexdigest()
        else:
            raise ImageError(f"{path} is neither file, directory nor link")
        name = json.dumps(str(path.relative_to(root)))
        digest.update(f"{name} {mode:o} {len(content)} {told}\n".encode())
        total += len(content)
    root.chmod(0o755)
    return digest.hexdigest(), total


def ask(
    root: Path, binary: str, *arguments: str,
    mounts: Sequence[tuple[Path, str]] = (), environment: Mapping[str, str] | None = None,
) -> str:
    """What a program in the root prints, run with nothing but the root and what is mounted."""
    argv = ["bwrap", "--ro-bind", str(root), "/", "--dev", "/dev", "--proc", "/proc",
            "--tmpfs", "/tmp", "--unshare-all", "--cap-drop", "ALL", "--die-with-parent",  # noqa: S108
            "--clearenv"]  # fmt: skip
    for directory, inside in mounts:
        argv += ["--ro-bind", str(directory), inside]
    for name, value in (environment or {}).items():
        argv += ["--setenv", name, value]
    return run([*argv, "--", "/" + binary.lstrip("/"), *arguments], f"{binary} does not run")


def run(argv: list[str], failure: str, stdout: Any = subprocess.PIPE) -> str:
    """What a program prints. Raises ImageError, with the end of its stderr, if it fails."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
            timeout=BUILD_SECONDS, check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{failure}: no end after {BUILD_SECONDS:.0f} s", argv=argv) from error
    except OSError as error:
        raise ImageError(f"{failure}: {error.strerror}", argv=argv) from error
    if done.returncode:
        tail = "\n".join(done.stderr.decode(errors="replace").splitlines()[-20:])
        raise ImageError(failure, argv=argv, status=done.returncode, tail=tail)
    return (done.stdout or b"").decode(errors="replace")


def usage(path: Path) -> int:
    """The bytes of all files in a tree."""
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def remove(path: Path) -> None:
    """Remove a file or a tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        # A tree that tar was stopped in can hold directories that even their owner cannot enter.
        for directory, _, _ in os.walk(path):
            Path(directory).chmod(0o755)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
