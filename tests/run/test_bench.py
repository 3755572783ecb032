"""What can be run on a bench is known beforehand; tests/on_qemu runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.errors import UserError
from bootmatrix.machines.board import BoardFacts
from bootmatrix.matrix import unsupported
from bootmatrix.matrix.expansion import load
from bootmatrix.run.bench import BesideRunner, _reasons
from bootmatrix.run.rig import Rig

ENV = "targets:\n  main: {drivers: {SerialDriver: {}}}\n  other: {drivers: {SerialDriver: {}}}\n"
HAS = BoardFacts(console="SerialDriver", power="ExternalPowerDriver", programmer="FlashromDriver")
BY_CF9 = {"reset": {"by": "cf9"}}


def cell_of(directory: Path, *steps: Any, policy: str = "guest-owned", **axes: str) -> Any:
    """A cell of these steps on a board, and its hosts."""
    (directory / "env.yaml").write_text(ENV)
    destination = axes.pop("destination", "next")
    more = "".join(f", {axis}: {value}" for axis, value in axes.items())
    (directory / "mine.yaml").write_text(
        "schema: 1\nhosts:\n"
        "  board: {board: {env: env.yaml}, firmware: seabios-1.16.2}\n"
        "  next: {board: {env: env.yaml}, firmware: seabios-1.17.0}\n"
        "  other: {board: {env: env.yaml, target: other}, firmware: seabios-1.17.0}\n"
        "  sid: {qemu: debian-sid}\n"
        f"axes: {{source: board, destination: {destination}, machine: newest-common, "
        f"scenario: mine, policy: {policy}{more}}}\n"
        f"scenarios: {{mine: {list(steps)}}}\n")
    builds = Builds(ImageStore())
    cell, = load(directory / "mine.yaml").cells(builds.machines)
    return cell, [builds.host(spec) for spec in cell.hosts]


def why(directory: Path, there: BoardFacts, *steps: Any, **more: str) -> str | None:
    """Why such a cell cannot be run on such a bench."""
    cell, hosts = cell_of(directory, *steps, **more)
    board = hosts[0].qemu.board
    return (unsupported.reason(cell, hosts, there.abilities)
            or next(_reasons(cell, hosts, board, there), None))


def test_a_chip_that_is_written_while_the_board_is_off(tmp_path: Path) -> None:
    upgraded = ("start", "upgrade-host")
    assert why(tmp_path, HAS, *upgraded, "reset", BY_CF9) is None
    assert why(tmp_path, HAS, *upgraded, "shutdown", "start", BY_CF9) is None
    late = why(tmp_path, HAS, *upgraded, BY_CF9)
    assert late is not None
    assert late.startswith("the chip of board env-main is written while it is off")
    assert why(tmp_path, HAS, *upgraded, BY_CF9, policy="machine-owned") is None
    live = BoardFacts(**{**HAS.__dict__, "live": True})
    assert why(tmp_path, live, *upgraded, BY_CF9) is None


@pytest.mark.parametrize(("steps", "more", "words"), [
    (["start", "migrate"], {}, "migrate needs migration, which these machines do not have"),
    (["start", "guest-flash"], {}, "guest-flash needs a file that the board programs itself from"),
    (["start", "guest-flash"], {"policy": "reread"}, "guest-flash needs a file"),
    (["start", "shutdown", "clear-nvram"], {}, "clear-nvram needs a digital output clear-cmos"),
    (["start", {"start": {"on": "destination"}}], {}, None),
    (["start", {"shutdown": {"by": "guest"}}], {"guest": "linux"},
     "nobody sees that a board has shut itself down"),
    (["start"], {"smp": "2"}, "smp is QEMU's to choose, a board has what it has"),
    (["start"], {"disk": "virtio"}, "board has no virtio disk"),
    (["start", "upgrade-host"], {"destination": "other"},
     "a guest does not move from board to board: one cell is about one board"),
    (["start", "upgrade-host"], {"destination": "sid"}, "QEMU 11.1.3 (debian-sid) has no machine "
                                                        "board"),
], ids=lambda value: str(value)[:40])
def test_why_not(tmp_path: Path, steps: list[Any], more: dict[str, str], words: str | None) -> None:
    if words is None:
        with pytest.raises(UserError):
            why(tmp_path, HAS, *steps, **more)
        return
    found = why(tmp_path, HAS, *steps, **more)
    assert found is not None
    assert found.startswith(words)


def test_of_a_bench_without_a_programmer_no_chip_is_owned_by_the_machine(tmp_path: Path) -> None:
    bare = BoardFacts(console="SerialDriver", power="ExternalPowerDriver")
    assert why(tmp_path, bare, "start", {"reset": {}}, destination="next") is None
    found = why(tmp_path, bare, "start", policy="machine-owned")
    assert found is not None
    assert found.startswith("machine-owned needs firmware that can be replaced: a programmer")


def test_what_it_begins_is_done_elsewhere_and_needs_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, _ = cell_of(tmp_path, "start", "migrate")
    monkeypatch.setattr(Rig, "engine", property(lambda rig: pytest.fail("no engine is needed")))
    rig = Rig(None, tmp_path / "run")
    try:
        begun = rig.begin(cell, ())
        record = begun.record()
        assert not begun.waits
        assert (record["verdict"], record["engine"]) == ("unsupported", "bench")
        assert rig.describe(cell)["source"]["qemu"] == "env-main"
    finally:
        rig.close()
    assert not [*tmp_path.glob("run/scratch-*")]


def test_what_has_not_begun_at_the_end_is_not_begun(tmp_path: Path) -> None:
    cell, _ = cell_of(tmp_path, "start", "migrate")
    with Builds(ImageStore()) as builds, BesideRunner(builds, tmp_path / "run", "main") as beside:
        waiting = [beside.begin("", cell, (), 1) for _ in range(50)]
    assert any(one.cancelled() for one in waiting) or all(one.done() for one in waiting)


