"""The matrices that commands are given: read once, and expanded once in each process."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from bootmatrix.cli import matrices
from bootmatrix.plugin.session import Selection
from helpers import forked
from helpers.commands import SCRIPT
from helpers.planting import plant

COUNTING = """
import os
from bootmatrix.matrix import document, expansion

def counted(what, function):
    def call(*arguments, **named):
        with open("counted.log", "a") as log:
            log.write(f"{os.getpid()} {what}\\n")
        return function(*arguments, **named)
    return call

document.Document.__init__ = counted("read", document.Document.__init__)
expansion._points = counted("points", expansion._points)
expansion.Matrix._expand = counted("cells", expansion.Matrix._expand)
"""


@pytest.mark.parametrize(("arguments", "processes"), [
    ("run M -n 0", 1), ("run M -n 1", 1), ("run M -n 2", 3), ("list M", 1),
    ("list M -k q35", 1), ("run M -n 1 -k no-such-thing", 1),
    # None of the two cells is in that part: pytest is asked once more whether there are any.
    ("run M -n 1 -k q35 --shard 5/997", 1),
])
def test_a_matrix_is_read_and_expanded_once_in_a_process(
    tmp_path: Path, arguments: str, processes: int
) -> None:
    plant(tmp_path)
    (tmp_path / "counting.py").write_text(COUNTING)
    (tmp_path / "command.py").write_text("import counting\n" + SCRIPT)
    (tmp_path / "conftest.py").write_text((tmp_path / "conftest.py").read_text()
                                          + f"sys.path.insert(0, {str(tmp_path)!r})\n"
                                            "import counting\n")
    (tmp_path / "built.json").write_text('["debian-bullseye", "debian-sid"]')
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith("PYTEST_")} | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = arguments.replace("M", "matrices/m.yaml").split()
    done = forked.run(["command.py", *words], cwd=tmp_path, env=environment,
                      program=(tmp_path / "command.py").read_text())
    assert done.returncode in (0, 2), done.stdout + done.stderr
    counts = Counter((tmp_path / "counted.log").read_text().splitlines())
    assert set(counts.values()) == {1}, counts
    assert len(counts) == 3 * processes


def test_an_interruption_is_no_mistake_in_an_expression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(plugin: Selection, session: pytest.Session) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Selection, "pytest_collection_finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        matrices.collected(["-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)])
