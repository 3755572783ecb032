"""Expectation and observation, compared: the verdict of a cell. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.identity import ConsoleName, KnownFirmware
from harness.kept import (
    Problem,
    booted_kernel_problem,
    kernel_row,
    running_kernel_problem,
    told_problem,
    variables_problem,
    variables_row,
)
from harness.model import Boot, StepKind, Verdict, role_name
from harness.observation import BootObserved, StepObserved
from harness.policies import Expected
from harness.probe_line import ProbeLine
from harness.refusals import Refusal


@dataclass(frozen=True)
class Judgement:
    """The verdict with its reason, and the boots as rows of the run record."""

    verdict: Verdict
    reason: str
    boots: tuple[Boot, ...]


def judge(
    plan: Sequence[Expected], seen: Sequence[StepObserved], firmware: KnownFirmware,
    mismatch: str | None = None,
) -> Judgement:
    """Compare the plan of a policy's model with what was seen; the first failure is the verdict.

    A boot that is spread over two steps (it began before a migration and ended after it) is
    the boot of the first step, seen at the second. ``mismatch`` says that code and variables of
    the cell's firmware have different layouts, which explains variables that are lost.
    """
    boots: list[Boot] = []
    heard: ProbeLine | None = None  # what the guest said last
    failure: Problem | None = None
    begun: Expected | None = None
    for expected, witnesses in zip(plan, seen, strict=False):
        if expected.boots:
            begun = expected
        problem = None
        if witnesses.boot is not None and begun is None:
            problem = (
                Verdict.ERROR,
                f"{expected.step.kind.value}: a boot was watched that no step began",
            )
        elif witnesses.boot is not None and begun is not None:
            boot, problem = _judge_boot(
                boots, begun, expected, witnesses.boot, firmware, mismatch
            )
            boots.append(boot)
            begun, heard = None, witnesses.boot.up
        if witnesses.refusal is not None or expected.refusal is not None:
            problem = _judge_refusal(expected, witnesses.refusal)
        elif problem is None and witnesses.boot is None:
            problem = _judge_running(expected, witnesses, boots, heard, firmware, mismatch)
            heard = witnesses.here or heard
        if witnesses.nvram_equal is False:
            problem = problem or (
                Verdict.WRONG_FIRMWARE,
                f"{expected.step.kind}: the nvram on {role_name(witnesses.host or 0)} "
                "does not hold what the source's did",
            )
        failure = failure or problem
    if failure is None and len(seen) < len(plan):
        failure = (Verdict.ERROR, f"only {len(seen)} of {len(plan)} steps were done")
    if failure is None and begun is not None and not plan[-1].refusal:
        failure = (Verdict.ERROR, f"{begun.step.kind.value}: nobody watched the boot")
    verdict, reason = failure or (Verdict.PASS, _summary(plan, boots))
    return Judgement(verdict, reason, tuple(boots))


def _judge_refusal(expected: Expected, refusal: Refusal | None) -> Problem | None:
    step = expected.step.kind.value
    if refusal is None:
        return Verdict.ERROR, (
            f"{step}: QEMU must refuse this ({expected.refusal}), but it went through"
        )
    if expected.refusal == refusal.kind:
        return None
    instead = f" (expected: {expected.refusal})" if expected.refusal else ""
    return Verdict.BLOCKED, f"{step}: {refusal}{instead}"


def _judge_running(
    expected: Expected,
    witnesses: StepObserved,
    boots: Sequence[Boot],
    heard: ProbeLine | None,
    firmware: KnownFirmware,
    mismatch: str | None,
) -> Problem | None:
    """A step without a boot must leave the running firmware alone, and the guest alive."""
    kind = expected.step.kind
    if witnesses.failed is not None:
        return Verdict.NO_BOOT, f"{kind}: {witnesses.failed}"
    if witnesses.cut_off is not None:
        last = witnesses.cut_off.strip().splitlines()
        return Verdict.NO_BOOT, (
            f"guest-flash: cut off after {witnesses.flashed} bytes or more were programmed, "
            f"the flash is half-written: {last[-1] if last else 'no last words'}"
        )
    if witnesses.told is not None:
        refused = told_problem(kind, witnesses.told, expected.variables)
        if refused is not None:
            return refused
    if witnesses.rom is not None:
        rom = firmware.by_bytes(witnesses.rom, expected.rom or "")
        if rom != expected.rom and witnesses.flash is not None:
            return Verdict.WRONG_FIRMWARE, (
                f"guest-flash: the guest says {witnesses.flash.result}, "
                f"expected {expected.rom} in the ROM, seen {rom}"
            )
        if rom != expected.rom:
            return Verdict.WRONG_FIRMWARE, (
                f"{kind}: the ROM of the running guest changed to {rom}, "
                f"expected {expected.rom} until the next reset"
            )
    here = witnesses.here
    if here is None:
        silent = _MUST_ANSWER.get(kind)
        return (Verdict.NO_BOOT, f"{kind}: {silent}") if silent else None
    counted = boots[-1].details["counter"] if boots else None
    problem = running_kernel_problem(here, heard) if heard else None
    if problem is None and counted is not None and here.boot != counted:
        problem = Verdict.NO_BOOT, (
            f"the guest has rebooted, its boot counter went from {counted} to {here.boot}"
        )
    problem = (
        problem
        or _fw_cfg_problem(here, expected)
        or variables_problem(here, expected.variables, boots, mismatch)
    )
    return (problem[0], f"{kind}: {problem[1]}") if problem else None


# Steps after which the guest is asked whether it is still there.
_MUST_ANSWER = {
    StepKind.MIGRATE: "the guest no longer answers on the destination",
    StepKind.GUEST_FLASH: "the guest no longer answers",
    StepKind.SUSPEND: "the guest no longer answers after its wake-up",
    StepKind.WRITE_VARIABLE: "the guest no longer answers",
    StepKind.FILL_VARIABLES: "the guest no longer answers",
}


def fw_cfg_row(line: ProbeLine) -> dict[str, Any] | None:
    """What a guest found in fw_cfg, for the record; None where its line does not tell."""
    if line.fw_cfg is None:
        return None
    return {"signature": line.fw_cfg, "features": line.features, "host": line.host}


def _fw_cfg_problem(line: ProbeLine, expected: Expected) -> Problem | None:
    """fw_cfg is the QEMU's and not the guest's: it must name the host at any moment."""
    if line.fw_cfg is None or expected.label is None or line.host == expected.label:
        return None
    if not line.fw_cfg:
        return Verdict.WRONG_FW_CFG, "the guest finds no fw_cfg"
    return Verdict.WRONG_FW_CFG, (
        f"fw_cfg tells the guest that it is on {line.host!r}, it runs on {expected.label!r}"
    )


def _cmos(earlier: Sequence[Boot], line: ProbeLine | None) -> str | None:
    """What became of the CMOS since the boot before: it holds the counter of a boot sector."""
    before = earlier[-1].details["counter"] if earlier else None
    if before is None or line is None or line.boot is None:
        return None
    if line.uefi is not None or line.kernel is not None:
        return None
    return "survived" if line.boot > before else "lost"


def _judge_boot(
    earlier: Sequence[Boot], begun: Expected, now: Expected, seen: BootObserved,
    firmware: KnownFirmware, mismatch: str | None,
) -> tuple[Boot, Problem | None]:
    n = len(earlier) + 1
    wanted = now.firmware
    assert wanted is not None
    rom = firmware.by_bytes(seen.rom, wanted) if seen.rom else None
    printed = _printed(seen)
    console = firmware.by_print(printed) if printed else None
    if console and _decides(console) and wanted in console.candidates:
        console = replace(console, name=wanted)  # of two names for the same bytes
    details: dict[str, Any] = {
        "banners": list(seen.banners),
        "rom_sha256": seen.rom,
        "console_candidates": list(console.candidates) if console else [],
        "told_by": _told_by(console, rom),
        "disk": seen.up.disk if seen.up else None,
        "expected_disk": now.disk,
        "counter": seen.up.boot if seen.up else None,
        "cmos": _cmos(earlier, seen.up),
        "smbios": [seen.up.bios_vendor, seen.up.bios_version] if seen.up else None,
        "fw_cfg": fw_cfg_row(seen.up) if seen.up else None,
        "acpi": seen.up.acpi if seen.up else None,
        "variables": variables_row(seen.up, now.variables) if seen.up else None,
        "kernel": kernel_row(seen.up) if seen.up else None,
    }
    boot = Boot(
        n=n,
        step=begun.step.kind.value,
        host=role_name(seen.host),
        expected=wanted,
        console=console.name if console else None,
        rom=rom,
        up=seen.up is not None,
        seconds=round(seen.seconds, 4),
        details=details,
    )
    where = f"boot {n} ({begun.step.kind.value} on {role_name(seen.host)})"
    problem = _boot_problem(boot, seen, console, now)
    if problem is None and seen.up is not None:
        problem = (
            variables_problem(seen.up, now.variables, earlier, mismatch)
            or booted_kernel_problem(seen.up, earlier)
        )  # fmt: skip
    return boot, (problem[0], f"{where}: {problem[1]}") if problem else None


def _printed(seen: BootObserved) -> str | None:
    if seen.banners:
        return seen.banners[-1]
    return (seen.up.bios_version or None) if seen.up else None


def _decides(console: ConsoleName) -> bool:
    """Whether what the console said names one known build, and not several or none."""
    return console.name in console.candidates


def _told_by(console: ConsoleName | None, rom: str | None) -> str | None:
    """The witness that tells which known build ran; the console decides wherever it can."""
    if console is None or not console.candidates:
        return None
    if _decides(console):
        return "console"
    return "rom" if rom in console.candidates else None


# Vendors in SMBIOS that are not who the banner names: SeaBIOS calls itself so, and without its
# version, where QEMU gives it no SMBIOS (isapc, microvm); U-Boot is what OpenSBI starts.
_NOT_THE_BANNERS = ("Bochs", "U-Boot")


def _boot_problem(
    boot: Boot, seen: BootObserved, console: ConsoleName | None, now: Expected
) -> Problem | None:
    candidates = console.candidates if console else ()
    if seen.up is None:
        why = f"within {seen.limit:.1f} s"
        if seen.ended is not None:
            last = seen.ended.strip().splitlines()
            why = f"before QEMU ended: {last[-1] if last else 'no last words'}"
        if seen.spoke and not seen.banners:
            return Verdict.NO_BOOT, f"the firmware spoke, but the guest did not come up {why}"
        if not seen.banners:
            return Verdict.SILENT, f"nothing on the console {why}"
        again = f" (and {len(seen.banners) - 1} more)" if len(seen.banners) > 1 else ""
        return Verdict.NO_BOOT, (
            f"a banner of {boot.console}{again}, but the guest did not come up {why}"
        )
    if len(set(seen.banners)) > 1:
        return Verdict.WITNESS_CONFLICT, (
            f"the banners of one boot differ: {', '.join(seen.banners)}"
        )
    says = seen.up.bios_version
    if seen.banners and says != seen.banners[-1] and seen.up.bios_vendor not in _NOT_THE_BANNERS:
        return Verdict.WITNESS_CONFLICT, (
            f"the banner says {seen.banners[-1]}, "
            f"the guest found {says or 'nothing'} in SMBIOS"
        )
    if boot.rom is not None and boot.console is not None:
        # A text that no known build prints proves nothing about bytes that are not known either.
        unknown = not candidates and boot.rom.startswith("sha256:")
        if boot.rom not in candidates and not unknown:
            return Verdict.WITNESS_CONFLICT, (
                f"the console says {boot.console}, the ROM's bytes are {boot.rom}"
            )
    if boot.console is None:
        # The ROM alone does not decide: what ran is what the console shows, and a firmware's
        # shadow copy can outlive the ROM it came from.
        return Verdict.WITNESS_CONFLICT, (
            f"the guest came up, but nothing on the console named a firmware; "
            f"the ROM's bytes are {boot.rom or 'unreadable'}"
        )
    if boot.rom is None and console and candidates and not _decides(console):
        return Verdict.ERROR, (
            f"{boot.console} is printed by {' and '.join(candidates)}, "
            "and the ROM's bytes could not be read"
        )
    ran = boot.rom or boot.console
    if ran != boot.expected:
        return Verdict.WRONG_FIRMWARE, f"expected {boot.expected}, seen {ran or 'nothing'}"
    # A kernel that -kernel has started comes from no disk, and says so.
    if seen.up.disk != now.disk and not (seen.up.kernel and seen.up.disk == ""):
        return Verdict.WRONG_DISK, f"expected disk {now.disk}, seen {seen.up.disk}"
    return _fw_cfg_problem(seen.up, now)


def _summary(plan: Sequence[Expected], boots: Sequence[Boot]) -> str:
    if plan and plan[-1].refusal:
        return f"QEMU refused the {plan[-1].step.kind.value}, as it must ({plan[-1].refusal})"
    lost, told = False, []
    for boot in boots:
        loses = not lost and _has_lost(boot)
        lost = lost or loses
        told.append(f"{boot.rom or boot.console} ({boot.step} on {boot.host}"
                    f"{', its variables are lost' if loses else ''})")
    return ", then ".join(told)


def _has_lost(boot: Boot) -> bool:
    variables = boot.details["variables"]
    return variables is not None and bool(variables["lost"])
