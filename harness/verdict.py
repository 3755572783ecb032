"""Expectation and observation, compared: the verdict of a cell. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.identity import KnownFirmware
from harness.model import Boot, Verdict, role_name
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
    plan: Sequence[Expected], seen: Sequence[StepObserved], firmware: KnownFirmware
) -> Judgement:
    """Compare the plan of a policy's model with what was seen; the first failure is the verdict.

    A boot that is spread over two steps (it began before a migration and ended after it) is
    the boot of the first step, seen at the second.
    """
    boots: list[Boot] = []
    failure: tuple[Verdict, str] | None = None
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
            boot, problem = _judge_boot(boots, begun, expected, witnesses.boot, firmware)
            boots.append(boot)
            begun = None
        if witnesses.refusal is not None or expected.refusal is not None:
            problem = _judge_refusal(expected, witnesses.refusal)
        elif problem is None and witnesses.boot is None:
            problem = _judge_running(expected, witnesses, boots, firmware)
        failure = failure or problem
    if failure is None and len(seen) < len(plan):
        failure = (Verdict.ERROR, f"only {len(seen)} of {len(plan)} steps were done")
    if failure is None and begun is not None and not plan[-1].refusal:
        failure = (Verdict.ERROR, f"{begun.step.kind.value}: nobody watched the boot")
    verdict, reason = failure or (Verdict.PASS, _summary(plan, boots))
    return Judgement(verdict, reason, tuple(boots))


def _judge_refusal(expected: Expected, refusal: Refusal | None) -> tuple[Verdict, str] | None:
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
    firmware: KnownFirmware,
) -> tuple[Verdict, str] | None:
    """A step without a boot must leave the running firmware alone, and the guest alive."""
    if witnesses.cut_off is not None:
        last = witnesses.cut_off.strip().splitlines()
        return Verdict.NO_BOOT, (
            f"guest-flash: cut off after {witnesses.flashed} bytes or more were programmed, "
            f"the flash is half-written: {last[-1] if last else 'no last words'}"
        )
    if witnesses.rom is None and witnesses.here is None:
        return None if expected.step.kind.value != "migrate" else _DIED
    if witnesses.rom is not None:
        rom = firmware.by_bytes(witnesses.rom)
        if rom != expected.rom and witnesses.flash is not None:
            return Verdict.WRONG_FIRMWARE, (
                f"guest-flash: the guest says {witnesses.flash.result}, "
                f"expected {expected.rom} in the ROM, seen {rom}"
            )
        if rom != expected.rom:
            return Verdict.WRONG_FIRMWARE, (
                f"{expected.step.kind.value}: the ROM of the running guest changed to {rom}, "
                f"expected {expected.rom} until the next reset"
            )
    if witnesses.here is None and witnesses.flash is not None:
        return Verdict.NO_BOOT, "guest-flash: the guest no longer answers"
    if witnesses.here is None:
        return _DIED
    counted = boots[-1].details["counter"] if boots else None
    if counted is not None and witnesses.here.boot != counted:
        return Verdict.NO_BOOT, (
            f"{expected.step.kind.value}: the guest has rebooted, "
            f"its boot counter went from {counted} to {witnesses.here.boot}"
        )
    misled = _fw_cfg_problem(witnesses.here, expected)
    return (misled[0], f"{expected.step.kind.value}: {misled[1]}") if misled else None


_DIED = (Verdict.NO_BOOT, "migrate: the guest no longer answers on the destination")


def fw_cfg_row(line: ProbeLine) -> dict[str, Any] | None:
    """What a guest found in fw_cfg, for the record; None where its line does not tell."""
    if line.fw_cfg is None:
        return None
    return {"signature": line.fw_cfg, "features": line.features, "host": line.host}


def _fw_cfg_problem(line: ProbeLine, expected: Expected) -> tuple[Verdict, str] | None:
    """fw_cfg is the QEMU's and not the guest's: it must name the host at any moment."""
    if line.fw_cfg is None or expected.label is None or line.host == expected.label:
        return None
    if not line.fw_cfg:
        return Verdict.WRONG_FW_CFG, "the guest finds no fw_cfg"
    return Verdict.WRONG_FW_CFG, (
        f"fw_cfg tells the guest that it is on {line.host!r}, it runs on {expected.label!r}"
    )


def _cmos(earlier: Sequence[Boot], counter: int | None) -> str | None:
    """What became of the CMOS since the boot before: it holds the guest's boot counter."""
    before = earlier[-1].details["counter"] if earlier else None
    if before is None or counter is None:
        return None
    return "survived" if counter > before else "lost"


def _judge_boot(
    earlier: Sequence[Boot], begun: Expected, now: Expected, seen: BootObserved,
    firmware: KnownFirmware,
) -> tuple[Boot, tuple[Verdict, str] | None]:
    n = len(earlier) + 1
    wanted = now.firmware
    assert wanted is not None
    rom = firmware.by_bytes(seen.rom) if seen.rom else None
    printed = _printed(seen)
    console = firmware.by_print(printed) if printed else None
    details: dict[str, Any] = {
        "banners": list(seen.banners),
        "rom_sha256": seen.rom,
        "console_candidates": list(console.candidates) if console else [],
        "disk": seen.up.disk if seen.up else None,
        "expected_disk": now.disk,
        "counter": seen.up.boot if seen.up else None,
        "cmos": _cmos(earlier, seen.up.boot if seen.up else None),
        "smbios": [seen.up.bios_vendor, seen.up.bios_version] if seen.up else None,
        "fw_cfg": fw_cfg_row(seen.up) if seen.up else None,
        "acpi": seen.up.acpi if seen.up else None,
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
    problem = _boot_problem(boot, seen, console.candidates if console else (), now)
    return boot, (problem[0], f"{where}: {problem[1]}") if problem else None


def _printed(seen: BootObserved) -> str | None:
    if seen.banners:
        return seen.banners[-1]
    return (seen.up.bios_version or None) if seen.up else None


def _boot_problem(
    boot: Boot, seen: BootObserved, candidates: Sequence[str], now: Expected
) -> tuple[Verdict, str] | None:
    if seen.up is None:
        why = f"within {seen.limit:.1f} s"
        if seen.ended is not None:
            last = seen.ended.strip().splitlines()
            why = f"before QEMU ended: {last[-1] if last else 'no last words'}"
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
    if seen.banners and seen.up.bios_version != seen.banners[-1]:
        return Verdict.WITNESS_CONFLICT, (
            f"the banner says {seen.banners[-1]}, "
            f"the guest found {seen.up.bios_version or 'nothing'} in SMBIOS"
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
    if boot.rom is None and len(candidates) > 1:
        return Verdict.ERROR, (
            f"{boot.console} is printed by {' and '.join(candidates)}, "
            "and the ROM's bytes could not be read"
        )
    ran = boot.rom or boot.console
    if ran != boot.expected:
        return Verdict.WRONG_FIRMWARE, f"expected {boot.expected}, seen {ran or 'nothing'}"
    if seen.up.disk != now.disk:
        return Verdict.WRONG_DISK, f"expected disk {now.disk}, seen {seen.up.disk}"
    return _fw_cfg_problem(seen.up, now)


def _summary(plan: Sequence[Expected], boots: Sequence[Boot]) -> str:
    if plan and plan[-1].refusal:
        return f"QEMU refused the {plan[-1].step.kind.value}, as it must ({plan[-1].refusal})"
    return ", then ".join(
        f"{boot.rom or boot.console} ({boot.step} on {boot.host})" for boot in boots
    )
