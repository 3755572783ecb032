"""Builds from source: a commit of a git repository of the user's, built in a sandbox, once.

A build runs what is in the repository, and is trusted as little as a QEMU that nobody knows: it
has the sandbox that a cell has, in which it sees the commit's files, read-only, and a compiler in
a root of Debian packages. docs/source-builds.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from bootmatrix.builds.catalogue import PackagesEntry
from bootmatrix.builds.repository import CommitTree, Repository, pack, read, require_git
from bootmatrix.deadline import Deadline
from bootmatrix.engines.bubblewrap import BubblewrapEngine
from bootmatrix.engines.confinement import CELL, SHELL, SHOWN, Priority
from bootmatrix.errors import CellError, ImageError, SandboxLost, UserError
from bootmatrix.files.cell_files import CellDir
from bootmatrix.matrix.sources import safe_name
from bootmatrix.model import GitSource, Limits, QemuBuild
from bootmatrix.roots import debian
from bootmatrix.roots.cache import BUILT, Cache
from bootmatrix.terminal import visible

OnProgress = Callable[[str], None]

SECONDS = 2 * 3600.0
"""The longest that a build may take. QEMU takes a quarter of an hour of two processors."""
LIMITS = Limits(file=1024, processes=1024, names=100_000)
"""Of a build's sandbox. Its files have 8 GiB together, and each process 4 GiB of memory."""
LOGS = "logs"
"""The directory of build logs, beside the cached builds."""
CCACHES = "ccache"
"""The directory of what ccache has kept of builds, in an archive for each repository."""

_RECIPE = 1  # part of every key
_LOOK_SECONDS = 0.2
_NOT_WANTED = "nobody waits for this build any more"
_TAIL_LINES, _TAIL_LETTERS, _LINE_LETTERS = 20, 1 << 20, 500
# Of meson's and a shell's. What a build says can be hostile: no name is longer.
_LACKS = re.compile(r"Dependency ['\"]?([\w.+-]{1,80}+)['\"]? not found|"
                    r"\b([\w.+-]{1,80}+): (?:command )?not found")
_TAG = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_/-]{0,180}")
_LOG, _PACKED, _SHARED = ".bootmatrix.log", "source.tar", ".shm"
_CCACHE, _CCACHED = ".ccache", ".ccache.tar"
_LARGEST_CCACHE, _MOST_CCACHES = 800 << 20, 4
_LARGEST_RESULT, _LARGEST_LOG, _MOST_LOGS = 256 << 20, 16 << 20, 64
# What the packages' scripts, which are not run, would link; and what old build scripts call.
_LINKS = {"cc": "gcc", "awk": "mawk", "python": "python3"}
_OTHER_FIRMWARE = ("other firmware is built by `bootmatrix bisect --build`, or beforehand: "
                   "{path: ...}")
_UNPACK = f"tar -xf {SHOWN}/{_PACKED}"


@dataclass(frozen=True)
class Recipe:
    """How a tree is built that has all files of ``marks``.

    ``script`` runs in an empty directory; its words are the tree's directory, how many jobs it may
    run at once, the version to be printed, and the options. ``results`` are the files that it
    leaves there, the first of which is the build; ``beside`` are directories of the tree whose
    files with these suffixes belong to it.
    """

    called: str
    toolchain: str
    marks: tuple[str, ...]
    script: str
    results: tuple[str, ...]
    beside: tuple[str, tuple[str, ...]] | None = None


# What a QEMU of this age does not know of the defaults is left out: they only spare time.
QEMU = Recipe("QEMU", "qemu", ("configure", "VERSION", "hw/i386", "qapi"), """
src=$1 jobs=$2 version=$3
shift 3
known=
for option in --target-list=x86_64-softmmu --without-default-features --enable-tcg --enable-kvm \\
    --enable-fdt=system --enable-pixman --disable-docs --disable-tools --disable-werror \\
    --disable-install-blobs --disable-debug-info; do
  case $option in *=*) name=${option%%=*}= ;; *) name="$option)" ;; esac
  grep -qsFe "$name" "$src/configure" "$src/scripts/meson-buildoptions.sh" && known="$known $option"
done
mkdir build
cd build
"$src/configure" $known --with-pkgversion="$version" "$@"
ninja -j "$jobs" qemu-system-x86_64
""", ("build/qemu-system-x86_64",), ("pc-bios", (".bin", ".rom")))

