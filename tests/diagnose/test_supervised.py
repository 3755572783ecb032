"""A command of which nothing outlives its owner."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.diagnose import supervised


def test_a_command_takes_all_it_started_with_it(tmp_path: Path) -> None:
    """What it leaves in the background, a daemon too, ends with it, and holds nobody up."""
    script = "setsid sh -c 'echo $$ >daemon; exec sleep 1000' & sleep 1000 & " \
             "until [ -s daemon ]; do :; done; echo done; exit 3"
    with (tmp_path / "log").open("wb") as log:
        status, output = supervised.run(["sh", "-c", f"cd {tmp_path}; {script}"], log)
    assert (status, output) == (3, b"done\n")
    assert not Path("/proc", (tmp_path / "daemon").read_text().strip()).exists()
