"""Where a cluster is, and whether it may be talked to in the clear."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def certificates(place: Path) -> Path:
    """An authority that is its own, with a key."""
    place.mkdir(exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out",
         "ca.pem", "-days", "2", "-subj", "/CN=test"], cwd=place, check=True, capture_output=True)
    shutil.copy(place / "ca.pem", place / "cert.pem")
    return place


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two authorities that know nothing of each other."""
    home = tmp_path_factory.mktemp("certificates")
    return certificates(home / "one"), certificates(home / "other")


@pytest.mark.parametrize(("name", "content", "says"), [
    ("ca.pem", "", "ca.pem: is no certificate"), ("cert.pem", "x", "cert.pem: is no certificate"),
    ("key.pem", "x", "key.pem: is no key that can be read"),
    ("key.pem", None, r"key.pem: is not the key of cert\.pem"),
], ids=["ca", "cert", "key", "foreign-key"])
def test_a_file_that_is_no_certificate_or_of_another_is_named(
    two: tuple[Path, Path], tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    for file in address.FILES:
        shutil.copy(two[0] / file, tmp_path / file)
    (tmp_path / name).write_text(
        (two[1] / name).read_text() if content is None else content)
    with pytest.raises(UserError, match=says) as caught:
        address.security(tmp_path)
    assert "\n" not in str(caught.value)


@contextmanager
def listening(tls: Path | None) -> Iterator[address.Address]:
    """Something that takes one connection, as a scheduler would, and its address without TLS."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            connection, _ = server.accept()
            if tls is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
                context.load_verify_locations(tls / "ca.pem")
                context.verify_mode = ssl.CERT_REQUIRED
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                connection.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield address.Address(f"tcp://127.0.0.1:{server.getsockname()[1]}")
    finally:
        server.close()
        thread.join()


@pytest.mark.parametrize(("server", "client", "says"), [
    ("one", None, "speaks TLS: it is tls://"), (None, None, "no scheduler that speaks tcp://"),
    ("one", "one", ""), ("other", "one", "not taken with this ca.pem: self-signed certificate"),
    ("other", "mixed", "does not take this cert.pem"), (None, "one", "speaks no TLS"),
])
def test_what_is_likely_wrong_is_said(
    two: tuple[Path, Path], tmp_path: Path, server: str | None, client: str | None, says: str
) -> None:
    for name in address.FILES:  # their authority, and a certificate of ours
        shutil.copy(two[name == "ca.pem"] / name, tmp_path / name)
    places = {"one": two[0], "other": two[1], "mixed": tmp_path, None: None}
    with listening(places[server]) as at:
        told = address.trouble(at, address.security(places[client]))
        assert says in told
        assert bool(says) == bool(told)


@pytest.mark.parametrize(("server", "client", "says"), [
    ("expired", "one", "certificate is not taken with this ca.pem: certificate has expired"),
    ("one", "expired", "does not take this cert.pem: certificate expired")])
def test_a_certificate_that_is_over_is_told_as_one(
    two: tuple[Path, Path], tmp_path: Path, server: str, client: str, says: str
) -> None:
    for name in ("ca.pem", "key.pem"):
        shutil.copy(two[0] / name, tmp_path / name)
    for argv in (
        ["req", "-new", "-key", "key.pem", "-subj", "/CN=one", "-out", "one.csr"],
        ["x509", "-req", "-in", "one.csr", "-CA", "ca.pem", "-CAkey", "key.pem", "-days", "-1",
         "-set_serial", "2", "-out", "cert.pem"],
    ):
        subprocess.run(["openssl", *argv], cwd=tmp_path, check=True, capture_output=True)
    places = {"one": two[0], "expired": tmp_path}
    with listening(places[server]) as at:
        assert says in address.trouble(at, address.security(places[client]))


def test_where_nobody_listens_nothing_more_is_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert address.trouble(address.Address(f"tcp://127.0.0.1:{port}"), None) == ""


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
    certificates(tmp_path)
    made = address.security(tmp_path)
    assert made is not None
    assert made.require_encryption
    assert made.tls_scheduler_key == str(tmp_path / "key.pem")  # type: ignore[attr-defined]


def test_without_dask_it_is_said_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"bootmatrix\[cluster\]"):
        address.check_installed()
