"""The table of migration modes."""

from bootmatrix.machines.qemu.migration import MODES
from bootmatrix.model import Channel


def test_every_channel_has_its_mode() -> None:
    assert set(MODES) == set(Channel)
    assert {channel.value: mode.__module__.rpartition(".")[2] for channel, mode in MODES.items()} \
        == {channel.value: channel.value for channel in Channel}
