"""``fill-variables``: the guest fills its variable store."""

from __future__ import annotations

from dataclasses import dataclass

from bootmatrix.steps.variables import VariablesStep


@dataclass(frozen=True)
class FillVariables(VariablesStep):
    """The guest writes variables until the store is full, and then makes way for small updates."""

    kind = "fill-variables"
    key, line, result = "x", "filled", "full"
