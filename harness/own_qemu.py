"""A QEMU on this host that no catalogue has: its files as they are now, and a root it runs in.

What a run needs of a build tree is copied into the cache first. A build that is made anew in the
meantime is another build, and the run goes on with the bytes that it began with.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import debian, elf
from harness.cache import Cache
from harness.errors import ImageError, UserError

INSIDE = "/tmp/build"  # noqa: S108  # below the one mount point that is a tmpfs in both engines
PROGRAM = "qemu-system-x86_64"
DEFAULT_FIRMWARE = "bios-256k.bin"

# Where a build tree (of a source tree, in it or below it) and an install prefix hold a program.
_PLACES = ("", "build", "bin", "x86_64-softmmu")
# No file that QEMU loads into a PC is larger; the flash images of other machines are.
_LARGEST_DATA = 16 << 20
_MODULES_BUILT = ("qemu-bundle/**/*.so",)
_MODULES_INSTALLED = ("lib*/qemu/*.so", "lib*/*/qemu/*.so")
# What the loader prints for a library, in its listing (glibc) or as an error (glibc, musl).
_LISTED = re.compile(r"^\s*(\S+) => (/\S+)", re.MULTILINE)
_MISSING = re.compile(
    r"^\s*(\S+) => not found|error while loading shared libraries: ([^\s:]+): cannot open"
    r"|Error loading shared library ([^\s:]+):", re.MULTILINE,
)


@dataclass(frozen=True)
class Copy:
    """The files of a QEMU in the cache; ``directory`` holds what stands at INSIDE in a sandbox.

    ``program`` and ``data`` are names below it, in the order QEMU is to look. ``digest`` is the
    sha256 over names and contents. ``firmware`` is the file of the BIOS that came along.
    """

    digest: str
    directory: Path
    program: str
    data: tuple[str, ...]
    modules: tuple[str, ...]
    loader: str | None
    firmware: Path | None

    @property
    def binary(self) -> str:
        """The program's path in a sandbox."""
        return f"{INSIDE}/{self.program}"

    @property
    def mounts(self) -> tuple[tuple[Path, str], ...]:
        """What a sandbox has to mount."""
        return ((self.directory, INSIDE),)

    @property
    def arguments(self) -> tuple[str, ...]:
        """What makes QEMU find its data."""
        return tuple(word for name in self.data for word in ("-L", f"{INSIDE}/{name}"))


# ---- looking at it where it is ----------------------------------------------------------------


def find(path: Path) -> Path:
    """The QEMU that a path means. Raises UserError, without a place, if it is none for this host.

    Nothing is run: that it is a program for another processor, its first bytes say.
    """
    if path.is_dir():
        found = [path / place / PROGRAM for place in _PLACES if (path / place / PROGRAM).is_file()]
        if not found:
            raise UserError(f"{path} holds no {PROGRAM}",
                            hint="a build tree, an install prefix, or the program itself")
        path = found[0]
    elf.read(path)
    if not path.stat().st_mode & 0o111:
        raise UserError(f"{path} is not executable", hint=f"chmod +x {path}")
    return path


def data_directories(program: Path) -> tuple[Path, ...]:
    """Where this QEMU's BIOS and option ROMs are: as many directories as are needed for both."""
    found = []
    for parent in dict.fromkeys((program.parent, program.resolve().parent)):
        for directory in (
            parent / "pc-bios",
            *sorted(parent.glob("qemu-bundle/**/share/qemu")),
            parent.parent / "pc-bios",
            parent.parent / "share" / "qemu",
            parent.parent / "share" / "seabios",
        ):
            if any(directory.glob("*.bin")):
                found.append(directory)
            if (directory / DEFAULT_FIRMWARE).is_file():
                return tuple(found)
    return tuple(found)


def default_firmware(program: Path) -> Path | None:
    """The BIOS in this QEMU's data, if there is one."""
    files = (directory / DEFAULT_FIRMWARE for directory in data_directories(program))
    return next(filter(Path.is_file, files), None)


def _files(program: Path) -> tuple[str, dict[str, Path]]:
    """The program's name in a copy, and all files by theirs; as QEMU finds its modules from it."""
    installed = program.parent.name == "bin"
    top = program.parent.parent if installed else program.parent
    name = program.relative_to(top).as_posix()
    files = {name: program}
    for pattern in _MODULES_INSTALLED if installed else _MODULES_BUILT:
        files |= {path.relative_to(top).as_posix(): path for path in top.glob(pattern)}
    for number, directory in enumerate(data_directories(program)):
        for path in directory.iterdir():
            if path.is_file() and path.stat().st_size <= _LARGEST_DATA:
                files[f"data{number}/{path.name}"] = path
    return name, dict(sorted(files.items()))


def copy(path: Path, cache: Cache) -> Copy:
    """Put what belongs to a QEMU into the cache. Raises UserError as ``find``, and ImageError."""
    program = find(path)
    name, files = _files(program)
    digest = _digest(files)

    def fill(directory: Path) -> None:
        for inside, file in files.items():
            target = directory / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            target.chmod(0o755 if inside == name else 0o644)
        if _digest({inside: directory / inside for inside in files}) != digest:
            raise ImageError(f"{program} was changed while it was read; try again")

    directory = cache.entry(f"qemu-{digest[:16]}", fill)
    data = sorted({inside.split("/")[0] for inside in files if inside.startswith("data")})
    bios = (directory / data_name / DEFAULT_FIRMWARE for data_name in data)
    return Copy(
        digest, directory, name, tuple(data),
        tuple(inside for inside in files if inside.endswith(".so")),
        elf.read(program).loader, next(filter(Path.is_file, bios), None),
    )


