"""``write-variable``: the guest writes its variable and its boot entry."""

from __future__ import annotations

from dataclasses import dataclass

from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.variables import VariablesStep


@dataclass(frozen=True)
class WriteVariable(VariablesStep):
    """The guest writes a value and a boot entry that name how many boots its store has seen."""

    kind = "write-variable"
    key, line, result = "v", "written", "ok"

    def apply(self, model: PolicyModel) -> str | None:
        """The value is in the store."""
        store = model.process.store if model.process else None
        if store:
            store.value = f"boot-{store.boots}"
        return None
