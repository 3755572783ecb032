"""A QEMU on this host that no catalogue has: its files as they are now, and a root it runs in.

What a run needs of a build tree is copied into the cache first. A build that is made anew in the
meantime is another build, and the run goes on with the bytes that it began with.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from bootmatrix.errors import HarnessError, ImageError, UserError
from bootmatrix.files import given_file
from bootmatrix.roots import debian, elf, libraries
from bootmatrix.roots.cache import Cache

INSIDE = "/tmp/build"  # noqa: S108  # below the one mount point that is a tmpfs in both engines
PROGRAM = "qemu-system-x86_64"
DEFAULT_FIRMWARE = "bios-256k.bin"

# Where a build tree (of a source tree, in it or below it) and an install prefix hold a program.
_PLACES = ("", "build", "bin", "usr/bin", "x86_64-softmmu")
# No file that QEMU loads into a PC is larger; the flash images of other machines are.
_LARGEST_DATA = 16 << 20
# What a build tree holds for QEMU to load: some 100 files, in a dozen directories.
_MOST_FILES = _MOST_DIRECTORIES = 4000
# And all of it. (Chosen, not measured: no build tree of some GiB was here.)
_MOST_BYTES = 4 << 30
_MODULES_INSTALLED = ("lib*/qemu/*.so", "lib*/*/qemu/*.so")
# QEMU's variable for their directory (its util/module.c).
_MODULE_DIRECTORY = "QEMU_MODULE_DIR"
# Who a QEMU runs as where the harness is root is somebody else, who must be able to read it.
FOR_EVERYONE = 0o004
# Loaders of this host that may come along into a root made of its libraries: glibc's and musl's.
_LOADERS = tuple(directory + name for directory in ("/lib64/", "/lib/") for name in (
    "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "ld-musl-x86_64.so.1", "ld-musl-aarch64.so.1"))
# A directory in which both look by themselves.
_HOME = "/usr/lib"

Start = Callable[["Root"], str]
"""Runs a QEMU's --version in a root, in a sandbox; ImageError if it does not run there."""


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

    @property
    def modules_directory(self) -> Path:
        """Where its modules are in the cache; a directory with none in it, where it has none."""
        return (self.directory / self.modules[0]).parent if self.modules else self.directory

    @property
    def environment(self) -> tuple[tuple[str, str], ...]:
        """What makes it find its modules, wherever it was told to look when it was built."""
        place = self.modules_directory.relative_to(self.directory)
        return ((_MODULE_DIRECTORY, f"{INSIDE}/{place}"),) if self.modules else ()


# ---- looking at it where it is ----------------------------------------------------------------


def find(path: Path) -> Path:
    """The QEMU that a path means. Raises UserError, without a place, if it is none for this host.

    Nothing is run: that it is a program for another processor, its first bytes say.
    """
    named = not path.is_dir()
    if not named:
        found = [path / place / PROGRAM for place in _PLACES if (path / place / PROGRAM).is_file()]
        if not found:
            raise UserError(f"{path} holds no {PROGRAM}",
                            hint="a build tree, an install prefix, or the program itself")
        path = found[0]
    elf.read(path)
    if not path.stat().st_mode & 0o111:
        raise UserError(f"{path} is not executable", hint=f"chmod +x {path}")
    # QEMU looks from where it is, and not from a link to it.
    return path.resolve() if named and path.is_symlink() else path


def data_directories(program: Path, named: Path | None = None) -> tuple[Path, ...]:
    """Where this QEMU's BIOS and option ROMs are: as many directories as are needed for both.

    ``named`` comes first, as with QEMU's -L. Raises UserError where no data is in it.
    """
    if named is not None and not any(named.glob("*.bin")):
        raise UserError(f"{named} holds no data of a QEMU's",
                        hint=f"a directory with option ROMs, and mostly {DEFAULT_FIRMWARE}")
    found = []
    parents = dict.fromkeys((program.parent, program.resolve().parent))
    for directory in itertools.chain([named] if named else [], *map(_data_around, parents)):
        if any(directory.glob("*.bin")):
            found.append(directory)
        if (directory / DEFAULT_FIRMWARE).is_file():
            break
    return tuple(dict.fromkeys(found))


