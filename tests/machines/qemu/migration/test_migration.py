"""The table of the ways in which a migration goes."""

from __future__ import annotations

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu import migration
from bootmatrix.machines.qemu.migration import CHANNELS, WAYS, migrate
from bootmatrix.model import Channel, MigrationMode
from bootmatrix.modes import MODES, Way


def test_every_channel_has_its_way() -> None:
    assert set(CHANNELS) == set(Channel)
    assert {channel.value: way.__module__.rpartition(".")[2] for channel, way in CHANNELS.items()} \
        == {channel.value: channel.value for channel in Channel}


def test_every_way_has_its_file() -> None:
    assert set(WAYS) == set(Way) - {Way.CHANNEL, Way.SNAPSHOT}
    assert {way.value for way in WAYS} == {
        go.__module__.rpartition(".")[2] for go in WAYS.values()}


@pytest.mark.parametrize("mode", [
    mode for mode in MigrationMode if not MODES[mode].leaves_first])
def test_a_mode_with_a_way_of_its_own_goes_by_that(
    monkeypatch: pytest.MonkeyPatch, mode: MigrationMode
) -> None:
    gone: list[Way] = []
    monkeypatch.setattr(migration, "WAYS", {
        way: lambda *how, way=way: gone.append(way) for way in WAYS})
    monkeypatch.setattr(migration, "CHANNELS",
                        {Channel.UNIX: lambda *how: gone.append(Way.CHANNEL)})
    vm: object = object()
    migrate(vm, vm, MODES[mode], Channel.UNIX, Deadline.after(60))  # type: ignore[arg-type]
    assert gone == [MODES[mode].way]