def _digest(files: Mapping[str, Path]) -> str:
    """The sha256 over names and contents."""
    told = [[name, hashlib.sha256(file.read_bytes()).hexdigest()] for name, file in files.items()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


# ---- a root in which it runs --------------------------------------------------------------------


@dataclass(frozen=True)
class Root:
    """A root file system that a QEMU can be mounted into."""

    name: str
    directory: Path
    digest: str


def choose_root(qemu: Copy, roots: Sequence[Root], path: Path, cache: Cache) -> tuple[Root, str]:
    """The first root in which this QEMU starts, and what it answers to --version there.

    After ``roots`` comes one of this host's own libraries, with the shell of the first root.
    Raises UserError, which names what is missing, if there is none; ``path`` is what it calls
    the QEMU.
    """
    complaint = ImageError("nothing tried")
    lacking: list[tuple[str, ...]] = []
    for number in range(len(roots) + 1):
        if number < len(roots):
            root = roots[number]
        else:
            libraries, missing = _host_libraries(qemu)
            if missing:
                lacking.append(missing)
                continue
            root = _host_root(qemu, libraries, roots[0], cache)
        try:
            # Bound at once, so that a symbol that a library lacks is told here too.
            return root, debian.ask(root.directory, qemu.binary, "--version", mounts=qemu.mounts,
                                    environment={"LD_BIND_NOW": "1"})
        except ImageError as error:
            complaint = error
            if missing := _lacking(qemu, root):
                lacking.append(missing)
    tried = ", ".join(root.name for root in roots) + " and this host"
    if lacking:
        fewest = min(lacking, key=len)
        raise UserError(f"{path} lacks {', '.join(fewest)}",
                        hint=f"looked among the libraries of {tried}")
    raise UserError(f"{path} does not start: {last_words(complaint)}",
                    hint=f"tried with the libraries of {tried}")


def last_words(error: ImageError) -> str:
    """Why a program did not run, in its own words where it had any."""
    said = error.tail.strip().splitlines()
    return said[-1] if said else f"exit status {error.status}"


def _lacking(qemu: Copy, root: Root) -> tuple[str, ...]:
    """The libraries that a QEMU does not find in a root."""
    if qemu.loader is None:
        return ()
    if not debian.follow(root.directory, qemu.loader).is_file():
        return (qemu.loader,)
    try:
        listing = debian.ask(root.directory, qemu.loader, qemu.binary, mounts=qemu.mounts,
                             environment={"LD_TRACE_LOADED_OBJECTS": "1"})
    except ImageError as error:
        listing = error.tail
    return _missing_in(listing)


def _missing_in(listing: str) -> tuple[str, ...]:
    names = (next(filter(None, found.groups())) for found in _MISSING.finditer(listing))
    return tuple(dict.fromkeys(names))


def _host_libraries(qemu: Copy) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The libraries, by name, that this host's loader would give it, and those it would not."""
    libraries: dict[str, Path] = {}
    if qemu.loader is None:
        return libraries, ()
    if not Path(qemu.loader).is_file():
        return libraries, (qemu.loader,)
    for name in (*qemu.modules, qemu.program):
        listing = _host_listing(qemu.loader, qemu.directory / name)
        libraries |= {library: Path(path) for library, path in _LISTED.findall(listing)}
    # Of the program, the last: a module that cannot be loaded is one that QEMU goes without.
    return libraries, _missing_in(listing)


def _host_listing(loader: str, program: Path, *options: str) -> str:
    """What this host's loader finds for a program. The user's LD_LIBRARY_PATH counts."""
    argv = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all",
            "--cap-drop", "ALL", "--die-with-parent", *options,
            "--setenv", "LD_TRACE_LOADED_OBJECTS", "1", "--", loader, str(program)]  # fmt: skip
    try:
        return debian.run(argv, f"{loader} does not list the libraries of {program.name}")
    except ImageError as error:
        return error.tail


def _host_root(qemu: Copy, libraries: Mapping[str, Path], shell: Root, cache: Cache) -> Root:
    """A root of this host's libraries, all in the directory where its loader looks by itself."""
    files = {"/bin/busybox": debian.follow(shell.directory, "bin/busybox")}
    if qemu.loader:
        files[qemu.loader] = Path(qemu.loader)
        by_itself = _host_listing(qemu.loader, qemu.directory / qemu.program, "--clearenv")
        home = next((Path(path).parent for name, path in _LISTED.findall(by_itself)
                     if name.startswith("libc.")), Path("/usr/lib"))
        files |= {str(home / name): path for name, path in libraries.items()}
    files = dict(sorted(files.items()))

    def fill(directory: Path) -> None:
        # As the distributions have it today, and as the engines expect it.
        for name in ("bin", "lib", "lib64"):
            (directory / "usr" / name).mkdir(parents=True)
            (directory / name).symlink_to(f"usr/{name}")
        for inside, file in files.items():
            target = directory / inside.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            target.chmod(0o755)
        debian.seal_tree(directory)

    digest = _digest(files)
    name = f"host-{digest[:16]}"
    return Root(name, cache.entry(name, fill), digest)