def _data_around(parent: Path) -> tuple[Path, ...]:
    """Where a QEMU in a directory looks for its data: a build tree's comes before a prefix's."""
    return (
        parent / "pc-bios",
        *sorted(path for path in _bundle(parent) if path.match("share/qemu")),
        parent.parent / "pc-bios",
        *(place / "share" / name
          for place in (parent, parent.parent) for name in ("qemu", "seabios")),
    )


def default_firmware(program: Path, named: Path | None = None) -> Path | None:
    """The BIOS in this QEMU's data, if there is one. Raises as ``data_directories``."""
    files = (directory / DEFAULT_FIRMWARE for directory in data_directories(program, named))
    return next(filter(Path.is_file, files), None)


def _files(program: Path, named: Path | None) -> tuple[str, dict[str, Path]]:
    """The program's name in a copy, and all files by theirs.

    As QEMU finds its modules from it, and ld.so(8) the libraries that came with it.
    """
    installed = program.parent.name == "bin"
    top = program.parent.parent if installed else program.parent
    name = program.relative_to(top).as_posix()
    files = {name: program}
    modules = itertools.chain(
        (path for path in _bundle(program.parent) if path.suffix == ".so"),
        *(place.glob(pattern) for place in dict.fromkeys((program.parent, top))
          for pattern in _MODULES_INSTALLED))
    files |= {path.relative_to(top).as_posix(): path for path in _some(modules)}
    for number, directory in enumerate(data_directories(program, named)):
        for path in _some(directory.iterdir()):
            if path.is_file() and path.stat().st_size <= _LARGEST_DATA:
                files[f"data{number}/{path.name}"] = path
    programs = [f"{INSIDE}/{inside}" for inside in files if not inside.startswith("data")]
    brought = libraries.resolve(libraries.Tree(None, [(top, INSIDE)]), programs, within=INSIDE)
    files |= {library.inside.removeprefix(f"{INSIDE}/"): library.file
              for library in brought.libraries}
    return name, dict(sorted(files.items()))


def _bundle(tree: Path) -> Iterator[Path]:
    """All in the directory that a build tree shows to its QEMU as an installation.

    No link is followed, the directory itself being one: it could lead to all of this host.
    """
    bundle = tree / "qemu-bundle"
    if not bundle.is_symlink():
        for place, directories, names in itertools.islice(os.walk(bundle), _MOST_DIRECTORIES):
            yield from (Path(place, name) for name in (*directories, *names))


def _some(paths: Iterator[Path]) -> Iterator[Path]:
    return itertools.islice(paths, _MOST_FILES)


def _tree(path: Path, program: Path, named: Path | None) -> tuple[Path, ...]:
    """The directories that a QEMU's files may come from: what was given, and what belongs to it.

    A source tree around a build tree is looked into for its data alone.
    """
    # A link that the user himself names stands for what it leads to.
    parents = [program.parent, program.resolve().parent]
    if path.is_dir():  # but none in it leads to another place
        inside = program.parent.resolve().is_relative_to(path.resolve())
        parents = [program.parent] if inside else []
    own = [parent.parent if parent.name == "bin" else parent for parent in parents]
    if path.is_dir():
        own.append(path)
    around = [parent.resolve().parent / name for parent in parents for name in ("pc-bios", "share")]
    if named is not None:  # a distribution's share/qemu has links to share/seabios
        real = named.resolve()
        around.append(real.parent if real.parent.name == "share" else real)
    return tuple(dict.fromkeys((*(directory.resolve() for directory in own), *around)))


