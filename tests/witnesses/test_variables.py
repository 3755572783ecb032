"""What a guest must find again, its UEFI variables and its kernel, planted and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.boards import Loader
from bootmatrix.firmware.identity import KnownFirmware, sha256
from bootmatrix.model import FirmwareBuild, Verdict
from bootmatrix.policies import Policy
from bootmatrix.policies.base import HostFacts
from bootmatrix.steps.base import Step
from bootmatrix.steps.enrol_keys import EnrolKeys
from bootmatrix.steps.fill_variables import FillVariables
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.plan import plan
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from bootmatrix.steps.suspend import Suspend
from bootmatrix.steps.write_variable import WriteVariable
from bootmatrix.verdict import Judgement, judge
from bootmatrix.witnesses import variables
from bootmatrix.witnesses.moment import Given
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from helpers.judging import rows_of

OVMF = FirmwareBuild("ovmf", sha256(b"ovmf"), 1 << 20, Path("ovmf"), prints="2025.02-8")
NEWER = FirmwareBuild("ovmf-newer", sha256(b"newer"), 1 << 20, Path("newer"), prints="2026.08-1")
KNOWN = KnownFirmware([OVMF, NEWER])

START, START_B, RESET, SHUTDOWN = Start(0), Start(1), Reset(), Shutdown()
MIGRATE, WRITE, FILL = Migrate(1), WriteVariable(), FillVariables()
SUSPEND, ENROL = Suspend(), EnrolKeys()

UP = ProbeLine(
    "up", 1, None, "EFI Development Kit II / OVMF", OVMF.prints, "A", uefi="Debian",
    revision="00010000", secure_boot="0", setup_mode="1", keys="00000000", value="", entry="",
)  # fmt: skip
WROTE = ProbeLine("written", value="boot-1", result="ok")
FULL = ProbeLine("filled", count=52, size=53248, result="full")
KEPT: dict[str, Any] = {"value": "boot-1", "entry": "bootmatrix boot-1"}


def up(boot: int, **changed: Any) -> ProbeLine:
    return replace(UP, boot=boot, **changed)


def here(boot: int, **changed: Any) -> ProbeLine:
    return replace(UP, kind="here", boot=boot, beat=3, **changed)


def boots(step: Step, host: int, line: ProbeLine | None, rom: FirmwareBuild = OVMF) -> StepObserved:
    boot = BootObserved(host, (), line, rom.sha256, 2.0, 9.0, spoke=True, nameless=True)
    return StepObserved(step, 2.0, host, boot=boot)


def runs(step: Step, host: int, line: ProbeLine | None, **more: Any) -> StepObserved:
    return StepObserved(step, 0.1, host, rom=OVMF.sha256, answer=line, **more)


def judged(
    seen: Sequence[StepObserved], loader: Loader = Loader.FLASH, mismatch: str | None = None,
    keys: str | None = None,
) -> Judgement:
    """What the stock policy says of it; both hosts have the same firmware."""
    hosts = [HostFacts(version, "", "ovmf", loader=loader) for version in ("5.2", "11.1")]
    steps = [each.step for each in seen]
    return judge(plan(Policy.STOCK, hosts, "pc-q35-5.2", steps), seen, KNOWN,
                 Given(mismatch, keys=keys))


WRITTEN = (boots(START, 0, up(1)), runs(WRITE, 0, here(1, **KEPT), wrote=WROTE))
MIGRATED = (*WRITTEN, runs(MIGRATE, 1, here(1, **KEPT)))


def test_variables_that_are_kept() -> None:
    judgement = judged([*MIGRATED, boots(RESET, 1, up(2, **KEPT))])
    assert judgement.verdict is Verdict.PASS, judgement.reason
    assert judgement.reason == "ovmf (start on source), then ovmf (reset on destination)"
    first, second = rows_of(judgement)
    assert second["variables"] == {
        "store": 1, "boots": 2, "expected_boots": 2, "value": "boot-1",
        "entry": "bootmatrix boot-1", "expected_value": "boot-1", "secure_boot": "0",
        "setup_mode": "1", "keys": "00000000", "enrolled": False, "lost": False,
    }  # fmt: skip
    assert first["variables"]["expected_value"] == ""
    # The counter is a variable, and tells nothing of the CMOS. SMBIOS alone names the firmware.
    assert (second["cmos"], second["told_by"], second["banners"]) == (None, "console", [])


def test_what_a_move_loses_is_expected_and_marked() -> None:
    seen = [*WRITTEN, StepObserved(SHUTDOWN, 0.1), boots(START_B, 1, up(1))]
    judgement = judged(seen)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    assert judgement.reason == (
        "ovmf (start on source), then ovmf (start on destination, its variables are lost)"
    )
    variables = rows_of(judgement)[1]["variables"]
    assert (variables["store"], variables["lost"]) == (2, True)
    # ... and to find them there all the same is not what the policy says.
    kept = judged([*seen[:-1], boots(START_B, 1, up(2, **KEPT))])
    assert kept.verdict is Verdict.WRONG_VARIABLES


@pytest.mark.parametrize(("line", "words"), [
    (up(1), "boot counter 1 (expected 2), value '' (expected 'boot-1'), "
            "boot entry '' (expected 'bootmatrix boot-1')"),
    (up(1, **KEPT), "boot counter 1 (expected 2)"),
    (up(2, **KEPT | {"value": "boot-7"}), "value 'boot-7' (expected 'boot-1')"),
    (up(2, **KEPT | {"entry": ""}), "boot entry '' (expected 'bootmatrix boot-1')"),
])  # fmt: skip
def test_lost_variables(line: ProbeLine, words: str) -> None:
    judgement = judged([*MIGRATED, boots(RESET, 1, line)])
    assert judgement.verdict is Verdict.WRONG_VARIABLES
    assert judgement.reason == (
        f"boot 2 (reset on destination): the guest's variables are lost: {words}"
    )


def test_a_mismatch_of_layouts_explains_it() -> None:
    mismatch = "the code is made for 4 MiB, the variables for 2 MiB"
    seen = [*MIGRATED, boots(RESET, 1, up(1))]
    assert judged(seen, mismatch=mismatch).reason.endswith(f"'bootmatrix boot-1'); {mismatch}")
    # It explains what went wrong, and makes nothing wrong.
    assert judged(MIGRATED, mismatch=mismatch).verdict is Verdict.PASS


def test_variables_are_looked_at_after_a_migration_at_once() -> None:
    judgement = judged([*WRITTEN, runs(MIGRATE, 1, here(1))])
    assert judgement.verdict is Verdict.WRONG_VARIABLES
    assert judgement.reason.startswith("migrate: the guest's variables are lost: value ''")


def test_a_guest_that_finds_no_variables() -> None:
    silent = replace(
        UP, uefi=None, secure_boot=None, setup_mode=None, keys=None, value=None, entry=None
    )
    judgement = judged([boots(START, 0, silent)])
    assert judgement.verdict is Verdict.WRONG_VARIABLES
    assert judgement.reason == "boot 1 (start on source): the guest finds no UEFI variables"
    variables = rows_of(judgement)[0]["variables"]
    assert (variables["boots"], variables["keys"], variables["expected_boots"]) == (None, None, 1)


def test_where_there_is_no_store_nothing_is_expected_of_it() -> None:
    judgement = judged([boots(START, 0, up(1)), boots(RESET, 0, up(1))], Loader.ROM)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    assert [boot["variables"] for boot in rows_of(judgement)] == [None, None]
    assert [boot["cmos"] for boot in rows_of(judgement)] == [None, None]


@pytest.mark.parametrize(("changed", "words"), [
    ({"secure_boot": "1"}, "secure-boot 1 (at the store's first boot: 0)"),
    ({"secure_boot": "1", "keys": "0badcafe"},
     "secure-boot 1 (at the store's first boot: 0), "
     "keys 0badcafe (at the store's first boot: 00000000)"),
])  # fmt: skip
def test_secure_boot_and_its_keys_are_the_stores(changed: dict[str, str], words: str) -> None:
    judgement = judged([boots(START, 0, up(1)), boots(RESET, 0, up(2, **changed))])
    assert judgement.verdict is Verdict.WRONG_VARIABLES
    assert judgement.reason == f"boot 2 (reset on source): {words}"
    # Another store has keys of its own.
    moved = [boots(START, 0, up(1)), StepObserved(SHUTDOWN, 0.1),
             boots(START_B, 1, up(1, **changed))]  # fmt: skip
    assert judged(moved).verdict is Verdict.PASS


def test_firmware_without_secure_boot_has_no_setup_mode() -> None:
    # OVMF 2022.11 and then, machine-owned, 2026.08 on one store, as it was seen.
    seen = [boots(START, 0, up(1)), boots(RESET, 0, up(2, setup_mode="0"))]
    assert judged(seen).verdict is Verdict.PASS


KEYS = "12345678"
USER: dict[str, Any] = {"setup_mode": "0", "keys": KEYS}
ON = USER | {"secure_boot": "1"}
SAID = ProbeLine("written", value="keys", result="ok")


@pytest.mark.parametrize(("told", "moved", "last", "words"), [
    (USER, USER, ON, ""),
    (ON, ON, ON, ""),  # firmware can obey at once
    ({"keys": KEYS}, USER, ON, "enrol-keys: setup-mode 1 (by the keys that it has enrolled: 0)"),
    (USER | {"keys": "0badcafe"}, USER, ON,
     "enrol-keys: keys 0badcafe (by the keys that it has enrolled: 12345678)"),
    (USER, {}, ON, "migrate: setup-mode 1 (by the keys that it has enrolled: 0), "
     "keys 00000000 (by the keys that it has enrolled: 12345678)"),
    (USER, USER, USER, "boot 2 (reset on destination): secure-boot 0 (by the keys that it has "
     "enrolled: 1)"),
    (USER, USER, {}, "boot 2 (reset on destination): setup-mode 1 (by the keys that it has "
     "enrolled: 0), keys 00000000 (by the keys that it has enrolled: 12345678), secure-boot 0 (by "
     "the keys that it has enrolled: 1)"),
], ids=["next boot", "at once", "not over", "other keys", "lost on the way", "not obeyed", "lost"])
def test_keys_that_the_guest_has_enrolled(
    told: dict[str, str], moved: dict[str, str], last: dict[str, str], words: str
) -> None:
    judgement = judged([
        boots(START, 0, up(1)), runs(ENROL, 0, here(1, **told), wrote=SAID),
        runs(MIGRATE, 1, here(1, **moved)), boots(RESET, 1, up(2, **last))], keys=KEYS)
    assert (judgement.verdict, judgement.reason if words else "") == (
        Verdict.WRONG_VARIABLES if words else Verdict.PASS, words)
    if not words:
        assert [row["variables"]["enrolled"] for row in rows_of(judgement)] == [False, True]


def test_a_store_without_the_keys_is_one_in_setup_mode() -> None:
    seen = [boots(START, 0, up(1)), runs(ENROL, 0, here(1, **USER), wrote=SAID),
            StepObserved(SHUTDOWN, 0.1), boots(START_B, 1, up(1))]
    judgement = judged(seen, keys=KEYS)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    assert judgement.reason.endswith("its variables are lost)")


def test_the_firmware_is_judged_before_its_variables() -> None:
    wrong = boots(START, 0, up(7, bios_version=NEWER.prints), NEWER)
    assert judged([wrong]).verdict is Verdict.WRONG_FIRMWARE


@pytest.mark.parametrize(("step", "told", "reason"), [
    (WRITE, ProbeLine("written", value="boot-1", result="out-of-resources"),
     "write-variable: the guest's firmware answers out-of-resources"),
    (WRITE, ProbeLine("written", value="boot-2", result="ok"),
     "write-variable: the guest has written 'boot-2', expected 'boot-1'"),
    (FILL, ProbeLine("filled", count=0, size=0, result="device-error"),
     "fill-variables: the guest's firmware answers device-error"),
])  # fmt: skip
def test_a_store_that_refuses(step: Step, told: ProbeLine, reason: str) -> None:
    judgement = judged([boots(START, 0, up(1)), runs(step, 0, here(1), wrote=told)])
    assert (judgement.verdict, judgement.reason) == (Verdict.WRONG_VARIABLES, reason)


def test_a_store_that_was_filled() -> None:
    seen = [boots(START, 0, up(1)), runs(FILL, 0, here(1), wrote=FULL), runs(MIGRATE, 1, here(1)),
            boots(RESET, 1, up(2))]  # fmt: skip
    assert judged(seen).verdict is Verdict.PASS
    judgement = judged([*seen[:3], boots(RESET, 1, up(1))])
    assert judgement.verdict is Verdict.WRONG_VARIABLES


@pytest.mark.parametrize("step", [WRITE, FILL, SUSPEND, MIGRATE])
def test_a_guest_that_fell_silent(step: Step) -> None:
    judgement = judged([boots(START, 0, up(1)), runs(step, 0, None)])
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason.startswith(f"{step.kind}: the guest no longer answers")


def test_no_firmware_is_swapped_in_at_a_wake_up() -> None:
    woken = replace(runs(SUSPEND, 0, here(1)), rom=NEWER.sha256)
    judgement = judged([boots(START, 0, up(1)), woken])
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason.startswith("suspend: the ROM of the running guest changed")


def test_what_a_step_that_writes_puts_into_the_record() -> None:
    assert variables.step_row(WRITTEN[1]) == {
        "told": {"value": "boot-1", "count": None, "size": None, "result": "ok"}}
    assert variables.step_row(WRITTEN[0]) == {}
