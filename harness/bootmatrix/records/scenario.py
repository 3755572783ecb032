"""The scenario that a record's cell went through, from the record alone."""

from __future__ import annotations

from bootmatrix.records.model import Record
from bootmatrix.steps.base import Scenario, StepError
from bootmatrix.steps.library import LIBRARY, parse


def scenario_of(record: Record) -> Scenario | None:
    """Its steps; None if a record has none that make sense.

    One of schema 1 has none at all, nor has a baseline: there the library's scenario of its name
    is meant, as no other can have it.
    """
    name = record["cell"]["scenario"]
    if "scenario_steps" not in record:
        return LIBRARY.get(name)
    try:
        return parse(name, record["scenario_steps"])
    except StepError:
        return None
