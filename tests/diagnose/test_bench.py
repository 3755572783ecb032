"""What is on a bench, and whether it is in order: told before a cell is lost on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.diagnose.bench import boards, examine, listed, named
from bootmatrix.diagnose.doctor import Health
from bootmatrix.errors import UserError
from bootmatrix.firmware.identity import sha256
from bootmatrix.machines.bench.seat import Journal
from bootmatrix.model import BoardSource
from helpers.benches import OLD, VirtualBoard, image, virtual_board

ENV = "targets:\n  main: {drivers: {SerialDriver: {}}}\n  other: {drivers: {SerialDriver: {}}}\n"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[VirtualBoard]:
    """A board of this test's."""
    with virtual_board(tmp_path) as there:
        yield there


def found(board: VirtualBoard) -> dict[str, tuple[Health, str]]:
    """What is found, by what was looked at."""
    return {finding.what: (finding.state, finding.found) for finding in examine(
        board.source, board.cache, ImageStore().firmwares())}


def test_the_boards_of_files_each_once(tmp_path: Path) -> None:
    env = tmp_path / "apu2.yaml"
    env.write_text(ENV)
    matrix = tmp_path / "mine.yaml"
    matrix.write_text(
        "schema: 1\nhosts:\n"
        "  a: {board: {env: apu2.yaml}, firmware: x}\n  b: {board: {env: apu2.yaml}, firmware: y}\n"
        "  c: {qemu: debian-sid}\n"
        "axes: {machine: newest-common, scenario: reset}\n")
    assert [str(one) for one in boards([matrix])] == ["apu2-main"]
    assert [str(one) for one in boards([env, matrix])] == ["apu2-main", "apu2-other"]
    assert named("other", [env]).target == "other"
    assert named("apu2-main", [matrix]).env == matrix.parent / "apu2.yaml"
    with pytest.raises(UserError, match=r"no board 'mine' in .*there are: apu2-main, apu2-other"):
        named("mine", [env])
    matrix.write_text("schema: 1\nhosts:\n  c: {qemu: debian-sid}\n"
                      "axes: {machine: newest-common, scenario: reset}\n")
    with pytest.raises(UserError, match="no board in "):
        boards([matrix])


def test_one_that_is_used_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apu2.yaml").write_text(ENV)
    source = BoardSource(env=tmp_path / "apu2.yaml")
    from bootmatrix.diagnose import bench
    from bootmatrix.machines.bench.seat import Journal, Seat

    seat = Seat.of(source, tmp_path / "cache")
    row = listed(source, tmp_path / "cache")
    assert (row.user, row.pending) == (None, "")
    seat.mark, seat.journal = "dead", Journal("ab", done=False, restore=False)
    assert listed(source, tmp_path / "cache").pending == (
        "its chip may be half-written by a killed or failed run: `bench doctor` sees to it")
    monkeypatch.setattr(bench, "TAKEN_SECONDS", 0.1)
    with seat.held("the run in /tmp/x"):
        row = listed(source, tmp_path / "cache")
        assert (row.user, row.mark, row.facts.console) == (
            "the run in /tmp/x", "dead", "SerialDriver")
        assert row.pending == "", "who uses it sees to it"
        finding, = examine(source, tmp_path / "cache")
        assert (finding.state, finding.found) == (
            Health.FAIL, "it is used by the run in /tmp/x")


@pytest.mark.thorough
def test_a_board_in_order_is_told_so_and_loses_its_mark(board: VirtualBoard) -> None:
    board.seat.mark = "it was dead yesterday"
    told = found(board)
    assert {state for state, _ in told.values()} == {Health.OK}, told
    assert told["chip"][1] == "0x40000 bytes, seabios-1.16.3-2"
    assert told["board"][1].endswith(
        "banner of 1.16.3-debian-1.16.3-2, its guest came up")
    assert told["also"][1] == (
        "it has no reset line, no clear-cmos: steps that need one are unsupported")
    assert board.seat.mark == ""
    assert board.power("get") == "off"


def test_what_a_killed_run_left_is_seen_to(board: VirtualBoard) -> None:
    before = board.chip.read_bytes()
    board.seat.keep(before)
    board.seat.journal = Journal(sha256(image(OLD)), done=False, restore=False)
    board.chip.write_bytes(image(OLD)[: 128 << 10] + before[128 << 10 :])
    findings = list(examine(board.source, board.cache))
    assert [finding.found for finding in findings if finding.state is Health.WARN] == [
        "the chip was left half-written by a killed or failed run: what it held before is restored"]
    assert board.chip.read_bytes() == before


def test_what_is_wrong_is_told_with_where_to_look(board: VirtualBoard) -> None:
    board.fault(stuck=True)
    board.power("on")
    told = found(board)
    assert told["power"] == (
        Health.FAIL, "the power does not switch: the board goes on to speak without it")
    board.fault()
    board.power("off")
    board.describe(resources={"Flashrom": {"programmer": "dummy:emulate=nothing"}})
    state, words = found(board)["chip"]
    assert state is Health.FAIL
    assert words.startswith("the chip cannot be read: flashrom ended with 1: ")
    board.describe(drivers={"FlashromDriver": None})
    assert found(board)["chip"][0] is Health.WARN
    board.describe(resources={"RawSerialPort": {"port": "/dev/nothing"}})
    (state, words), = found(board).values()
    assert state is Health.FAIL
    assert words.startswith("board-main cannot be opened: ")
