"""The guest's UEFI variables: what it finds of them, and what came of those it was to write.

Observed as ``ProbeLine.uefi``, ``value``, ``entry``, ``secure_boot``, ``setup_mode``, ``keys`` and,
of what it wrote, ``StepObserved.wrote``.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.policies.base import VariablesExpected
from bootmatrix.steps.variables import VariablesStep
from bootmatrix.steps.write_variable import WriteVariable
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine

# Setup mode is none of them: firmware without Secure Boot is never in it, whatever the store says.
_SECURITY = ("secure_boot", "keys")


class StoreRow(TypedDict, total=False):
    """What the guest found in its variable store."""

    store: int | None
    boots: int | None
    expected_boots: int | None
    value: str | None
    entry: str | None
    expected_value: str | None
    secure_boot: str | None
    setup_mode: str | None
    keys: str | None
    enrolled: bool | None
    lost: bool | None


class VariablesRow(TypedDict, total=False):
    """Its part of a boot in the record; None where the guest has no store."""

    variables: StoreRow | None


class ResultRow(TypedDict, total=False):
    """What the guest said of what it wrote."""

    value: str | None
    count: int | None
    size: int | None
    result: str | None


class WrittenRow(TypedDict, total=False):
    """Its part of a step that writes variables."""

    told: ResultRow


def row(moment: Moment) -> VariablesRow:
    """What it puts into the record of a boot."""
    line, expected = moment.line, moment.expected.variables
    if line is None or expected is None:
        return {"variables": None}
    return {"variables": {
        "store": expected.store,
        "boots": line.boot if line.uefi is not None else None,
        "expected_boots": expected.boots,
        "value": line.value,
        "entry": line.entry,
        "expected_value": expected.value,
        "secure_boot": line.secure_boot,
        "setup_mode": line.setup_mode,
        "keys": line.keys,
        "enrolled": expected.enrolled,
        "lost": expected.lost,
    }}  # fmt: skip


def step_row(seen: StepObserved) -> WrittenRow:
    """What it puts into the record of a step."""
    wrote = seen.wrote
    if wrote is None:
        return {}
    return {"told": {
        "value": wrote.value, "count": wrote.count, "size": wrote.size, "result": wrote.result
    }}  # fmt: skip


def problem(moment: Moment) -> Problem | None:
    """The guest did not find what its store must hold."""
    line, expected = moment.line, moment.expected.variables
    if line is None or expected is None:
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
        found = found or _security_problem(line, expected, moment)
    if not found:
        return None
    mismatch = moment.given.mismatch
    return Verdict.WRONG_VARIABLES, f"{found}; {mismatch}" if mismatch else found


def _security_problem(line: ProbeLine, expected: VariablesExpected, moment: Moment) -> str:
    """Secure Boot is on or off, and its keys are there, as at the first boot of the store."""
    if expected.enrolled:
        return _enrolled_problem(line, moment)
    first = next((boot.line for boot in moment.boots if boot.line and boot.expected.variables
                  and boot.expected.variables.store == expected.store), None)
    if first is None or first.keys is None:
        return ""
    return ", ".join(
        f"{key.replace('_', '-')} {getattr(line, key)} "
        f"(at the store's first boot: {getattr(first, key)})"
        for key in _SECURITY if getattr(line, key) != getattr(first, key)
    )


def _enrolled_problem(line: ProbeLine, moment: Moment) -> str:
    """The keys are those that the guest has enrolled; the next boot after that obeys them."""
    wanted = {"setup_mode": "0", "keys": moment.given.keys}
    if moment.seen.boot is not None:
        wanted["secure_boot"] = "1"
    return ", ".join(
        f"{key.replace('_', '-')} {getattr(line, key)} (by the keys that it has enrolled: {right})"
        for key, right in wanted.items() if right is not None and getattr(line, key) != right)


def not_written(moment: Moment) -> Problem | None:
    """The guest's firmware did not write what it was to write."""
    wrote, step, expected = moment.seen.wrote, moment.expected.step, moment.expected.variables
    if wrote is None or not isinstance(step, VariablesStep):
        return None
    if wrote.result != step.result:
        return Verdict.WRONG_VARIABLES, f"the guest's firmware answers {wrote.result}"
    if isinstance(step, WriteVariable) and expected and wrote.value != expected.value:
        return Verdict.WRONG_VARIABLES, (
            f"the guest has written {wrote.value!r}, expected {expected.value!r}"
        )
    return None
