"""Collection: matrix files become cells, of which a shard takes its part."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest

from bootmatrix.errors import HarnessError, UserError, in_a_line
from bootmatrix.matrix import SUFFIXES
from bootmatrix.plugin.cells import UNREADABLE, CellItem, collected_key, name_in_run
from bootmatrix.plugin.session import finished_of, is_worker, matrices_of, only_looks, rig_of, shown
from bootmatrix.run.options import OWN_BUILDS
from bootmatrix.terminal import echo, visible

if TYPE_CHECKING:
    from bootmatrix.cell import Cell
    from bootmatrix.matrix.expansion import Matrix
    from bootmatrix.matrix.sources import GivenBuilds
    from bootmatrix.model import HostSpec

_given_key: pytest.StashKey[GivenBuilds] = pytest.StashKey()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> MatrixFile | None:
    """Collect matrix files that are named on the command line, or lie under ``matrices/``."""
    if file_path.suffix.lower() not in SUFFIXES:
        return None
    named = parent.session.isinitpath(file_path)
    if not named:
        root = parent.config.rootpath
        inside = file_path.relative_to(root) if file_path.is_relative_to(root) else file_path
        if "matrices" not in inside.parent.parts:
            return None
    if file_path not in matrices_of(parent.config):
        from bootmatrix.matrix.expansion import looks_like_matrix

        if not looks_like_matrix(file_path, named=named):
            return None
    return MatrixFile.from_parent(parent, path=file_path)


class IdleEntry(pytest.PytestWarning):
    """An entry of exclude, include or known matches no cell.

    ``-W error::bootmatrix.plugin.collection.IdleEntry`` makes it red.
    """


class MatrixFile(pytest.File):
    """A matrix file; its items are its cells."""

    def collect(self) -> Iterator[pytest.Item]:
        """The matrix's cells in its order. A mistake in the file is told in one line.

        In a file that was not named it stops nobody who runs something else: it is a test that
        fails.
        """
        was_read = self.path in matrices_of(self.config)
        try:
            matrix = self._read()
            if beforehand := list(self._beforehand(matrix)):
                from bootmatrix.plugin.beforehand import may_be_selected

                if not may_be_selected(beforehand):
                    if not self.config.getoption("bootmatrix_cell"):
                        yield from beforehand  # as they are: pytest deselects them all
                    return
            cells = matrix.cells(self._machines)
            if not was_read:  # by the command, which warns by itself
                for idle in matrix.idle(self._machines):
                    try:
                        self.warn(IdleEntry(visible(str(idle))))
                    except IdleEntry:  # a filter makes an error of it
                        raise idle from None
            if finished := finished_of(self.config):
                finished.check(self.path, cells, _named_files(self.config))
        except Exception as error:
            reason = visible(in_a_line(error)[0])
            if self.session.isinitpath(self.path):
                raise self.CollectError(reason) from None
            yield UnreadableMatrix.from_parent(self, name=UNREADABLE, reason=reason)
            return
        wanted = self.config.getoption("bootmatrix_cell")
        for cell in cells:
            if not wanted or cell.id in wanted:
                yield from self._items(matrix, cell)

    def _items(self, matrix: Matrix, cell: Cell) -> Iterator[CellItem]:
        """A cell as so many items as it is repeated."""
        for repeat in range(1, self.config.getoption("bootmatrix_repeat") + 1):
            name = cell.id if repeat == 1 else f"{cell.id}#{repeat}"
            yield CellItem.from_parent(
                self, name=name, cell=cell, known=matrix.known, repeat=repeat)

    def _beforehand(self, matrix: Matrix) -> Iterator[CellItem]:
        """The items before QEMUs are asked for machine types; none where nobody need ask them."""
        option = self.config.option
        if option.keyword or option.markexpr or option.deselect or option.bootmatrix_cell:
            for cell in matrix.before_asking:
                yield from self._items(matrix, cell)

    def _machines(self, host: HostSpec) -> tuple[str, ...]:
        return rig_of(self.config).machines(
            host, progress_of(self.config), build=not only_looks(self.config))

    def _read(self) -> Matrix:
        """The matrix, read now if it was not before."""
        from bootmatrix.matrix.expansion import load
        from bootmatrix.matrix.sources import parse

        collected = self.config.stash.setdefault(collected_key, set())
        collected.add(self.path)
        matrices = matrices_of(self.config)
        if self.path not in matrices:
            if _given_key not in self.config.stash:
                own = (self.config.getoption(f"bootmatrix_{option.name}") for option in OWN_BUILDS)
                self.config.stash[_given_key] = parse(*own)
            matrix = load(shown(self.path), self.config.stash[_given_key])
            rig_of(self.config).check(matrix)
            matrices[self.path] = matrix
        return matrices[self.path]


class UnreadableMatrix(pytest.Item):
    """Stands for the cells of a matrix file that cannot be had, and fails with the reason."""

    fixturenames = ()  # labgrid's plugin asks each item for them

    def __init__(self, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._reason = reason

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the item comes from: the matrix file."""
        return self.path, None, self.name

    def runtest(self) -> None:
        """Fail."""
        pytest.fail(self._reason, pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the cells that -k and -m have left, leave those of this shard."""
    if items and _given_key in config.stash:
        try:
            config.stash[_given_key].check_meant("--bootmatrix-")
        except UserError as error:
            reason, session = visible(str(error)), items[0].session
            items.clear()
            if not is_worker(config):
                raise pytest.UsageError(reason) from None
            # Of what a worker raises here, xdist tells nothing but that it has ended.
            items.append(UnreadableMatrix.from_parent(session, name="unusable", reason=reason))
    given: str | None = config.getoption("bootmatrix_shard")
    if not given:
        return
    from bootmatrix.matrix.shards import Shard
    from bootmatrix.run.resume import may_be_called

    times, shard = past_times(config), Shard.parse(given)  # which were tried before
    cells = [item for item in items if isinstance(item, CellItem)]
    names = {path: [name_in_run(config, path), *may_be_called(path)]
             for path in {item.path for item in cells}}
    about = {item: (names[item.path][0], item.cell.id) for item in cells}
    known = {about[item]: times[name, item.cell.id] for item in cells
             for name in names[item.path] if (name, item.cell.id) in times}
    mine = shard.pick(about.values(), known)
    others = [item for item in cells if about[item] not in mine]
    if others:
        config.hook.pytest_deselected(items=others)
        left = {id(item) for item in others}
        items[:] = [item for item in items if id(item) not in left]


def past_times(config: pytest.Config) -> dict[tuple[str, str], float]:
    """The seconds that each cell took in the past, by matrix and id."""
    given: Path | None = config.getoption("bootmatrix_shard_times")
    if given is None:
        return {}
    path = config.invocation_params.dir / given
    from bootmatrix.records.history import History, is_history
    from bootmatrix.records.merged import key, merged
    from bootmatrix.records.merging import load

    if is_history(path):
        with History(path) as history:
            return history.times()
    return {key(record): float(record["seconds"])
            for record in merged(load([path], cut_off=lambda line: None, mixed=True))
            if record.get("seconds")}


def _named_files(config: pytest.Config) -> list[Path]:
    """The files that are collected; none if a directory is, whose files can be any."""
    paths = [Path(argument.partition("::")[0]) for argument in config.args]
    return [] if any(path.is_dir() for path in paths) else paths


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build missing images before the first cell, where no cell's time is spent on it."""
    items = [item for item in session.items if isinstance(item, CellItem)]
    if not items or only_looks(session.config):
        return
    hosts = dict.fromkeys(host for item in items for host in item.cell.hosts)
    with suppress(HarnessError, UserError):  # each cell that needs the image will tell it
        rig_of(session.config).prepare(hosts, progress_of(session.config))


def progress_of(config: pytest.Config) -> Callable[[str], None]:
    """What writes lines to the terminal; of a worker's only its standard error gets there."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    at_once = Lock()  # images are built side by side

    def write(line: str) -> None:
        if is_worker(config):
            with at_once, capture.global_and_fixture_disabled() if capture else nullcontext():
                echo(line, file=sys.stderr, flush=True)
        elif terminal is not None:
            terminal.write_line(visible(line))

    return write
