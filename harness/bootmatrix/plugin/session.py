"""What a pytest session of ours has: its rig, its directory, its matrices; and how one is run."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from bootmatrix.ending import insist
from bootmatrix.run.options import REUSED, RUN, SELECTION, Option
from bootmatrix.run.rig import Begun, Rig

if TYPE_CHECKING:
    from bootmatrix.cell import Cell
    from bootmatrix.cluster.wishes import ClusterWishes
    from bootmatrix.matrix.expansion import Matrix
    from bootmatrix.model import HostSpec, Known
    from bootmatrix.records.model import CellRow
    from bootmatrix.run.resume import Finished


class RigLike(Protocol):
    """What the plugin asks of a rig."""

    run_dir: Path
    share: bool
    matrix: str
    """The name, within the run, of the matrix whose cells are run now: ids repeat in another."""

    def check(self, matrix: Matrix) -> None:
        """Raise UserError if the matrix names a build that cannot be."""

    def machines(
        self, host: HostSpec, progress: Callable[[str], None] = ..., *, build: bool = True
    ) -> tuple[str, ...]:
        """The machine types of a host's QEMU build; without ``build`` it must be there already."""

    def prepare(self, hosts: Iterable[HostSpec], progress: Callable[[str], None] = ...) -> None:
        """Make ready what hosts need. Raises HarnessError and UserError."""

    def describe(self, cell: Cell) -> CellRow:
        """The cell as its record describes it, with the builds that it has today."""

    def begin(self, cell: Cell, known: Sequence[Known], repeat: int = 1) -> Begun:
        """Run a cell; its record may come later. HarnessError: no cell can be run any more."""

    def close(self) -> None:
        """End what was opened."""


RigFactory = Callable[[str | None, Path, str], RigLike]
"""Makes a rig from the engine's name, the artifacts' directory, and the worker's name."""


rig_factory_key = pytest.StashKey[RigFactory]()  # tests put one of their own here
run_dir_key = pytest.StashKey[Path]()
_rig_key = pytest.StashKey[RigLike]()
_finished_key = pytest.StashKey["Finished | None"]()
_matrices_key = pytest.StashKey["dict[Path, Matrix]"]()
_own_key = pytest.StashKey[tuple[Sequence[str], Sequence[str]]]()


def rig_of(config: pytest.Config) -> RigLike:
    """This process's rig, made at first need."""
    if _rig_key not in config.stash:
        if is_worker(config):
            insist()  # Ctrl-C reaches the whole group, and pytest has its hook by now
        worker = config.workerinput["workerid"] if is_worker(config) else "main"  # type: ignore[attr-defined]
        make = config.stash.get(rig_factory_key, None) or _factory(config)
        rig = make(config.getoption("bootmatrix_engine"), config.stash[run_dir_key], worker)
        rig.share = config.getoption("bootmatrix_share")
        config.add_cleanup(rig.close)
        config.stash[_rig_key] = rig
    return config.stash[_rig_key]


def wishes_of(config: pytest.Config) -> ClusterWishes | None:
    """What the run wants of a cluster; None where its cells run here."""
    given: str | None = config.getoption("bootmatrix_cluster")
    if given is None:
        return None
    from bootmatrix.cluster.wishes import ClusterWishes

    tls: Path | None = config.getoption("bootmatrix_cluster_tls")
    return ClusterWishes(
        given, tls and config.invocation_params.dir / tls, config.getoption("bootmatrix_insecure"),
        not config.getoption("bootmatrix_no_same_roots"),
        config.getoption("bootmatrix_all_artifacts"), config.getoption("bootmatrix_cluster_slots"))


def _factory(config: pytest.Config) -> RigFactory:
    """What makes the rig: on a cluster, or here."""
    wishes = wishes_of(config)
    if wishes is None:
        return Rig
    from bootmatrix.cluster.rig import ClusterRig

    return partial(ClusterRig, wishes)


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of xdist's workers."""
    return hasattr(config, "workerinput")


def only_looks(config: pytest.Config) -> bool:
    """Whether the session collects, and runs nothing."""
    option = config.option
    return bool(option.collectonly or option.showfixtures or option.show_fixtures_per_test)


def find_run_dir(config: pytest.Config) -> Path:
    """The directory of this run's artifacts, absolute; it is made when there are some."""
    if is_worker(config):
        return Path(config.workerinput["bootmatrix_run_dir"])  # type: ignore[attr-defined]
    if (given := given_dir(config)) is not None:
        return config.invocation_params.dir / given
    from bootmatrix.run.directory import new_name

    # Without an ini file pytest's root is the matrix's directory: no place for artifacts.
    home = config.rootpath if config.inipath else config.invocation_params.dir
    return home / "runs" / new_name()


