"""Which tables and PCR 0 starts of a run have found, and which start is made to find it out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from bootmatrix.errors import EngineError
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Disk
from bootmatrix.policies import Policy
from bootmatrix.run.offers import Offers
from bootmatrix.steps.start import Start
from bootmatrix.verdict import judge
from bootmatrix.witnesses.moment import Moment
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.probe_line import Measured, Tables
from helpers import fakes
from helpers.judging import (
    DURING_POST,
    KNOWN,
    MIGRATE,
    NEW,
    OLD,
    RESET,
    START,
    boot,
    migrated,
    planned,
    reset,
    started,
)

FRESH, STALE = Tables("11111111", "22222222"), Tables("33333333", "44444444")


def with_tables(step: StepObserved, tables: Tables) -> StepObserved:
    assert step.boot is not None
    assert step.boot.up is not None
    line = replace(step.boot.up, acpi=tables.acpi, smbios=tables.smbios)
    return replace(step, boot=replace(step.boot, up=line))


def a_start(host: int, tables: Tables) -> Moment:
    """A start, on the source with OLD or on the destination with NEW."""
    start = Start(host)
    seen = replace(started(boot((OLD, NEW)[host], host)), step=start)
    return judge(planned(start), [with_tables(seen, tables)], KNOWN).boots[0]


def a_reset(tables: Tables) -> Moment:
    """On the destination, still with OLD."""
    seen = [started(), migrated(), with_tables(reset(boot(OLD, 1, 2)), tables)]
    return judge(planned(START, MIGRATE, RESET, policy=Policy.STOCK), seen, KNOWN).boots[1]


class Starts:
    """Stands for starts that are made to find out: what they are asked for, and find."""

    def __init__(self, found: Tables | None = FRESH) -> None:
        self.found = found
        self.made: list[tuple[GuestSetup, Start]] = []

    def __call__(self, key: str, setup: GuestSetup, start: Start) -> Sequence[StepObserved]:
        self.made.append((setup, start))
        if self.found is None:
            return [replace(started(replace(boot(OLD, start.host), up=None)), step=start)]
        return [with_tables(replace(started(boot(OLD, start.host)), step=start), self.found)]


@pytest.fixture
def setup(tmp_path: Path) -> GuestSetup:
    made = fakes.setup(tmp_path / "images")
    hosts = [replace(host, firmware=firmware)
             for host, firmware in zip(made.hosts, (OLD, NEW), strict=False)]
    return replace(made, hosts=hosts)


@pytest.fixture
def offers(tmp_path: Path) -> Offers:
    return Offers(tmp_path / "offered")


def test_what_a_start_has_found_there_is_right_whatever_its_firmware(
    offers: Offers, setup: GuestSetup
) -> None:
    starts = Starts()
    assert offers.asked(a_start(1, FRESH), setup, KNOWN, starts) is None
    assert offers.asked(a_reset(FRESH), setup, KNOWN, starts) == FRESH
    assert starts.made == [], "nothing is to be found out"


def test_where_none_has_told_the_same_machine_is_started(
    offers: Offers, setup: GuestSetup, tmp_path: Path
) -> None:
    """On that host, with the firmware that ran; once, for all workers."""
    starts = Starts()
    cell = replace(setup, post_ms=500)
    assert offers.asked(a_reset(STALE), cell, KNOWN, starts) == FRESH
    ((made, start),) = starts.made
    assert start == Start(1)
    assert [host.firmware for host in made.hosts] == [OLD, OLD]
    assert made.hosts[1].qemu == setup.hosts[1].qemu
    assert (made.post_ms, made.flash) == (0, None), "no part of the machine"
    assert Offers(tmp_path / "offered").asked(a_reset(STALE), setup, KNOWN, starts) == FRESH
    other = replace(setup, policy=Policy.GUEST_OWNED)
    assert offers.asked(a_reset(FRESH), other, KNOWN, starts) == FRESH
    assert len(starts.made) == 1, "it has told of that machine"
    assert offers.asked(a_reset(STALE), other, KNOWN, starts) == FRESH
    assert len(starts.made) == 2, "but not for certain"


def test_what_starts_elsewhere_have_found_is_no_answer(offers: Offers, setup: GuestSetup) -> None:
    """A reset that found the source's tables on the destination is found out."""
    starts = Starts()
    assert offers.asked(a_start(0, STALE), setup, KNOWN, starts) is None
    other = replace(setup, disk=Disk.VIRTIO)
    assert offers.asked(a_start(1, STALE), other, KNOWN, starts) is None
    assert offers.asked(a_reset(STALE), setup, KNOWN, starts) == FRESH