def _check_inside(file: Path, real: Path, tree: Sequence[Path]) -> None:
    """Raise UserError for a file that is really elsewhere than in its tree."""
    if not any(real.is_relative_to(directory) for directory in tree):
        raise UserError(f"{file} is a link out of its tree, to {real}",
                        hint="name a directory that holds both, or put the file itself there")


@contextmanager
def _opened(file: Path, tree: Sequence[Path]) -> Iterator[BufferedReader]:
    """A file of a QEMU's, for reading. Raises UserError for one that must not be copied."""
    real = file.resolve()
    _check_inside(file, real, tree)
    try:
        opened = given_file.open_regular(real, elf.LARGEST)
    except given_file.Unreadable as error:
        raise UserError(f"{file} {error}") from None
    with opened:
        # As it was opened: meanwhile a part of its name can have become a link.
        _check_inside(file, Path(f"/proc/self/fd/{opened.fileno()}").readlink(), tree)
        if os.getuid() == 0 and not os.fstat(opened.fileno()).st_mode & FOR_EVERYONE:
            raise UserError(f"{file} is not readable for everyone",
                            hint=f"a harness that is root runs QEMU as nobody: chmod o+r {file}")
        yield opened


def copy(path: Path, cache: Cache, named: Path | None = None) -> Copy:
    """Put what belongs to a QEMU into the cache. Raises UserError as ``find``, and ImageError.

    ``named`` is a directory of its data. No link is followed out of the QEMU's tree, and no copy
    can be read by more than its original.
    """
    program = find(path)
    name, files = _files(program, named)
    tree = _tree(path, program, named)
    _check_size(program, sum(file.stat().st_size for file in files.values()))
    digest = _digest(files, tree)

    def fill(directory: Path) -> None:
        size = 0
        for inside, file in files.items():
            target = directory / inside
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with _opened(file, tree) as opened, target.open("xb") as made:
                    found = os.fstat(opened.fileno())
                    _check_size(program, size := size + found.st_size)
                    given_file.copy(opened, made, found.st_size, holes=True)
            except (FileExistsError, IsADirectoryError, NotADirectoryError):
                raise UserError(f"{program}: {inside} would be a file and a directory in its copy",
                                hint="give it another name") from None
            except given_file.Unreadable as problem:
                raise UserError(f"{file} {problem}", hint="try again") from None
            target.chmod(found.st_mode & (0o755 if inside == name else 0o644) | stat.S_IRUSR)
        copied = {inside: directory / inside for inside in files}
        if _digest(copied, (directory.resolve(),)) != digest:
            raise ImageError(f"{program} was changed while it was read; try again")

    directory = cache.entry(f"qemu-{digest[:16]}", fill)
    data = sorted({inside.split("/")[0] for inside in files if inside.startswith("data")})
    bios = (directory / data_name / DEFAULT_FIRMWARE for data_name in data)
    return Copy(
        digest, directory, name, tuple(data),
        tuple(inside for inside in files if inside.endswith(".so") and "/qemu/" in f"/{inside}"),
        elf.read(directory / name).loader, next(filter(Path.is_file, bios), None),
    )


def _check_size(program: Path, size: int) -> None:
    if size > _MOST_BYTES:
        raise UserError(f"what belongs to {program} is too large for a QEMU: at most "
                        f"{_MOST_BYTES >> 30} GiB, with modules and data")


def _digest(files: Mapping[str, Path], tree: Sequence[Path]) -> str:
    """The sha256 over names and contents."""
    digests = []
    for name, file in files.items():
        with _opened(file, tree) as opened:
            digests.append([name, hashlib.file_digest(opened, "sha256").hexdigest()])
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


# ---- a root in which it runs --------------------------------------------------------------------


@dataclass(frozen=True)
class Root:
    """A root file system that a QEMU can be mounted into."""

    name: str
    directory: Path
    digest: str