# As QEMU's own roms/config.seabios-256k has it.
SEABIOS = Recipe("SeaBIOS", "seabios", ("src/romlayout.S", "scripts/buildversion.py",
                                        "Makefile"), """
src=$1 jobs=$2 version=$3
shift 3
printf '%s\\n' CONFIG_QEMU=y CONFIG_ROM_SIZE=256 CONFIG_ATA_DMA=n "$@" >.config
build() {
  make --no-print-directory -C "$src" KCONFIG_CONFIG="$PWD/.config" OUT="$PWD/out/" \\
    EXTRAVERSION="-${version##*-}" "$@"
}
build olddefconfig
build -j "$jobs"
""", ("out/bios.bin", "out/rom.o"))


# EDK II's build writes into its workspace alone, which is the directory that it is run in: its
# packages are found where they are. Its own tools are built beside themselves, in a copy. What is
# said of platform and target is said once: its build takes no second platform, and builds both of
# two targets.
EDK2 = Recipe("EDK II", "edk2", ("OvmfPkg/OvmfPkgX64.dsc", "BaseTools/Conf/tools_def.template",
                                "MdePkg/MdePkg.dec"), """
src=$1 jobs=$2 version=$3
shift 3
unset PYTHONHOME MAKEFLAGS
export WORKSPACE="$PWD" PACKAGES_PATH="$src" PYTHON_COMMAND=python3 PYTHONDONTWRITEBYTECODE=1
export CONF_PATH="$PWD/Conf" EDK_TOOLS_PATH="$PWD/BaseTools"
cp -r "$src/BaseTools" BaseTools
mkdir Conf
for name in build_rule target tools_def; do
  cp "BaseTools/Conf/$name.template" "Conf/$name.txt"
done
make --no-print-directory -C BaseTools/Source/C -j "$jobs" ARCH=X64 EDK2_ARCH=X64
export PATH="$EDK_TOOLS_PATH/BinWrappers/PosixLike:$PATH"
compiler=GCC5
grep -q '^\\*_GCC_X64_CC_PATH' Conf/tools_def.txt && compiler=GCC
case " $* " in
  *" -p "*) ;;
  *) set -- -a X64 -p OvmfPkg/OvmfPkgX64.dsc -D FD_SIZE_4MB "$@" ;;
esac
case " $* " in
  *" -b "*) ;;
  *) set -- -b RELEASE "$@" ;;
esac
said=gEfiMdeModulePkgTokenSpaceGuid.PcdFirmwareVersionString
if grep -qs "$said" "$src/OvmfPkg/SmbiosPlatformDxe/SmbiosPlatformDxe.inf"; then
  set -- --pcd "$said=L$version\\\\0" "$@"
fi
build -t "$compiler" -n "$jobs" "$@"
for image in OVMF_CODE.fd OVMF_VARS.fd; do
  mv Build/*/*_"$compiler"/FV/$image $image
done
""", ("OVMF_CODE.fd", "OVMF_VARS.fd"))

FIRMWARE = (SEABIOS, EDK2)
"""What a firmware can be built by."""

# ccache's directory goes through the sandbox as an archive, so that no build writes into what
# another one reads; it is of one repository, whose commits can lie to each other alone.
_WITH_CCACHE = f"""
if command -v ccache >/dev/null; then
  mkdir -p {_CCACHE}/bin
  [ ! -e {_CCACHED} ] || tar -xf {_CCACHED} -C {_CCACHE} || rm -rf {_CCACHE}/kept
  for name in cc gcc g++ c++; do
    ln -s "$(command -v ccache)" {_CCACHE}/bin/$name
  done
  export CCACHE_DIR="$PWD/{_CCACHE}/kept" CCACHE_MAXSIZE=400M CCACHE_COMPILERCHECK=content
  export CCACHE_TEMPDIR="$PWD/{_CCACHE}" PATH="$PWD/{_CCACHE}/bin:$PATH"
fi
"""
_KEEP_CCACHE = f"""
cd {CELL}
if [ -d {_CCACHE}/kept ]; then
  ccache -s || true
  tar -cf {_CCACHE}/new.tar -C {_CCACHE} kept
fi
"""


@dataclass(frozen=True)
class Built:
    """A build in the cache: its directory there, what it is called, and what of it is in there."""

    directory: Path
    name: str
    recipe: Recipe

    @property
    def file(self) -> Path:
        """The QEMU or the firmware image."""
        return self.directory / Path(self.recipe.results[0]).name

    @property
    def symbols(self) -> Path | None:
        """What names the functions of a SeaBIOS."""
        return self.directory / "rom.o" if self.recipe is SEABIOS else None

    @property
    def variables(self) -> Path | None:
        """The template of an EDK II's variable store."""
        return self.directory / "OVMF_VARS.fd" if self.recipe is EDK2 else None


