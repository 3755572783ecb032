"""Where a cluster is, and whether it may be talked to in the clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.cluster import address
from bootmatrix.errors import UserError


@pytest.mark.parametrize("text", [
    "", "scheduler:8786", "http://a:1", "tcp://a", "tcp://a:0", "tcp://a:70000", "tcp://:1",
    "local:", "local:0", "local:65", "local:two", "tcp://a b:1", "tcp://a:1/x",
])
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(UserError, match="local:"):
        address.parse(text)


def test_workers_of_this_machine_are_counted() -> None:
    assert address.parse("local:4").local == 4
    assert address.parse("tls://scheduler:8786").local == 0


@pytest.mark.parametrize(("text", "here"), [
    ("tcp://127.0.0.1:8786", True), ("tcp://localhost:1", True), ("tcp://[::1]:1", True),
    ("tcp://127.8.8.8:1", True), ("tcp://10.0.0.1:1", False), ("tcp://0.0.0.0:1", False),
    ("tcp://localhost.example.org:1", False), ("tcp://scheduler:8786", False),
])
def test_only_this_machine_is_talked_to_in_the_clear(text: str, here: bool) -> None:
    assert address.is_loopback(text) is here
    at = address.parse(text)
    if here:
        address.check_safe(at, None, insecure=False)
    else:
        with pytest.raises(UserError, match="whoever reaches it can run code"):
            address.check_safe(at, None, insecure=False)
        address.check_safe(at, None, insecure=True)


@pytest.mark.parametrize(("text", "tls"), [
    ("tls://scheduler:1", None), ("tcp://scheduler:1", Path("certs")), ("local:2", Path("certs")),
])
def test_certificates_and_address_must_fit(text: str, tls: Path | None) -> None:
    with pytest.raises(UserError, match=r"--cluster-tls|tls://"):
        address.check_safe(address.parse(text), tls, insecure=True)


def test_certificates_are_three_files(tmp_path: Path) -> None:
    assert address.security(None) is None
    with pytest.raises(UserError, match=r"there is no ca\.pem in it"):
        address.security(tmp_path)
    for name in address.FILES:
        (tmp_path / name).touch()
    made = address.security(tmp_path)
    assert made is not None
    assert made.require_encryption
    assert made.tls_scheduler_key == str(tmp_path / "key.pem")  # type: ignore[attr-defined]


def test_without_dask_it_is_said_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"bootmatrix\[cluster\]"):
        address.check_installed()
