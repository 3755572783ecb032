"""A root file system of Debian packages: made, sealed, and asked what is in it.

Nothing in a root tells of the machine that made it, so the same packages give the same digest
everywhere.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bootmatrix.errors import ImageError
from bootmatrix.files.cell_files import remove_tree
from bootmatrix.roots.manifest import Manifest

HOOKS = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
BUILD_SECONDS = 600.0
END_SECONDS = 10.0

# Of the package distro-info-data; without it there are those of today.
_DISTRO_INFO = Path("/usr/share/distro-info/debian.csv")
_SUITES = ("bullseye", "bookworm", "trixie", "forky", "duke", "sid", "experimental")
_ALIASES = ("oldoldstable", "oldstable", "stable", "testing", "unstable")

# What mmdebstrap writes about the machine it runs on: its mirror, its name, its resolver. None
# of it belongs to the build, and without it the digest is the same wherever it was built.
_ABOUT_THE_HOST = (
    "dev", "etc/apt", "etc/dpkg", "etc/fstab", "etc/hostname", "etc/resolv.conf",
    "var/cache/apt", "var/lib/apt", "var/lib/dpkg", "var/log",
)
_PACKAGES = ".packages"
_MOST_STEPS = 400  # from one directory or link to the next; the kernel follows 40 links
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


def suites() -> tuple[str, ...] | None:
    """Debian's suites by name; None where this host has another archive, or mmdebstrap chooses."""
    if host_mirror() is None:
        return None
    with contextlib.suppress(OSError), _DISTRO_INFO.open(newline="") as file:
        return (*(row["series"] for row in csv.DictReader(file) if row.get("series")), *_ALIASES)
    return (*_SUITES, *_ALIASES)


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
    with _scratch() as scratch, archive.open("wb") as tar:
        run([*argv, mirror] if mirror else argv, "mmdebstrap failed", stdout=tar,
            environment={"TMPDIR": str(scratch)})
    run(["tar", "--extract", "--file", str(archive), "--directory", str(root),
         "--exclude=./dev/*", "--no-same-owner", "--delay-directory-restore"],
        "the root could not be unpacked")
    archive.unlink()


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A directory for mmdebstrap, which leaves what it has there where it fails or is killed."""
    directory = Path(tempfile.mkdtemp(prefix="bootmatrix-"))
    directory.chmod(0o755)  # apt reads it as a user of its own
    try:
        yield directory
    finally:
        # Not through what it may have mounted there.
        subprocess.run(["rm", "-rf", "--one-file-system", directory], stderr=subprocess.DEVNULL,
                       check=False)


def _mmdebstrap() -> list[str]:
    """mmdebstrap in a mode that works for this user: nothing of the root is run to make it.

    Its own choice for a plain user wants subordinate ids (subuid(5)) or a chroot that has a tar.
    """
    if os.getuid() and shutil.which("fakeroot"):
        return ["fakeroot", "mmdebstrap", "--mode=chrootless"]
    return ["mmdebstrap", "--mode=auto"]


def seal(root: Path) -> tuple[dict[str, str], Manifest]:
    """Finish a root: its packages' versions, and what is in it.

    Raises ImageError for what is neither file, directory nor link.
    """
    packages = _packages((root / _PACKAGES).read_text().split())
    for path in (*_ABOUT_THE_HOST, _PACKAGES):
        remove(root / path)
    return packages, seal_tree(root)


def seal_tree(root: Path, *, as_it_is: bool = False) -> Manifest:
    """Finish any root, of Debian packages or not; what is in it.

    ``as_it_is``: nothing becomes readable for those who could not read it. Otherwise all can be
    read by everyone, as what is in Debian's packages may be.
    """
    for path in _MOUNT_POINTS:
        _make_directory(root, path)
    _set_modes(root, as_it_is=as_it_is)
    return Manifest.of(root)


def check_sealed(root: Path) -> None:
    """Raise ImageError if the engines would mount something through a link of this root."""
    if root.is_symlink():
        raise ImageError("the root itself is a link")
    for path in _MOUNT_POINTS:
        parts = path.split("/")
        for place in (root.joinpath(*parts[:length + 1]) for length in range(len(parts))):
            if place.is_symlink() or not place.is_dir():
                raise ImageError(f"/{path} is no directory in it")


def _make_directory(root: Path, path: str) -> Path:
    """Make a path in a root a directory, whatever it was, and all above it.

    The root of this host mounts things there: a link would lead it out of the root.
    """
    place = root
    for name in path.split("/"):
        place /= name
        if place.is_symlink() or not place.is_dir():
            place.unlink(missing_ok=True)
            place.mkdir()
    return place


def make_place(root: Path, path: str) -> Path:
    """The directory where a path of a root leads; where that is no directory, it becomes one."""
    place = follow(root, path)
    return _make_directory(root, place.relative_to(root).as_posix())


def follow(root: Path, path: str) -> Path:
    """Where a path leads that is followed inside a root, as a path of the host; never out of it.

    It need not exist. Raises ImageError for links that go round.
    """
    left = path.split("/")[::-1]
    parts: list[str] = []
    for _ in range(_MOST_STEPS):
        if not left:
            return root.joinpath(*parts)
        part = left.pop()
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            try:
                target = os.readlink("/".join((str(root), *parts, part)))  # noqa: PTH115  # ten times
            except (OSError, ValueError):  # no link, nothing there, or a NUL in it
                parts.append(part)
                continue
            left += target.split("/")[::-1]
            if target.startswith("/"):
                parts.clear()
    raise ImageError(f"{path} in {root} is a link that goes round")


def _packages(archives: Sequence[str]) -> dict[str, str]:
    """Package versions from the names apt gives to the archives: seabios_1.16.2-1_all.deb."""
    parts = [archive.split("_") for archive in archives if archive.endswith(".deb")]
    return {package: unquote(version) for package, version, _ in parts}


def _set_modes(root: Path, *, as_it_is: bool) -> None:
    """Make everything readable, for everyone or at least for its owner, and nothing set-uid."""
    for path in (root, *root.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            path.chmod(0o755 if path == root or not as_it_is else mode & 0o755 | stat.S_IRWXU)
        elif stat.S_ISREG(mode):
            everyone = 0o755 if mode & stat.S_IXUSR else 0o644
            path.chmod(mode & 0o755 | stat.S_IRUSR if as_it_is else everyone)


def ask(root: Path, binary: str, *arguments: str) -> str:
    """What a program of Debian's prints, run with nothing but its root.

    What is not Debian's is asked in a sandbox with an engine's limits: bootmatrix.builds.asking.
    """
    argv = ["bwrap", "--ro-bind", str(root), "/", "--dev", "/dev", "--proc", "/proc",
            "--tmpfs", "/tmp", "--unshare-all", "--cap-drop", "ALL", "--die-with-parent",  # noqa: S108
            "--clearenv"]  # fmt: skip
    return run([*argv, "--", "/" + binary.lstrip("/"), *arguments], f"{binary} does not run")


def host_environment() -> dict[str, str]:
    """This process's, without the libraries that its user has for a QEMU of his own.

    The tools that are run here are this host's, and want this host's.
    """
    return {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}


def run(
    argv: list[str], failure: str, stdout: Any = subprocess.PIPE,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a program prints. Raises ImageError, with the end of its stderr, if it fails.

    It has a session of its own: mmdebstrap, where it fails, ends its whole process group.
    """
    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
            start_new_session=True, env={**host_environment(), **(environment or {})},
        )
    except OSError as error:
        raise ImageError(f"{failure}: {error.strerror}", argv=argv) from error
    with child:
        _running.add(child)
        try:
            printed, said = child.communicate(timeout=BUILD_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise ImageError(f"{failure}: no end after {BUILD_SECONDS:.0f} s", argv=argv) from error
        finally:
            _running.discard(child)
            if child.poll() is None:
                _end(child)
    if child.returncode:
        tail = "\n".join(said.decode(errors="replace").splitlines()[-20:])
        raise ImageError(failure, argv=argv, status=child.returncode, tail=tail)
    return (printed or b"").decode(errors="replace")


_running: set[subprocess.Popen[bytes]] = set()
"""What other threads wait for."""


@contextlib.contextmanager
def ending_all() -> Iterator[None]:
    """End the programs that run in any thread, and whatever one starts meanwhile.

    Each is told to its thread as a failure. A thread may just be about to start its program, so
    to end those that are known once would be to wait for that one until its time is over.
    """
    over = threading.Event()

    def end() -> None:
        while not over.wait(0.1):
            for child in tuple(_running):
                _end(child)

    ends = threading.Thread(target=end, name="ends")
    ends.start()
    try:
        yield
    finally:
        over.set()
        ends.join()


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a program and all that it has started: asked first, since it has to tidy up."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(END_SECONDS)
            return


def usage(path: Path) -> int:
    """The bytes of all files in a tree; one that goes away meanwhile has none."""
    found = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found += Path(directory, name).lstat().st_size
    return found


def remove(path: Path) -> None:
    """Remove a file or a tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        # What a stranger packed, or tar was stopped in: deep, or not to be entered by its owner.
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
