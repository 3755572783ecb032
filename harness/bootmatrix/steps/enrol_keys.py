"""``enrol-keys``: the guest enrols Secure Boot keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import Platform
from bootmatrix.steps.variables import ProbesVariablesStep


@dataclass(frozen=True)
class EnrolKeys(ProbesVariablesStep):
    """The guest writes db, KEK and PK, for which it is signed, and so ends setup mode."""

    kind = "enrol-keys"
    key, line, result = "p", "written", "ok"

    def apply(self, model: PolicyModel) -> str | None:
        """The keys are in the store."""
        store = model.process.store if model.process else None
        if store:
            store.enrolled = True
        return None

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """Firmware with Secure Boot and no keys is needed, and a guest that is signed."""
        yield from super().unsupported(platform, host)
        for each in platform.hosts:
            if each.firmware.has_keys:
                yield f"{self.kind} needs setup mode, {each.firmware.name} has keys enrolled"
            elif each.firmware.signing is None:
                yield (f"{self.kind} needs Secure Boot and a guest that is signed for the keys, "
                       f"and with {each.firmware.name} it is not")