class BuildFailed(ImageError):
    """A commit does not build: the last lines of its log, and where all of that is."""

    @property
    def complaint(self) -> str:
        """The last of those lines that is not what make and ninja make of it."""
        lines = [line for line in self.tail.splitlines()
                 if line.strip() and not re.match(r"make(\[\d+\])?: |ninja: ", line)]
        return lines[-1] if lines else ""


class Stopped(ImageError):
    """A build was not waited for any more."""


class Sources:
    """What is built of the user's repositories.

    Builds and ``roots`` of toolchains have a cache each, ``logs`` are kept in a directory.
    """

    def __init__(
        self, cache: Cache, logs: Path, toolchains: Mapping[str, PackagesEntry], roots: Cache,
    ) -> None:
        self._cache = cache
        self._logs = logs
        self._toolchains = toolchains
        self._roots = roots

    def close(self) -> None:
        """No toolchain is in use any more."""
        self._roots.close()

    # ---- looking ----------------------------------------------------------------------------

    def check(self, git: GitSource, recipe: Recipe) -> str:
        """The commit that is meant. Raises UserError if it cannot be one of this recipe's."""
        require_git()
        repository = Repository(git.repository)
        commit = repository.need(git.revision)
        if mark := _lacks(repository, commit, recipe):
            raise UserError(f"{git} is no {recipe.called}: there is no {mark}",
                            hint=_OTHER_FIRMWARE if recipe is not QEMU else "")
        return commit

    def recipe(self, git: GitSource, recipes: Sequence[Recipe]) -> Recipe:
        """Which of them builds a commit. Raises UserError for a commit that none does."""
        require_git()
        repository = Repository(git.repository)
        commit, lacks = repository.need(git.revision), []
        for recipe in recipes:
            mark = _lacks(repository, commit, recipe)
            if not mark:
                return recipe
            lacks.append(f"no {recipe.called}: there is no {mark}")
        raise UserError(f"{git} is {'; '.join(lacks)}", hint=_OTHER_FIRMWARE
                        if QEMU not in recipes else "")

    def is_of(self, git: GitSource, recipe: Recipe) -> bool:
        """Whether a commit looks like one of this recipe's. Raises UserError where there is none.
        """
        repository = Repository(git.repository)
        return not _lacks(repository, repository.need(git.revision), recipe)

    def has_firmware(self, git: GitSource, name: str) -> bool:
        """Whether a QEMU's commit brings a firmware image of this name."""
        repository = Repository(git.repository)
        return repository.holds(repository.need(git.revision), f"pc-bios/{name}")

    def is_built(self, git: GitSource, recipe: Recipe) -> bool:
        """Whether it need not be built any more."""
        return self._cache.has(self._key(git, recipe, self.check(git, recipe)))

    def log(self, git: GitSource, recipe: Recipe, commit: str) -> Path:
        """Where the log of a build is."""
        return self._logs / f"{self._key(git, recipe, commit)}.log"

    def _key(self, git: GitSource, recipe: Recipe, commit: str) -> str:
        inputs = [_RECIPE, recipe.script, recipe.results, recipe.beside, git.options,
                  self._entry(git, recipe).model_dump(mode="json"), commit]
        digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
        return f"{BUILT}-{recipe.toolchain}-{commit[:12]}-{digest[:16]}"

    def _entry(self, git: GitSource, recipe: Recipe) -> PackagesEntry:
        usual = self._toolchains[recipe.toolchain]
        packages = dict.fromkeys((*usual.packages, *git.packages))
        return PackagesEntry(suite=git.toolchain or usual.suite, packages=list(packages))

    # ---- building ---------------------------------------------------------------------------

    def built(
        self, git: GitSource, recipe: Recipe, progress: OnProgress,
        ahead: threading.Event | None = None,
    ) -> Built:
        """The build of a commit, made first if the cache lacks it; another process' is waited for.

        One that is built ``ahead`` gives way to what else runs, and setting that ends it. Raises
        UserError, BuildFailed, ImageError where it cannot be tried, and Stopped.
        """
        stop = ahead or threading.Event()
        commit = self.check(git, recipe)
        key = self._key(git, recipe, commit)
        with _once(self._cache, key, f"{git}: another process builds it", progress, stop):
            def fill(directory: Path) -> None:
                self._build(git, recipe, commit, directory, progress, stop,
                            Priority.USUAL if ahead is None else Priority.LOW)

            return Built(self._cache.entry(key, fill), _called(git, recipe, commit), recipe)

    def _build(
        self, git: GitSource, recipe: Recipe, commit: str, directory: Path, progress: OnProgress,
        stop: threading.Event, priority: Priority,
    ) -> None:
        """Fill a directory; what is needed meanwhile lies beside it, and goes with what it is in.
        """
        toolchain = self._toolchain(git, recipe, progress, stop)
        progress(f"{git}: building {commit[:12]}")
        begun = monotonic()
        repository = Repository(git.repository)
        tree = repository.tree(commit)
        packed, source, cell = (directory.parent / name for name in ("packed", "source", "cell"))
        for new in (packed, source, cell):
            new.mkdir(mode=0o755)
        cached = self._ccached(git, recipe)
        with contextlib.suppress(FileNotFoundError):
            (cell / _CCACHED).write_bytes(cached.read_bytes())
        # EDK II's build makes semaphores. Who can write there is the sandbox alone.
        (cell / _SHARED).mkdir()
        (cell / _SHARED).chmod(0o777)
        version = _version(repository, commit)
        with (packed / _PACKED).open("wb") as file:
            # SeaBIOS reads it where there is no git.
            pack(tree, file, {".version": _release(version).encode()} if recipe is SEABIOS else {})
        (packed / _PACKED).chmod(0o644)
        words = (SHOWN, str(os.cpu_count() or 1), version, *git.options)
        with BubblewrapEngine() as engine:
            engine.priority = priority
            script = f"{_WITH_CCACHE}{recipe.script}{_KEEP_CCACHE}"
            runs = ((source, packed, _UNPACK, ()), (cell, source, script, words))
            for writable, shown, script, given in runs:
                engine.shared_memory = _SHARED if writable is cell else ""
                with engine.sandbox(toolchain, writable, shown=shown, limits=LIMITS) as sandbox:
                    process = sandbox.launch(
                        (*SHELL, "-c", f"set -e\n{script}", "sh", *given), writable / _LOG)
                    deadline, why = Deadline.after(SECONDS), ""
                    try:
                        while (status := process.poll()) is None and not deadline.expired:
                            if stop.wait(_LOOK_SECONDS):
                                raise Stopped(_NOT_WANTED)
                    except (CellError, SandboxLost) as error:
                        status, why = None, error.message
                    process.kill()
                with CellDir(writable) as written:
                    if status == 0 and writable is cell:
                        why = _copied(written, recipe, directory)
                    if status != 0 or why:
                        raise self._failed(git, recipe, commit, written, tree, status, why)
                    if writable is cell:
                        self._keep_log(written, git, recipe, commit)
                        _keep_ccache(written, cached)
        if recipe.beside is not None:
            place, suffixes = recipe.beside
            blobs = tree.under(place, *suffixes)
            (directory / place).mkdir()
            for name, content in zip(blobs, read([*blobs.values()]), strict=True):
                (directory / place / name).write_bytes(content)
        progress(f"{git}: built in {monotonic() - begun:.0f} s")

    def _failed(
        self, git: GitSource, recipe: Recipe, commit: str, written: CellDir, tree: CommitTree,
        status: int | None, why: str,
    ) -> BuildFailed:
        log = self._keep_log(written, git, recipe, commit)
        text = log.read_text(errors="replace")[-_TAIL_LETTERS:] if log.exists() else ""
        lines = [visible(line[:_LINE_LETTERS]) for line in text.splitlines()[-_TAIL_LINES:]]
        ended = f"exit status {status}" if status is not None else f"no end after {SECONDS:.0f} s"
        message = f"{git} does not build: {why or ended}; all that it said: {log}"
        if tree.absent:
            message += f"; not in the clone, and maybe wanted: {', '.join(tree.absent[:4])}"
        if found := _LACKS.search(text):
            message += (f"; {found[1] or found[2]} is in none of its packages: packages: [...] "
                        "beside the source adds some of Debian's")
        return BuildFailed(message, tail="\n".join(lines))

    def _keep_log(self, written: CellDir, git: GitSource, recipe: Recipe, commit: str) -> Path:
        log = self.log(git, recipe, commit)
        self._logs.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        with contextlib.suppress(CellError, FileNotFoundError):
            written.copy_out(_LOG, log, _LARGEST_LOG)
        logs = sorted(self._logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
        for old in logs[:-_MOST_LOGS]:
            old.unlink(missing_ok=True)
        return log

    def _ccached(self, git: GitSource, recipe: Recipe) -> Path:
        """The archive of what ccache has kept of a repository's builds; it may not be there."""
        inputs = json.dumps([os.fspath(git.repository.resolve()), recipe.toolchain,
                             self._entry(git, recipe).model_dump(mode="json")])
        digest = hashlib.sha256(inputs.encode()).hexdigest()[:16]
        return self._logs.with_name(CCACHES) / f"{recipe.toolchain}-{digest}.tar"

    # ---- with what --------------------------------------------------------------------------

    def _toolchain(
        self, git: GitSource, recipe: Recipe, progress: OnProgress, stop: threading.Event
    ) -> QemuBuild:
        """The root that it is built in, as an engine takes one; made first if need be."""
        entry = self._entry(git, recipe)
        inputs = json.dumps([_RECIPE, entry.model_dump(mode="json"), _LINKS])
        key = f"toolchain-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"

        def fill(directory: Path) -> None:
            debian.require_tools()
            progress(f"the toolchain of {recipe.toolchain} ({entry.suite}): unpacking")
            begun, root = monotonic(), directory / "root"
            root.mkdir()
            try:
                debian.unpack(entry.suite, entry.packages, debian.host_mirror(),
                              directory.parent, root)
            except ImageError as error:
                if missing := re.search(r"Unable to locate package (\S+)", error.tail):
                    raise UserError(f"{entry.suite} has no package {missing[1]}",
                                    hint="apt-cache search, or apt-file, knows them") from None
                raise
            for link, target in _LINKS.items():
                place = root / "usr/bin" / link
                if not place.exists() and (place.parent / target).exists():
                    place.symlink_to(target)
            _, contents = debian.seal(root)
            (directory / "digest").write_text(contents.digest)
            progress(f"the toolchain of {recipe.toolchain}: {contents.size / 1e6:.0f} MB in "
                f"{monotonic() - begun:.0f} s")

        with _once(self._roots, key, "another process unpacks the toolchain", progress, stop):
            directory = self._roots.entry(key, fill)
        return QemuBuild(f"the toolchain of {recipe.toolchain}", "",
                         (directory / "digest").read_text(), directory / "root")


def _lacks(repository: Repository, commit: str, recipe: Recipe) -> str:
    """The first mark of a recipe's trees that a commit does not have; "" where it has all."""
    return next((mark for mark in recipe.marks if not repository.holds(commit, mark)), "")


@contextlib.contextmanager
def _once(
    cache: Cache, key: str, message: str, progress: OnProgress, stop: threading.Event
) -> Iterator[None]:
    """Be the only one who fills an entry of a cache, unless it is there."""
    said = False

    def wait() -> None:
        nonlocal said
        if not said:
            progress(message)
        said = True
        if stop.wait(_LOOK_SECONDS):
            raise Stopped(_NOT_WANTED)

    if cache.has(key):
        yield
    else:
        with cache.filled_once(key, wait):
            yield


def _keep_ccache(written: CellDir, archive: Path) -> None:
    """Take out what ccache has kept, in the place of what it had; nothing where there is none."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    new = archive.with_name(f".{archive.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        if written.copy_out(f"{_CCACHE}/new.tar", new, _LARGEST_CCACHE):
            new.replace(archive)
    except (CellError, FileNotFoundError):
        pass
    finally:
        new.unlink(missing_ok=True)
    archives = sorted(archive.parent.glob("*.tar"), key=lambda path: path.stat().st_mtime)
    for old in archives[:-_MOST_CCACHES]:
        old.unlink(missing_ok=True)


def _copied(written: CellDir, recipe: Recipe, directory: Path) -> str:
    """Take out what was built; why it cannot be, or nothing."""
    for result in recipe.results:
        target = directory / Path(result).name
        try:
            if not written.copy_out(result, target, _LARGEST_RESULT):
                return f"{result} is larger than {_LARGEST_RESULT >> 20} MiB"
        except FileNotFoundError:
            return f"it made no {result}"
        except CellError as error:
            return error.message.replace(str(written.path), CELL)
        target.chmod(0o755)
    return ""


def _called(git: GitSource, recipe: Recipe, commit: str) -> str:
    """The name of a build: what it is of, the revision as it was asked for, and the commit."""
    given = "" if commit.startswith(git.revision) else f"-{safe_name(git.revision)}"
    return f"{recipe.toolchain}{given}-g{commit[:10]}"


def _version(repository: Repository, commit: str) -> str:
    """What a build is to say of itself: the tag before its commit, and the commit's hash."""
    described = repository.described(commit)
    name, dash, digest = described.rpartition("-g")
    # What else a tag's name may have, nobody looks for in an image.
    return described if dash and _TAG.fullmatch(name) else f"0.0.0-g{digest or commit[:12]}"


def _release(version: str) -> str:
    """The version without its commit, as SeaBIOS has it in its file of that name."""
    return version.rpartition("-")[0]