def given_dir(config: pytest.Config) -> Path | None:
    """The directory that an option names."""
    given: Path | None = (config.getoption("bootmatrix_resume")
                          or config.getoption("bootmatrix_run_dir"))
    return given


def finished_of(
    config: pytest.Config, notice: Callable[[str], None] = lambda line: None
) -> Finished | None:
    """The finished cells of the run that is gone on with; None if this is a new run."""
    if _finished_key not in config.stash:
        finished = None
        if config.getoption("bootmatrix_resume") is not None:
            from bootmatrix.run.resume import Finished

            finished = Finished(config.stash[run_dir_key], notice)
        config.stash[_finished_key] = finished
    return config.stash[_finished_key]


def matrices_of(config: pytest.Config) -> dict[Path, Matrix]:
    """The matrices that this process has read, by the absolute paths of their files."""
    return config.stash.setdefault(_matrices_key, {})


def reused_options(config: pytest.Config) -> list[tuple[Option, str]]:
    """The options that one cell, or one test, of this run needs again, each with its value."""
    return [(option, str(value)) for option in REUSED
            for given in [config.getoption(option.at_pytest)] if given
            for value in (given if isinstance(given, list) else [given])]


_OTHERS = ("-x", "--lf", "--run-dir", "--resume")
"""Options that are no part of how one goes on; of --lf the answer has changed."""


def same_words(config: pytest.Config, *, failed: bool) -> tuple[list[str], list[str]]:
    """The options with which the same cells are run in the same way, as the command has them.

    They are told in the same files, whole: what a run goes on with is written there again. The
    second list is what stands behind ``--``. Where a cell has ``failed``, which counts again, to
    stop at so many failures would be to stop at once.
    """
    said, behind = config.stash.get(_own_key, None) or (None, [])
    words = [*(said or ())]
    for option in (*SELECTION, *RUN):
        if option.flag not in _OTHERS and (option.flag != "-n" or said is None):
            words += option.words(config.getoption(option.at_pytest, None), option.flag)
    if failed:
        return words, _without_limit(behind)
    return words + ["-x"] * (config.option.maxfail == 1 and not _limits(behind)), [*behind]


def _limits(words: Sequence[str]) -> bool:
    return [*words] != _without_limit(words)


def _without_limit(words: Sequence[str]) -> list[str]:
    """pytest's words without those that stop it after so many failures."""
    left = []
    for before, word in zip(["", *words], words, strict=False):
        if word not in ("-x", "--exitfirst", "--maxfail") and before != "--maxfail" and \
                not word.startswith("--maxfail="):
            left.append(word)
    return left


def shown(path: Path) -> Path:
    """The path as one would type it here."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else Path(relative)


def own_command() -> str:
    """How to call bootmatrix here: it need not be on the PATH, in a checkout's .venv it is not."""
    script = Path(sys.executable).with_name("bootmatrix")
    found = shutil.which("bootmatrix") is not None or not script.exists()
    return "bootmatrix" if found else str(shown(script))


class _Read:
    """Hands to a session what its process has read before, and words of the command alone."""

    def __init__(
        self, matrices: Sequence[Matrix], own: tuple[Sequence[str], Sequence[str]]
    ) -> None:
        self._own = own
        self._matrices = {Path(os.path.abspath(matrix.path)): matrix  # noqa: PTH100  # as pytest does
                          for matrix in matrices}

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """They are read once, and expanded once."""
        config.stash[_matrices_key] = self._matrices
        config.stash[_own_key] = self._own

    def pytest_sessionstart(self) -> None:
        """pytest has a hook of its own by now for what Python ignores."""
        insist()


class Selection:
    """Takes what pytest collected, for ``bootmatrix list -k``."""

    def __init__(self) -> None:
        self.cells: list[Any] = []
        self.interrupted = False

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        """Tell Ctrl-C from a mistake, which pytest calls an interruption, too."""
        self.interrupted = excinfo.type is KeyboardInterrupt

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep the cells that are left after -k and -m."""
        self.cells = [item.cell for item in session.items if hasattr(item, "cell")]


def run_pytest(
    arguments: Sequence[str], matrices: Sequence[Matrix], plugin: object,
    own: Sequence[str] = (), behind: Sequence[str] = (),
) -> int:
    """Run pytest in this process for the command line, on what it has read; its exit code.

    ``own`` are options as only the command knows them, ``behind`` is what stood behind ``--``: its
    run is to be gone on with them.
    """
    # labgrid's plugin, where boards have brought it along, takes most of a second, for nothing.
    words = ["-p", "bootmatrix", "-p", "no:labgrid", *arguments]
    return int(pytest.main(words, plugins=[_Read(matrices, (own, behind)), plugin]))
