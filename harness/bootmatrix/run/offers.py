"""What a guest finds at a start, kept for a run: after a reset it must find the same there.

That are the tables, of which every start of the run tells, whatever its firmware, and PCR 0 of its
TPM, of which those with the same firmware do. Where none has told, or a reset has found something
else, the same machine is started on that host with the firmware that ran: what that finds is the
answer, for all cells and workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Tpm
from bootmatrix.run import answers
from bootmatrix.steps.start import Start
from bootmatrix.witnesses import tpm
from bootmatrix.witnesses.moment import Moment
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.probe_line import Measured, ProbeLine, Tables
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
        file = self._of_tables(setup, host, found)
        if boot.step == Start.kind:
            self._note(file)
            return None
        if file.exists():
            return found
        line = self._started(_with(setup, host, boot.expected.firmware, firmware), host, watch)
        return None if line is None else line.tables

    def measured(
        self, boot: Moment, setup: GuestSetup, firmware: KnownFirmware, watch: Watch
    ) -> Measured | None:
        """What a boot had to measure of its firmware; None where that is not known.

        A start that finds what no other has found is taken at its word once.
        """
        found, host = tpm.found_at(boot), boot.boot.host
        same = _with(setup, host, boot.expected.firmware, firmware)
        if found is None or same is None:
            return None
        file = self._of_pcr(same, host, found.pcr0)
        if boot.step == Start.kind and not any(
                self._directory.glob(f"{file.name.removesuffix(found.pcr0)}*")):
            self._note(file)
        if file.exists():
            return found
        line = self._started(same, host, watch)
        return None if line is None else line.measured

    def _of_tables(self, setup: GuestSetup, host: int, found: Tables) -> Path:
        """There is such a file where a start has found these."""
        return self._directory / "-".join((_machine(setup, host), *map(str, found)))

    def _of_pcr(self, setup: GuestSetup, host: int, found: str) -> Path:
        """The same of what a start with the host's firmware has found in PCR 0."""
        own = setup.hosts[host].firmware.sha256[:16]
        return self._directory / f"{_machine(setup, host)}-{own}-pcr0-{found}"

    def _note(self, file: Path) -> None:
        if not file.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            file.touch()

    def _started(self, setup: GuestSetup | None, host: int, watch: Watch) -> ProbeLine | None:
        """What a start finds, which one worker does while others wait for it."""
        if setup is None:
            return None
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
        self._note(self._of_tables(setup, host, boot.up.tables))
        if boot.up.pcr0:
            self._note(self._of_pcr(setup, host, boot.up.pcr0))
        return boot.up


def _machine(setup: GuestSetup, host: int) -> str:
    """A hash over all that QEMU makes the tables of on a host: all but the firmware."""
    return _key(
        setup.hosts[host].qemu.digest, setup.machine, setup.memory_mib, setup.cpu, setup.smp,
        setup.disk, setup.nic, setup.guest, setup.accel.on(host), setup.interface, setup.debug_log,
        *((setup.tpm,) if setup.tpm is not Tpm.NONE else ()),
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
