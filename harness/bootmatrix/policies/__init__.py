"""Each firmware policy as a small model: which firmware must run at each boot, and why.

``Policy`` is the table of them: a line for each.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from bootmatrix.policies.base import PolicyModel
from bootmatrix.policies.guest_owned import GuestOwned
from bootmatrix.policies.guest_owned_versioned import GuestOwnedVersioned
from bootmatrix.policies.machine_owned import MachineOwned
from bootmatrix.policies.reread import Reread
from bootmatrix.policies.stock import Stock


class Policy(StrEnum):
    """The rule that decides which firmware runs at a boot."""

    STOCK = Stock
    GUEST_OWNED = GuestOwned
    GUEST_OWNED_VERSIONED = GuestOwnedVersioned
    MACHINE_OWNED = MachineOwned
    REREAD = Reread

    _value_: str
    model: type[PolicyModel]

    # Any: type checkers take Policy("stock"), which finds a member by its value, for a call of it.
    def __new__(cls, model: Any) -> Self:
        """A member's value is its model's name."""
        policy = str.__new__(cls, model.name)
        policy._value_ = model.name
        policy.model = model
        return policy

    @property
    def reflashes(self) -> bool:
        """Whether a real board's chip is programmed before each start under this policy."""
        return not self.keeps_nvram and self is not Policy.STOCK

    @property
    def keeps_nvram(self) -> bool:
        """Whether the guest's firmware lives in an nvram file under this policy."""
        return self.model.how.nvram