def choose_root(
    qemu: Copy, roots: Sequence[Root], path: Path, cache: Cache, start: Start
) -> Root:
    """The first root in which this QEMU starts, as ``start`` tells.

    After ``roots`` comes one of this host's own libraries, with the shell of the first root.
    Raises UserError, which names what is missing, if there is none; ``path`` is what it calls
    the QEMU.
    """
    complaint: ImageError | None = None
    lacking: list[tuple[str, ...]] = []
    for number in range(len(roots) + 1):
        if number < len(roots):
            root = roots[number]
        else:
            found, missing = _host_libraries(qemu)
            if missing:
                lacking.append(missing)
                continue
            root = _host_root(qemu, found, roots[0], cache)
        if missing := _lacking(qemu, root):
            lacking.append(missing)
            continue
        try:
            start(root)
        except ImageError as error:
            complaint = error
        else:
            return root
    tried = ", ".join(root.name for root in roots) + " and this host"
    if complaint is not None:
        raise UserError(f"{path} does not start: {last_words(complaint)}",
                        hint=f"tried with the libraries of {tried}")
    fewest = min(lacking, key=len)
    hint = f"looked among the libraries of {tried}"
    if qemu.loader in fewest and qemu.loader not in _LOADERS:  # Nix's and Guix's
        hint = "a loader of its own: give the file system that has both, {root: DIR, program: ...}"
    raise UserError(f"{path} lacks {', '.join(fewest)}", hint=hint)


def last_words(error: HarnessError) -> str:
    """Why a program did not run, in its own words where it had any."""
    if said := error.tail.strip().splitlines():
        return said[-1]
    return error.message if error.status is None else f"exit status {error.status}"


def _lacking(qemu: Copy, root: Root) -> tuple[str, ...]:
    """The libraries that a QEMU does not find in a root."""
    if qemu.loader is None:
        return ()
    tree = libraries.Tree(root.directory, qemu.mounts)
    if tree.file(qemu.loader) is None:
        return (qemu.loader,)
    return libraries.resolve(tree, [qemu.binary], within=INSIDE).missing


def _host_libraries(qemu: Copy) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The libraries, by name, that this host has for a QEMU, and those that it has not.

    The user's LD_LIBRARY_PATH counts. Of a module one may be missing: QEMU goes without it.
    """
    if qemu.loader is None:
        return {}, ()
    tree = libraries.Tree(Path("/"), qemu.mounts)
    if qemu.loader not in _LOADERS or tree.file(qemu.loader) is None:
        return {}, (qemu.loader,)
    given = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
    modules = [f"{INSIDE}/{name}" for name in qemu.modules]
    found = libraries.resolve(tree, [qemu.binary], given, INSIDE)
    further = libraries.resolve(tree, modules, given, INSIDE)
    local = (library for library in (*further.libraries, *found.libraries)
             if not library.inside.startswith(f"{INSIDE}/"))
    return {library.name: library.file for library in local}, found.missing


def _host_root(qemu: Copy, found: Mapping[str, Path], shell: Root, cache: Cache) -> Root:
    """A root of this host's libraries, all in the directory where its loader looks by itself."""
    files = {"/bin/busybox": debian.follow(shell.directory, "bin/busybox")}
    if qemu.loader:
        files[qemu.loader] = debian.follow(Path("/"), qemu.loader)
        files |= {f"{_HOME}/{name}": path for name, path in found.items()}
    files = dict(sorted(files.items()))
    everywhere = (Path("/"),)  # where they are was found by this host's own rules

    def fill(directory: Path) -> None:
        # As the distributions have it today, and as the engines expect it.
        for name in ("bin", "lib", "lib64"):
            (directory / "usr" / name).mkdir(parents=True)
            (directory / name).symlink_to(f"usr/{name}")
        for inside, file in files.items():
            target = directory / inside.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            with _opened(file, everywhere) as opened, target.open("xb") as made:
                shutil.copyfileobj(opened, made)
            target.chmod(0o755)
        debian.seal_tree(directory)

    digest = _digest(files, everywhere)
    name = f"host-{digest[:16]}"
    return Root(name, cache.entry(name, fill), digest)