def test_a_start_that_moved_during_post_tells_of_no_host(
    offers: Offers, setup: GuestSetup
) -> None:
    """It ended on the destination, with what it had taken on the source."""
    seen = [StepObserved(START, 0.1, 0),
            with_tables(StepObserved(DURING_POST, 0.1, 1, boot=boot(OLD, 1)), STALE)]
    (moved,) = judge(planned(START, DURING_POST), seen, KNOWN).boots
    starts = Starts()
    assert offers.asked(moved, setup, KNOWN, starts) is None
    assert offers.asked(a_reset(STALE), setup, KNOWN, starts) == FRESH
    assert len(starts.made) == 1


def test_a_start_that_does_not_come_up_tells_nothing(offers: Offers, setup: GuestSetup) -> None:
    starts = Starts(found=None)
    for _ in range(2):
        assert offers.asked(a_reset(STALE), setup, KNOWN, starts) is None
    assert len(starts.made) == 1, "nor does it the next time"


def test_firmware_that_nobody_has_cannot_be_started(offers: Offers, setup: GuestSetup) -> None:
    lacks = replace(setup, hosts=[replace(host, firmware=NEW) for host in setup.hosts])
    assert offers.asked(a_reset(STALE), lacks, KNOWN, Starts()) is None


def test_firmware_that_makes_another_machine_of_it_is_not_started(
    offers: Offers, setup: GuestSetup
) -> None:
    source, destination, *_ = setup.hosts
    needs_smm = replace(destination, firmware=replace(NEW, features=("requires-smm",)))
    starts = Starts()
    other = replace(setup, machine="pc-q35-5.2", hosts=[source, needs_smm])
    assert offers.asked(a_reset(STALE), other, KNOWN, starts) is None
    assert starts.made == []


def test_workers_that_ask_for_one_start_wait_for_one(offers: Offers, setup: GuestSetup) -> None:
    both, starts = Barrier(2, timeout=10), Starts()

    def ask(_: int) -> Tables | None:
        both.wait()
        return offers.asked(a_reset(STALE), setup, KNOWN, starts)

    with ThreadPoolExecutor(2) as workers:
        assert list(workers.map(ask, range(2))) == [FRESH, FRESH]
    assert len(starts.made) == 1


def test_an_engine_that_fails_meanwhile_keeps_nothing(offers: Offers, setup: GuestSetup) -> None:
    def fails(key: str, setup: GuestSetup, start: Start) -> Sequence[StepObserved]:
        raise EngineError("gone")

    with pytest.raises(EngineError):
        offers.asked(a_reset(STALE), setup, KNOWN, fails)
    assert offers.asked(a_reset(STALE), setup, KNOWN, Starts()) == FRESH


# ---- PCR 0 -------------------------------------------------------------------------------------

MEASURED, OTHERWISE = "0" * 64, "1" * 64


def measuring(step: StepObserved, pcr0: str) -> StepObserved:
    assert step.boot is not None
    assert step.boot.up is not None
    return replace(step, boot=replace(step.boot, up=replace(step.boot.up, pcr0=pcr0)))


def at_a_start(pcr0: str) -> Moment:
    """On the source, with OLD."""
    return judge(planned(START), [measuring(started(), pcr0)], KNOWN).boots[0]


def at_a_reset(pcr0: str) -> Moment:
    """On the destination, still with OLD."""
    seen = [started(), migrated(), measuring(reset(boot(OLD, 1, 2)), pcr0)]
    return judge(planned(START, MIGRATE, RESET, policy=Policy.STOCK), seen, KNOWN).boots[1]


class Measures:
    """Stands for starts that are made to find it out."""

    def __init__(self) -> None:
        self.made: list[tuple[str | None, int]] = []

    def __call__(self, key: str, setup: GuestSetup, start: Start) -> Sequence[StepObserved]:
        self.made.append((setup.hosts[start.host].firmware.name, start.host))
        return [measuring(replace(started(boot(OLD, start.host)), step=start), MEASURED)]


def test_a_reset_must_measure_what_a_start_of_that_firmware_does(
    offers: Offers, setup: GuestSetup
) -> None:
    starts = Measures()
    for pcr0 in (OTHERWISE, MEASURED, OTHERWISE):
        assert offers.measured(at_a_reset(pcr0), setup, KNOWN, starts) == Measured(MEASURED)
    assert starts.made == [("seabios-old", 1)], "once, where it ran, with what ran there"


def test_the_first_start_is_believed_and_the_next_must_agree(
    offers: Offers, setup: GuestSetup
) -> None:
    starts = Measures()
    assert offers.measured(at_a_start(MEASURED), setup, KNOWN, starts) == Measured(MEASURED)
    assert offers.measured(at_a_start(MEASURED), setup, KNOWN, starts) == Measured(MEASURED)
    assert starts.made == []
    assert offers.measured(at_a_start(OTHERWISE), setup, KNOWN, starts) == Measured(MEASURED)
    assert starts.made == [("seabios-old", 0)]


def test_without_a_tpm_nothing_is_asked(offers: Offers, setup: GuestSetup) -> None:
    starts = Measures()
    assert offers.measured(at_a_reset(""), setup, KNOWN, starts) is None
    assert starts.made == []
