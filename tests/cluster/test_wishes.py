"""What a run wants of a cluster is looked at before anything is built or started."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.cluster.wishes import Wishes
from bootmatrix.errors import UserError


@pytest.mark.parametrize(("wishes", "told"), [
    (Wishes("scheduler"), "no address of a cluster"),
    (Wishes("tcp://scheduler:8786"), "whoever reaches it"),
    (Wishes("tls://scheduler:8786", Path("/nowhere")), "there is no ca.pem"),
])
def test_what_cannot_be_is_told(wishes: Wishes, told: str) -> None:
    with pytest.raises(UserError, match=told):
        wishes.check()


def test_what_can_be_passes() -> None:
    Wishes("local:2").check()
    Wishes("tcp://scheduler:8786", insecure=True).check()
