"""What a run wants of a cluster is looked at before anything is built or started."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.cluster.wishes import ClusterWishes
from bootmatrix.errors import UserError


@pytest.mark.parametrize(("wishes", "told"), [
    (ClusterWishes("scheduler"), "no address of a cluster"),
    (ClusterWishes("tcp://scheduler:8786"), "whoever reaches it"),
    (ClusterWishes("tls://scheduler:8786", Path("/nowhere")), "there is no ca.pem"),
])
def test_what_cannot_be_is_told(wishes: ClusterWishes, told: str) -> None:
    with pytest.raises(UserError, match=told):
        wishes.check()


def test_what_can_be_passes() -> None:
    ClusterWishes("local:2").check()
    ClusterWishes("tcp://scheduler:8786", insecure=True).check()
