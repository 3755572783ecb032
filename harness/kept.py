"""What a guest must find again: its UEFI variables, and its kernel while it runs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.model import Boot, StepKind, Verdict
from harness.policies import VariablesExpected
from harness.probe_line import ProbeLine

Problem = tuple[Verdict, str]

# Setup mode is none of them: firmware without Secure Boot is never in it, whatever the store says.
_SECURITY = ("secure_boot", "keys")
# What a guest says of a step that went well.
_TOLD = {StepKind.WRITE_VARIABLE: "ok", StepKind.FILL_VARIABLES: "full"}


def variables_row(line: ProbeLine, expected: VariablesExpected | None) -> dict[str, Any] | None:
    """What a guest found in its variable store, for the record; None where it has none."""
    if expected is None:
        return None
    seen = line.uefi is not None
    return {
        "store": expected.store,
        "boots": line.boot if seen else None,
        "expected_boots": expected.boots,
        "value": line.value,
        "entry": line.entry,
        "expected_value": expected.value,
        "secure_boot": line.secure_boot,
        "setup_mode": line.setup_mode,
        "keys": line.keys,
        "lost": expected.lost,
    }


def variables_problem(
    line: ProbeLine,
    expected: VariablesExpected | None,
    boots: Sequence[Boot],
    mismatch: str | None = None,
) -> Problem | None:
    """What is wrong with the variables that a guest found, after these boots.

    ``mismatch`` says what is known of code and variables of different layouts, if they are.
    """
    if expected is None:
        return None
    if line.uefi is None:
        found = "the guest finds no UEFI variables"
    else:
        wanted = (
            ("boot counter", line.boot, expected.boots),
            ("value", line.value, expected.value),
            ("boot entry", line.entry, expected.value and f"bootmatrix {expected.value}"),
        )
        found = ", ".join(
            f"{what} {seen!r} (expected {right!r})" for what, seen, right in wanted if seen != right
        )
        found = f"the guest's variables are lost: {found}" if found else ""
        found = found or _security_problem(line, expected, boots)
    if not found:
        return None
    return Verdict.WRONG_VARIABLES, f"{found}; {mismatch}" if mismatch else found


def _security_problem(
    line: ProbeLine, expected: VariablesExpected, boots: Sequence[Boot]
) -> str:
    """Secure Boot is on or off, and its keys are there, as at the first boot of the store."""
    rows = (boot.details["variables"] for boot in boots)
    first = next((row for row in rows if row and row["store"] == expected.store), None)
    if first is None or first["keys"] is None:
        return ""
    return ", ".join(
        f"{key.replace('_', '-')} {getattr(line, key)} (at the store's first boot: {first[key]})"
        for key in _SECURITY if getattr(line, key) != first[key]
    )


def told_problem(
    kind: StepKind, told: ProbeLine, expected: VariablesExpected | None
) -> Problem | None:
    """What is wrong with a guest's answer about what it wrote into its variable store."""
    if told.result != _TOLD[kind]:
        return Verdict.WRONG_VARIABLES, f"{kind}: the guest's firmware answers {told.result}"
    if kind is StepKind.WRITE_VARIABLE and expected and told.value != expected.value:
        return Verdict.WRONG_VARIABLES, (
            f"{kind}: the guest has written {told.value!r}, expected {expected.value!r}"
        )
    return None


def kernel_row(line: ProbeLine) -> dict[str, Any] | None:
    """Which kernel runs, for the record; None where none does."""
    if line.token is None:
        return None
    return {"release": line.kernel, "token": line.token, "uptime": line.uptime}


def booted_kernel_problem(line: ProbeLine, earlier: Sequence[Boot]) -> Problem | None:
    """A boot brings a kernel that has not run before."""
    for boot in earlier:
        kernel = boot.details["kernel"]
        if kernel is not None and kernel["token"] == line.token:
            return Verdict.WRONG_KERNEL, (
                f"the kernel of boot {boot.n} still runs (token {line.token})"
            )
    return None


def running_kernel_problem(line: ProbeLine, before: ProbeLine) -> Problem | None:
    """Without a boot it is the same kernel that runs on. ``before`` is what it said last."""
    if before.token is None:
        return None
    if line.token != before.token:
        return Verdict.WRONG_KERNEL, (
            f"another kernel runs (token {line.token}) than before (token {before.token})"
        )
    if (line.uptime or 0) < (before.uptime or 0):
        return Verdict.WRONG_KERNEL, (
            f"the kernel's uptime went back from {before.uptime} s to {line.uptime} s"
        )
    return None
