"""What a run has kept, to which no link leads."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.files.given_file import Unreadable
from bootmatrix.files.run_files import logs, open_log


def kept(place: Path, *names: str) -> None:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"{name} said")


def test_the_files_are_in_the_order_of_launch(tmp_path: Path) -> None:
    kept(tmp_path / "cells" / "x", "10-source/console.log", "2-source/qemu.log",
         "2-source/console.log", "black-box.txt")
    names = logs(f"{tmp_path}/cells/x", str(tmp_path))
    assert names == ["black-box.txt", "2-source/console.log", "2-source/qemu.log",
                     "10-source/console.log"]
    with open_log(f"{tmp_path}/cells/x/{names[1]}", str(tmp_path), 100) as log:
        assert log.read() == b"2-source/console.log said"
    assert logs(f"{tmp_path}/cells/y", str(tmp_path)) == []
    assert logs(f"{tmp_path}/cells/\0", str(tmp_path)) == []


@pytest.mark.parametrize("link", ["other", "other/1-source", "other/1-source/console.log"])
def test_no_link_leads_out_of_a_run(tmp_path: Path, link: str) -> None:
    kept(tmp_path / "outside", "1-source/console.log")
    run, outside = tmp_path / "run", tmp_path / "outside"
    (run / link).parent.mkdir(parents=True)
    (run / link).symlink_to(outside / Path(link).relative_to("other"))
    assert logs(f"{run}/other", str(run)) == []
    assert logs(f"{run}/../outside", str(run)) == []
    with pytest.raises(Unreadable, match="outside the run"):
        open_log(f"{run}/other/1-source/console.log", str(run), 100)


def test_a_run_whose_own_directory_is_behind_a_link_has_its_files(tmp_path: Path) -> None:
    kept(tmp_path / "real" / "x", "1-source/console.log")
    (tmp_path / "run").symlink_to("real")
    assert logs(f"{tmp_path}/run/x", f"{tmp_path}/run") == ["1-source/console.log"]
    with open_log(f"{tmp_path}/run/x/1-source/console.log", f"{tmp_path}/run", 100) as log:
        assert log.read()


def test_what_is_too_large_or_no_file_is_not_read(tmp_path: Path) -> None:
    kept(tmp_path, "x/1-source/console.log")
    for path in ("x/1-source/console.log", "x/1-source"):
        with pytest.raises(Unreadable):
            open_log(f"{tmp_path}/{path}", str(tmp_path), 3)
