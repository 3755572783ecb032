"""A command of which nothing outlives its owner."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.diagnose import supervised


def test_a_command_takes_all_it_started_with_it(tmp_path: Path) -> None:
    """What it leaves in the background, a daemon too, ends with it, and holds nobody up."""
    script = "setsid sh -c 'echo $$ >daemon; exec sleep 1000' & sleep 1000 & " \
             "until [ -s daemon ]; do :; done; echo done; exit 3"
    with (tmp_path / "log").open("w+b") as log:
        status, output = supervised.run(["sh", "-c", f"cd {tmp_path}; {script}"], log)
    assert (status, output) == (3, b"done\n")
    assert not Path("/proc", (tmp_path / "daemon").read_text().strip()).exists()


def test_of_what_it_says_the_end_is_kept(tmp_path: Path) -> None:
    script = "head -c 3000000 /dev/zero; printf out; head -c 3000000 /dev/zero >&2; printf err >&2"
    with (tmp_path / "log").open("w+b") as log:
        status, output = supervised.run(["sh", "-c", script], log)
    assert status == 0
    for said, end in ((output, b"out"), ((tmp_path / "log").read_bytes(), b"err")):
        assert said == bytes(supervised.OUTPUT_BYTES - 3) + end


def test_what_it_says_can_be_read_meanwhile(tmp_path: Path) -> None:
    """It waits until its own words are there."""
    script = f"echo words >&2; until [ -s {tmp_path}/log ]; do :; done; cat {tmp_path}/log"
    with (tmp_path / "log").open("w+b") as log:
        assert supervised.run(["sh", "-c", script], log) == (0, b"words\n")
