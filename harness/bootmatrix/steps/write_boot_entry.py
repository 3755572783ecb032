"""``write-boot-entry``: the guest writes a boot entry for another program on its disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootmatrix.model import BootBy, Host
from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import Choice
from bootmatrix.steps.variables import ProbesVariablesStep

KEYS = {BootBy.ORDER: "b", BootBy.NEXT: "n"}
"""What the guest is typed."""


@dataclass(frozen=True)
class WriteBootEntry(ProbesVariablesStep):
    """The guest writes an entry, and puts it first in BootOrder, or names it in BootNext."""

    by: BootBy = BootBy.ORDER

    kind = "write-boot-entry"
    options = (Choice("by", values=tuple(KEYS)),)
    line, result = "written", "ok"

    @property
    def key(self) -> str:  # type: ignore[override]
        """It depends on the variable that names the entry."""
        return KEYS[self.by]

    def apply(self, model: PolicyModel) -> str | None:
        """The entry is in the store, for the boots to come."""
        store = model.process.store if model.process else None
        if store:
            store.boot_order |= self.by is BootBy.ORDER
            store.boot_next |= self.by is BootBy.NEXT
        return None

    def describe(self, hosts: Sequence[Host]) -> str:
        """With the variable that names it."""
        return f"{self.kind} by {self.by}"
