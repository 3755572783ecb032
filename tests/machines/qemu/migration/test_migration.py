"""The table of the ways in which a migration goes."""

from __future__ import annotations

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu import migration
from bootmatrix.machines.qemu.migration import CHANNELS, migrate
from bootmatrix.model import Channel, MigrationMode
from bootmatrix.modes import MODES


def test_every_channel_has_its_way() -> None:
    assert set(CHANNELS) == set(Channel)
    assert {channel.value: way.__module__.rpartition(".")[2] for channel, way in CHANNELS.items()} \
        == {channel.value: channel.value for channel in Channel}


@pytest.mark.parametrize("mode", MigrationMode)
def test_a_mode_that_is_a_file_s_goes_through_its_own(
    monkeypatch: pytest.MonkeyPatch, mode: MigrationMode
) -> None:
    gone: list[str] = []
    monkeypatch.setattr(migration.mapped, "migrate", lambda *how: gone.append("mapped"))
    monkeypatch.setattr(migration, "CHANNELS", {Channel.UNIX: lambda *how: gone.append("unix")})
    vm: object = object()
    migrate(vm, vm, mode, Channel.UNIX, Deadline.after(60))  # type: ignore[arg-type]
    assert gone == ["mapped" if MODES[mode].by_file else "unix"]
