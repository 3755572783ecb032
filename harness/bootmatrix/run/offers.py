"""Which tables a guest finds at a start, kept for a run: after a reset it must find the same there.

Every start of the run tells it, whatever its firmware. Where none has told, or a reset has found
something else, the same machine is started on that host with the firmware that ran: what that
finds is the answer, for all cells and workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.run import answers
from bootmatrix.steps.start import Start
from bootmatrix.witnesses.moment import Moment
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.probe_line import Tables
from bootmatrix.witnesses.tables import found_at

Watch = Callable[[str, GuestSetup, Start], Sequence[StepObserved]]
"""Starts a guest apart from all cells, under a name of its own, and says what was seen, if any."""


class Offers:
    """What is known of that, in a directory that the workers of a run share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def asked(
        self, boot: Moment, setup: GuestSetup, firmware: KnownFirmware, watch: Watch
    ) -> Tables | None:
        """What a boot had to find; None where that is not known, or is what it found at a start."""
        found = found_at(boot)
        if found is None:
            return None
        host = boot.boot.host
        if boot.step == Start.kind:
            self._note(setup, host, found)
            return None
        if self._file(setup, host, found).exists():
            return found
        same = _with(setup, host, boot.expected.firmware, firmware)
        return None if same is None else self._started(same, host, watch)

    def _file(self, setup: GuestSetup, host: int, found: Tables) -> Path:
        """There is such a file where a start has found these."""
        return self._directory / "-".join((_machine(setup, host), *map(str, found)))

    def _note(self, setup: GuestSetup, host: int, found: Tables) -> None:
        file = self._file(setup, host, found)
        if not file.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            file.touch()

    def _started(self, setup: GuestSetup, host: int, watch: Watch) -> Tables | None:
        """What a start finds, which one worker does while others wait for it."""
        key = _key(
            _machine(setup, host), setup.hosts[host].firmware.sha256, setup.mechanism.nvram)
        held = answers.lock(self._directory, key, wait=True)
        assert held is not None
        with answers.held(held):
            seen = answers.read(self._directory, key)
            if seen is None:
                seen = tuple(watch(key, setup, Start(host)))
                answers.write(self._directory, key, seen)
        boot = seen[0].boot if seen else None
        if boot is None or boot.up is None:
            return None
        self._note(setup, host, boot.up.tables)
        return boot.up.tables


def _machine(setup: GuestSetup, host: int) -> str:
    """A hash over all that QEMU makes the tables of on a host: all but the firmware."""
    return _key(
        setup.hosts[host].qemu.digest, setup.machine, setup.memory_mib, setup.cpu, setup.smp,
        setup.disk, setup.nic, setup.guest, setup.accel.on(host), setup.interface, setup.debug_log,
        *((setup.memory, setup.words_on(host)) if setup.memory or setup.words_on(host) else ()),
    )


def _key(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _with(
    setup: GuestSetup, host: int, name: str | None, firmware: KnownFirmware
) -> GuestSetup | None:
    """The same machine, where the host has the firmware of that name; None: there is no such."""
    own = setup.hosts[host].firmware
    for one in (own, *(other.firmware for other in setup.hosts)):
        if firmware.by_bytes(one.sha256) == name:
            hosts = list(setup.hosts)
            hosts[host] = replace(hosts[host], firmware=one)
            same = replace(setup, hosts=hosts, flash=None, post_ms=0)
            # Firmware can ask for more memory, or for SMM.
            if (same.memory_mib, one.needs_smm) == (setup.memory_mib, own.needs_smm):
                return same
    return None
