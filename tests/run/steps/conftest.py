"""What does not come from a guest on a fake machine is not waited for."""

from __future__ import annotations

import pytest

from bootmatrix.run import guest


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GUEST_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(guest, name, 0.2)
