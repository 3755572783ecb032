"""Every verdict that can be reached, planted as an observation and found by judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.identity import KnownFirmware, sha256
from harness.model import FirmwareBuild, Policy, Step, StepKind, Verdict
from harness.observation import BootObserved, StepObserved
from harness.policies import Expected, HostFacts, plan
from harness.probe_line import ProbeLine
from harness.refusals import Refusal
from harness.verdict import Judgement, judge

K = StepKind
Q35 = "pc-q35-5.2"


def build(name: str, prints: str | None) -> FirmwareBuild:
    return FirmwareBuild(name, sha256(name.encode()), 262144, Path(name), prints=prints)


# TWIN_1 and TWIN_2 print the same text.
OLD, NEW = build("seabios-old", "1.14.0-2"), build("seabios-new", "1.17.0-1")
TWIN_1, TWIN_2 = build("twin-1", "0.0.0"), build("twin-2", "0.0.0")
KNOWN = KnownFirmware([OLD, NEW, TWIN_1, TWIN_2])
UNKNOWN_ROM = sha256(b"never seen before")

START, RESET, SHUTDOWN = Step(K.START, 0), Step(K.RESET), Step(K.SHUTDOWN)
MIGRATE, DURING_POST = Step(K.MIGRATE, 1), Step(K.MIGRATE, 1, during_post=True)
MACHINE_TYPE = Refusal("machine-type", "Machine type received is 'a' and local is 'b'")
LIMIT = 5.0
HERE = ProbeLine("here", 1, 3)
SIZE = Refusal("ram-block-size", "Size mismatch: pc.bios: 0x20000 != 0x40000: Invalid argument")


def planned(
    *steps: Step,
    policy: Policy = Policy.MACHINE_OWNED,
    machine: str = Q35,
    firmwares: tuple[FirmwareBuild, FirmwareBuild] = (OLD, NEW),
) -> tuple[Expected, ...]:
    hosts = [
        HostFacts(version, f"pc-i440fx-{version}", firmware.name)
        for version, firmware in zip(("5.2", "11.1"), firmwares, strict=True)
    ]
    return plan(policy, hosts, machine, steps)


def up(firmware: str | FirmwareBuild, counter: int = 1, disk: str = "A") -> ProbeLine:
    version = firmware if isinstance(firmware, str) else firmware.prints
    return ProbeLine("up", counter, None, "SeaBIOS", version, disk)


def boot(firmware: FirmwareBuild, host: int = 0, counter: int = 1) -> BootObserved:
    """A boot at which all witnesses agree on a firmware."""
    assert firmware.prints is not None
    return BootObserved(
        host, (firmware.prints,), up(firmware, counter), firmware.sha256, 0.0678912, LIMIT
    )


def started(seen: BootObserved | None = None) -> StepObserved:
    return StepObserved(START, 0.1, 0, boot=seen or boot(OLD))


def migrated(
    rom: str | None = OLD.sha256, here: ProbeLine | None = HERE
) -> StepObserved:
    return StepObserved(MIGRATE, 0.1, 1, rom=rom, here=here)


def reset(seen: BootObserved) -> StepObserved:
    return StepObserved(RESET, 0.1, seen.host, boot=seen)


def judge_start(seen: BootObserved) -> Judgement:
    return judge(planned(START), [started(seen)], KNOWN)


def judge_reset(seen: BootObserved) -> Judgement:
    """A machine-owned guest, migrated to the destination, where its reset was seen as given."""
    return judge(planned(START, MIGRATE, RESET), [started(), migrated(), reset(seen)], KNOWN)


def test_pass_tells_the_guests_life_and_fills_the_boots() -> None:
    judgement = judge_reset(boot(NEW, 1, counter=2))
    assert judgement.verdict is Verdict.PASS
    assert judgement.reason == (
        "seabios-old (start on source), then seabios-new (reset on destination)"
    )
    first, second = judgement.boots
    assert (first.n, first.step, first.host) == (1, "start", "source")
    assert (second.n, second.step, second.host) == (2, "reset", "destination")
    assert second.expected == second.console == second.rom == "seabios-new"
    assert (second.up, second.seconds) == (True, 0.0679)
    assert second.details == {
        "banners": ["1.17.0-1"],
        "rom_sha256": NEW.sha256,
        "console_candidates": ["seabios-new"],
        "disk": "A",
        "expected_disk": "A",
        "counter": 2,
        "cmos": "survived",
        "smbios": ["SeaBIOS", "1.17.0-1"],
        "fw_cfg": None,
        "acpi": None,
        "told_by": "console",
        "variables": None,
        "kernel": None,
    }


def test_wrong_firmware_by_the_rom() -> None:
    judgement = judge_reset(boot(OLD, 1))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        "boot 2 (reset on destination): expected seabios-new, seen seabios-old"
    )


def test_wrong_firmware_by_the_console_where_the_rom_could_not_be_read() -> None:
    judgement = judge_reset(replace(boot(OLD, 1), rom=None))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        "boot 2 (reset on destination): expected seabios-new, seen seabios-old"
    )
    assert judgement.boots[1].rom is None


def test_the_console_alone_can_tell_that_all_is_well() -> None:
    assert judge_reset(replace(boot(NEW, 1), rom=None)).verdict is Verdict.PASS


def test_an_nvram_that_does_not_arrive_whole() -> None:
    seen = [started(), replace(migrated(), nvram_equal=True), reset(boot(OLD, 1, 2))]
    expected = planned(START, MIGRATE, RESET, policy=Policy.GUEST_OWNED)
    assert judge(expected, seen, KNOWN).verdict is Verdict.PASS
    seen[1] = replace(migrated(), nvram_equal=False)
    judgement = judge(expected, seen, KNOWN)
    assert (judgement.verdict, judgement.reason) == (
        Verdict.WRONG_FIRMWARE,
        "migrate: the nvram on destination does not hold what the source's did",
    )


def test_wrong_firmware_where_both_are_unknown() -> None:
    text = "1.99.0-home-made"
    seen = BootObserved(0, (text,), up(text), UNKNOWN_ROM, 0.1, LIMIT)
    judgement = judge_start(seen)
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        f"boot 1 (start on source): expected seabios-old, seen sha256:{UNKNOWN_ROM}"
    )
    assert judgement.boots[0].console == text
    assert judgement.boots[0].rom == f"sha256:{UNKNOWN_ROM}"


@pytest.mark.parametrize(
    ("text", "rom", "seen"),
    [
        # a known text in bytes that are not known: somebody rebuilt it, or the ROM was damaged
        ("1.14.0-2", UNKNOWN_ROM, f"sha256:{UNKNOWN_ROM}"),
        # an unknown text from known bytes
        ("1.99.0-home-made", OLD.sha256, "seabios-old"),
    ],
)
def test_half_known_is_a_witness_conflict(text: str, rom: str, seen: str) -> None:
    judgement = judge_start(BootObserved(0, (text,), up(text), rom, 0.1, LIMIT))
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason.startswith("boot 1 (start on source): the console says ")
    assert judgement.reason.endswith(f"the ROM's bytes are {seen}")


def test_wrong_disk() -> None:
    replaced = Step(K.REPLACE_DISK)
    judgement = judge(
        planned(START, replaced, RESET),
        [
            started(),
            StepObserved(replaced, 0.0, 0),
            reset(replace(boot(OLD), up=up(OLD, 2, disk="B"))),
        ],
        KNOWN,
    )
    assert judgement.verdict is Verdict.WRONG_DISK
    assert judgement.reason == "boot 2 (reset on source): expected disk A, seen B"


@pytest.mark.parametrize(
    ("banners", "more"), [(1, ""), (2, " (and 1 more)"), (40, " (and 39 more)")]
)
def test_no_boot(banners: int, more: str) -> None:
    seen = BootObserved(1, ("1.17.0-1",) * banners, None, NEW.sha256, 5.0371, 5.0)
    judgement = judge_reset(seen)
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == (
        f"boot 2 (reset on destination): a banner of seabios-new{more}, "
        "but the guest did not come up within 5.0 s"
    )
    assert (judgement.boots[1].up, judgement.boots[1].details["counter"]) == (False, None)


def test_no_boot_because_qemu_ended() -> None:
    last = "qemu-system-x86_64: warning: x\nqemu-system-x86_64: Assertion `size' failed.\n"
    seen = BootObserved(1, ("1.17.0-1",), None, None, 0.2, LIMIT, ended=last)
    judgement = judge_reset(seen)
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason.endswith(
        "did not come up before QEMU ended: qemu-system-x86_64: Assertion `size' failed."
    )


def test_silent() -> None:
    judgement = judge_reset(BootObserved(1, (), None, NEW.sha256, 3.0124, 3.0))
    assert judgement.verdict is Verdict.SILENT
    assert judgement.reason == (
        "boot 2 (reset on destination): nothing on the console within 3.0 s"
    )
    assert (judgement.boots[1].console, judgement.boots[1].rom) == (None, "seabios-new")


@pytest.mark.parametrize(
    ("last", "told"), [("Killed\n", "Killed"), ("a\n b \n\n", "b"), ("", "no last words")]
)
def test_silent_because_qemu_ended(last: str, told: str) -> None:
    judgement = judge_reset(BootObserved(1, (), None, None, 0.1, LIMIT, ended=last))
    assert judgement.verdict is Verdict.SILENT
    assert judgement.reason.split() == (
        f"boot 2 (reset on destination): nothing on the console before QEMU ended: {told}".split()
    )


def test_a_firmware_without_a_banner_that_spoke_is_not_silent() -> None:
    judgement = judge_reset(BootObserved(1, (), None, NEW.sha256, 9.1, 9.0, spoke=True))
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == (
        "boot 2 (reset on destination): the firmware spoke, "
        "but the guest did not come up within 9.0 s"
    )


# ---- refusals ----------------------------------------------------------------------------------


def test_blocked() -> None:
    judgement = judge(
        planned(START, MIGRATE, RESET),
        [started(), StepObserved(MIGRATE, 0.1, 0, refusal=SIZE)],
        KNOWN,
    )
    assert judgement.verdict is Verdict.BLOCKED
    assert judgement.reason == (
        "migrate: ram-block-size: Size mismatch: pc.bios: 0x20000 != 0x40000: Invalid argument"
    )
    assert [each.step for each in judgement.boots] == ["start"]


def test_a_launch_can_be_blocked() -> None:
    refusal = Refusal("missing-feature", "failed to initialize kvm: No such file")
    judgement = judge(planned(START), [StepObserved(START, 0.1, refusal=refusal)], KNOWN)
    assert judgement.verdict is Verdict.BLOCKED
    assert judgement.reason.startswith("start: missing-feature: failed to initialize kvm")


def test_a_refusal_that_must_come_is_a_pass() -> None:
    expected = planned(START, MIGRATE, RESET, machine="default")
    seen = [started(), StepObserved(MIGRATE, 0.1, 0, refusal=MACHINE_TYPE)]
    judgement = judge(expected, seen, KNOWN)
    assert judgement.verdict is Verdict.PASS
    assert judgement.reason == "QEMU refused the migrate, as it must (machine-type)"


def test_blocked_by_another_reason_than_the_one_that_must_come() -> None:
    expected = planned(START, MIGRATE, RESET, machine="default")
    seen = [started(), StepObserved(MIGRATE, 0.1, 0, refusal=SIZE)]
    judgement = judge(expected, seen, KNOWN)
    assert judgement.verdict is Verdict.BLOCKED
    assert judgement.reason.endswith("(expected: machine-type)")


def test_a_refusal_that_must_come_and_does_not() -> None:
    expected = planned(START, MIGRATE, RESET, machine="default")
    judgement = judge(expected, [started(), migrated(), reset(boot(NEW, 1))], KNOWN)
    assert judgement.verdict is not Verdict.PASS
    assert judgement.reason == (
        "migrate: QEMU must refuse this (machine-type), but it went through"
    )


def test_a_wrong_boot_before_a_refusal_that_must_come_stands() -> None:
    expected = planned(START, MIGRATE, machine="default")
    seen = [started(boot(NEW)), StepObserved(MIGRATE, 0.1, 0, refusal=MACHINE_TYPE)]
    assert judge(expected, seen, KNOWN).verdict is Verdict.WRONG_FIRMWARE


# ---- witnesses in conflict ---------------------------------------------------------------------


def test_banner_against_smbios() -> None:
    judgement = judge_reset(replace(boot(NEW, 1), up=up(OLD, 2)))
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason == (
        "boot 2 (reset on destination): the banner says 1.17.0-1, "
        "the guest found 1.14.0-2 in SMBIOS"
    )


def test_banner_against_an_empty_smbios() -> None:
    judgement = judge_reset(replace(boot(NEW, 1), up=up("", 2)))
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason.endswith("the guest found nothing in SMBIOS")


@pytest.mark.parametrize(("console", "rom"), [(OLD, NEW), (NEW, OLD)])
def test_console_against_rom(console: FirmwareBuild, rom: FirmwareBuild) -> None:
    # Neither is averaged away, not even where one of them is what the policy promises.
    judgement = judge_reset(replace(boot(console, 1), rom=rom.sha256))
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason == (
        f"boot 2 (reset on destination): the console says {console.name}, "
        f"the ROM's bytes are {rom.name}"
    )


def test_banner_against_banner() -> None:
    # The old firmware ran, the machine went round, and then came the right one.
    judgement = judge_reset(replace(boot(NEW, 1), banners=("1.14.0-2", "1.17.0-1")))
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason == (
        "boot 2 (reset on destination): the banners of one boot differ: 1.14.0-2, 1.17.0-1"
    )


def test_a_guest_that_went_round_with_the_same_firmware_has_come_up() -> None:
    judgement = judge_reset(replace(boot(NEW, 1), banners=("1.17.0-1", "1.17.0-1")))
    assert judgement.verdict is Verdict.PASS
    assert judgement.boots[1].details["banners"] == ["1.17.0-1", "1.17.0-1"]


def test_a_firmware_without_a_banner_is_named_by_the_guest() -> None:
    judgement = judge_start(replace(boot(OLD), banners=()))
    assert (judgement.verdict, judgement.boots[0].console) == (Verdict.PASS, "seabios-old")
    judgement = judge_start(replace(boot(NEW), banners=()))
    assert (judgement.verdict, judgement.boots[0].console) == (
        Verdict.WRONG_FIRMWARE,
        "seabios-new",
    )


def test_the_bytes_alone_do_not_decide() -> None:
    for rom in (OLD.sha256, NEW.sha256, None):
        judgement = judge_start(BootObserved(0, (), up(""), rom, 0.1, LIMIT))
        assert (judgement.verdict, judgement.boots[0].console) == (Verdict.WITNESS_CONFLICT, None)
        assert "nothing on the console named a firmware" in judgement.reason


# ---- two builds that print the same text -------------------------------------------------------


@pytest.mark.parametrize(
    ("ran", "verdict"), [(TWIN_1, Verdict.PASS), (TWIN_2, Verdict.WRONG_FIRMWARE)]
)
def test_twins_are_told_apart_by_their_bytes(ran: FirmwareBuild, verdict: Verdict) -> None:
    expected = planned(START, firmwares=(TWIN_1, TWIN_2))
    judgement = judge(expected, [started(boot(ran))], KNOWN)
    assert judgement.verdict is verdict
    assert ran.name in judgement.reason
    # The record says that the console could not tell.
    (seen,) = judgement.boots
    assert (seen.console, seen.rom) == ("0.0.0", ran.name)
    assert seen.details["console_candidates"] == ["twin-1", "twin-2"]
    assert seen.details["told_by"] == "rom"


def test_twins_without_their_bytes_are_no_finding() -> None:
    expected = planned(START, firmwares=(TWIN_1, TWIN_2))
    judgement = judge(expected, [started(replace(boot(TWIN_1), rom=None))], KNOWN)
    assert judgement.verdict is Verdict.ERROR
    assert judgement.reason == (
        "boot 1 (start on source): 0.0.0 is printed by twin-1 and twin-2, "
        "and the ROM's bytes could not be read"
    )


def test_a_twins_text_on_other_bytes_is_a_conflict() -> None:
    expected = planned(START, firmwares=(TWIN_1, TWIN_2))
    seen = started(replace(boot(TWIN_1), rom=OLD.sha256))
    judgement = judge(expected, [seen], KNOWN)
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.boots[0].details["told_by"] is None


def test_a_text_that_no_known_build_prints_is_told_by_nobody() -> None:
    seen = BootObserved(0, ("1.99.0",), up("1.99.0"), UNKNOWN_ROM, 0.1, LIMIT)
    assert judge_start(seen).boots[0].details["told_by"] is None


@pytest.mark.parametrize("rom", [True, False])
def test_two_names_for_the_same_bytes_are_one_firmware(rom: bool) -> None:
    plain, enrolled = build("code", "9.9"), replace(build("code", "9.9"), name="code-enrolled")
    known = KnownFirmware([plain, enrolled])
    expected = planned(START, firmwares=(enrolled, NEW))
    seen = boot(enrolled) if rom else replace(boot(enrolled), rom=None)
    judgement = judge(expected, [started(seen)], known)
    assert (judgement.verdict, judgement.reason) == (
        Verdict.PASS, "code-enrolled (start on source)"
    )
    assert judgement.boots[0].details["told_by"] == "console"


# ---- the running guest after a migration -------------------------------------------------------


def judge_migration(seen: StepObserved) -> Judgement:
    return judge(planned(START, MIGRATE), [started(), seen], KNOWN)


def test_a_migrated_guest_that_runs_on() -> None:
    assert judge_migration(migrated()).verdict is Verdict.PASS


def test_the_rom_changed_under_the_running_guest() -> None:
    judgement = judge_migration(migrated(rom=NEW.sha256))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        "migrate: the ROM of the running guest changed to seabios-new, "
        "expected seabios-old until the next reset"
    )


def test_a_rom_that_cannot_be_read_does_not_make_a_guest_dead() -> None:
    assert judge_migration(migrated(rom=None)).verdict is Verdict.PASS


def test_the_changed_rom_explains_a_dead_guest() -> None:
    judgement = judge_migration(migrated(rom=NEW.sha256, here=None))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE


def test_the_rom_changed_to_what_nobody_knows() -> None:
    judgement = judge_migration(migrated(rom=UNKNOWN_ROM))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert f"sha256:{UNKNOWN_ROM}" in judgement.reason


@pytest.mark.parametrize("rom", [OLD.sha256, None])
def test_the_guest_is_dead_after_the_migration(rom: str | None) -> None:
    judgement = judge_migration(migrated(rom, here=None))
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == "migrate: the guest no longer answers on the destination"


def test_the_guest_rebooted_in_the_migration() -> None:
    judgement = judge_migration(migrated(here=ProbeLine("here", 2, 1)))
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == (
        "migrate: the guest has rebooted, its boot counter went from 1 to 2"
    )


def labelled(plan: tuple[Expected, ...]) -> tuple[Expected, ...]:
    return tuple(replace(each, label=f"host {each.host}") for each in plan)


def on(line: ProbeLine, host: str, fw_cfg: str = "QEMU") -> ProbeLine:
    return replace(line, fw_cfg=fw_cfg, features=3 if fw_cfg else 0, host=host, acpi="0123cdef")


@pytest.mark.parametrize(("line", "words"), [
    (on(up(OLD), "host 0"), None),
    (up(OLD), None),  # it does not tell
    (on(up(OLD), "host 1"), "tells the guest that it is on 'host 1', it runs on 'host 0'"),
    (on(up(OLD), ""), "tells the guest that it is on '', it runs on 'host 0'"),
    (on(up(OLD), "", fw_cfg=""), "the guest finds no fw_cfg"),
])
def test_fw_cfg_at_a_boot(line: ProbeLine, words: str | None) -> None:
    seen = started(replace(boot(OLD), up=line))
    judgement = judge(labelled(planned(START)), [seen], KNOWN)
    if words is None:
        assert judgement.verdict is Verdict.PASS
    else:
        assert judgement.verdict is Verdict.WRONG_FW_CFG
        assert judgement.reason.startswith("boot 1 (start on source): ")
        assert words in judgement.reason
    assert judgement.boots[0].details["acpi"] == line.acpi


def test_fw_cfg_after_a_migration() -> None:
    def seen(host: str) -> list[StepObserved]:
        return [started(), migrated(here=on(HERE, host))]

    plan = labelled(planned(START, MIGRATE))
    assert judge(plan, seen("host 1"), KNOWN).verdict is Verdict.PASS
    judgement = judge(plan, seen("host 0"), KNOWN)
    assert judgement.verdict is Verdict.WRONG_FW_CFG
    assert judgement.reason == (
        "migrate: fw_cfg tells the guest that it is on 'host 0', it runs on 'host 1'"
    )


def test_wrong_firmware_comes_before_fw_cfg() -> None:
    seen = started(replace(boot(NEW), up=on(up(NEW), "nowhere")))
    judgement = judge(labelled(planned(START)), [seen], KNOWN)
    assert judgement.verdict is Verdict.WRONG_FIRMWARE


@pytest.mark.parametrize(("before", "after", "fate"), [
    (1, 2, "survived"), (1, 3, "survived"), (3, 1, "lost"), (1, 1, "lost"),
])
def test_the_fate_of_the_cmos(before: int, after: int, fate: str) -> None:
    seen = [started(boot(OLD, counter=before)), reset(boot(OLD, counter=after))]
    first, second = judge(planned(START, RESET), seen, KNOWN).boots
    assert (first.details["cmos"], second.details["cmos"]) == (None, fate)


# ---- the guest flashes itself --------------------------------------------------------------------

FLASH = Step(K.GUEST_FLASH, firmware_of=1)


def judge_flash(seen: StepObserved, policy: Policy = Policy.GUEST_OWNED) -> Judgement:
    return judge(planned(START, FLASH, policy=policy), [started(), seen], KNOWN)


def flashed(rom: FirmwareBuild, result: str) -> StepObserved:
    line = ProbeLine("flash", size=262144, written=262144, result=result)
    return StepObserved(FLASH, 0.1, 0, rom=rom.sha256, here=HERE, flash=line)


def test_a_flash_that_was_programmed() -> None:
    assert judge_flash(flashed(NEW, "ok")).verdict is Verdict.PASS
    assert judge_flash(flashed(OLD, "no-flash"), Policy.STOCK).verdict is Verdict.PASS


@pytest.mark.parametrize("result", ["no-flash", "refused", "mismatch"])
def test_a_flash_that_did_not_take_it(result: str) -> None:
    judgement = judge_flash(flashed(OLD, result))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        f"guest-flash: the guest says {result}, expected seabios-new in the ROM, "
        "seen seabios-old"
    )


def test_a_rom_that_let_itself_be_programmed() -> None:
    judgement = judge_flash(flashed(NEW, "ok"), Policy.STOCK)
    assert judgement.verdict is Verdict.WRONG_FIRMWARE


def test_a_guest_that_did_not_survive_it() -> None:
    judgement = judge_flash(replace(flashed(NEW, "ok"), here=None))
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == "guest-flash: the guest no longer answers"


def test_a_guest_that_was_cut_off_meanwhile() -> None:
    judgement = judge_flash(StepObserved(FLASH, 0.1, 0, flashed=65536, cut_off="a\nKilled\n"))
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == (
        "guest-flash: cut off after 65536 bytes or more were programmed, "
        "the flash is half-written: Killed"
    )


def test_a_dead_guest_is_the_verdict_whatever_its_reset_shows() -> None:
    seen = [started(), migrated(here=None), reset(boot(NEW, 1))]
    judgement = judge(planned(START, MIGRATE, RESET), seen, KNOWN)
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason.startswith("migrate: ")
    assert len(judgement.boots) == 2


# ---- steps and boots ---------------------------------------------------------------------------


def test_a_boot_spread_over_two_steps() -> None:
    expected = planned(START, DURING_POST, RESET)
    seen = [
        StepObserved(START, 0.03, 0),
        StepObserved(DURING_POST, 0.6, 1, boot=boot(OLD, 1)),
        reset(boot(NEW, 1, counter=2)),
    ]
    judgement = judge(expected, seen, KNOWN)
    assert judgement.verdict is Verdict.PASS
    assert [(each.n, each.step, each.host) for each in judgement.boots] == [
        (1, "start", "destination"),
        (2, "reset", "destination"),
    ]


def test_a_boot_spread_over_two_steps_fails_like_any_other() -> None:
    expected = planned(START, DURING_POST)
    hung = BootObserved(1, ("1.14.0-2",), None, None, 5.1, LIMIT)
    seen = [
        StepObserved(START, 0.03, 0),
        StepObserved(DURING_POST, 5.2, 1, boot=hung),
    ]
    judgement = judge(expected, seen, KNOWN)
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason.startswith("boot 1 (start on destination): a banner of seabios-old")


def test_a_boot_that_began_and_was_never_seen_is_no_pass() -> None:
    judgement = judge(planned(START), [StepObserved(START, 0.1, 0)], KNOWN)
    assert judgement.verdict is Verdict.ERROR
    assert judgement.reason == "start: nobody watched the boot"
    seen = [StepObserved(START, 0.1, 0), migrated()]
    assert judge(planned(START, MIGRATE), seen, KNOWN).verdict is Verdict.ERROR


def test_a_boot_that_no_step_began_is_no_pass() -> None:
    seen = [started(), StepObserved(MIGRATE, 0.1, 1, boot=boot(OLD, 1))]
    judgement = judge(planned(START, MIGRATE), seen, KNOWN)
    assert judgement.verdict is Verdict.ERROR
    assert judgement.reason == "migrate: a boot was watched that no step began"


@pytest.mark.parametrize("done", [0, 1, 2])
def test_fewer_steps_done_than_planned(done: int) -> None:
    seen = [started(), migrated(), reset(boot(NEW, 1))][:done]
    judgement = judge(planned(START, MIGRATE, RESET), seen, KNOWN)
    assert judgement.verdict is Verdict.ERROR
    assert judgement.reason == f"only {done} of 3 steps were done"


def test_steps_that_the_runner_left_out_after_a_failure_do_not_hide_it() -> None:
    seen = [started(BootObserved(0, (), None, None, 5.1, LIMIT))]
    assert judge(planned(START, MIGRATE, RESET), seen, KNOWN).verdict is Verdict.SILENT


def test_the_first_failure_is_the_verdict_and_every_boot_is_kept() -> None:
    seen = [started(boot(NEW)), migrated(rom=NEW.sha256), reset(boot(OLD, 1))]
    judgement = judge(planned(START, MIGRATE, RESET), seen, KNOWN)
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        "boot 1 (start on source): expected seabios-old, seen seabios-new"
    )
    assert [each.rom for each in judgement.boots] == ["seabios-new", "seabios-old"]


def test_steps_without_a_boot_ask_for_nothing() -> None:
    upgrade = Step(K.UPGRADE_HOST, 0, firmware_of=1)
    expected = planned(START, upgrade, SHUTDOWN, START)
    seen = [
        started(), StepObserved(upgrade, 0.0, 0), StepObserved(SHUTDOWN, 0.1), started(boot(NEW))
    ]  # fmt: skip
    assert judge(expected, seen, KNOWN).verdict is Verdict.PASS


# ---- the same life judged by another policy ----------------------------------------------------


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("ran", [OLD, NEW])
def test_what_is_right_depends_on_the_policy(policy: Policy, ran: FirmwareBuild) -> None:
    expected = planned(START, MIGRATE, RESET, policy=policy)
    judgement = judge(expected, [started(), migrated(), reset(boot(ran, 1, 2))], KNOWN)
    promised = NEW if policy in (Policy.MACHINE_OWNED, Policy.REREAD) else OLD
    assert judgement.verdict is (Verdict.PASS if ran is promised else Verdict.WRONG_FIRMWARE)
