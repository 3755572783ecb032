"""Where a cluster is, and whether it may be talked to in the clear."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootmatrix.errors import UserError

if TYPE_CHECKING:
    from distributed.security import Security

_ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_LOCAL = re.compile(r"local:([0-9]{1,3})")
HINT = "tcp://HOST:PORT, tls://HOST:PORT, or local:N for N workers on this machine"
FILES = ("ca.pem", "cert.pem", "key.pem")
"""What a directory of --cluster-tls holds: the authority's certificate, one's own, and its key."""


@dataclass(frozen=True)
class Address:
    """A scheduler's address; ``local`` workers instead of it, where that is not 0."""

    text: str
    local: int = 0


def parse(text: str) -> Address:
    """The address that a user gives. Raises UserError."""
    if found := _LOCAL.fullmatch(text):
        if not 1 <= int(found[1]) <= 64:
            raise UserError(f"{text}: from 1 to 64 workers", hint=HINT)
        return Address(text, int(found[1]))
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found[3]) < 65536:
        raise UserError(f"{text!r} is no address of a cluster", hint=HINT)
    return Address(text)


def is_loopback(text: str) -> bool:
    """Whether an address is one of this machine alone."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return False
    host = found[2].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_safe(address: Address, tls: Path | None, insecure: bool) -> None:
    """Raise UserError where others could listen in, or take part, unless that is wanted."""
    if address.local:
        if tls is not None:
            raise UserError("workers on this machine need no --cluster-tls",
                            hint="without it they are reached from this machine alone")
        return
    encrypted = address.text.startswith("tls://")
    if encrypted and tls is None:
        raise UserError(f"{address.text}: without certificates it cannot be reached",
                        hint="--cluster-tls DIR, with " + ", ".join(FILES))
    if tls is not None and not encrypted:
        raise UserError(f"{address.text}: with --cluster-tls it is tls://, not tcp://")
    if not encrypted and not insecure and not is_loopback(address.text):
        raise UserError(
            f"{address.text} is neither of this machine nor encrypted: whoever reaches it can run "
            "code on all its machines", hint="--cluster-tls DIR and tls://, or --insecure on a "
                                             "network that is yours alone")


def security(tls: Path | None) -> Security | None:
    """dask's own, from a directory of certificates; None in the clear. Raises UserError."""
    if tls is None:
        return None
    for name in FILES:
        if not (tls / name).is_file():
            raise UserError(f"there is no {name} in it", file=tls,
                            hint="it holds " + ", ".join(FILES))
    _check_certificates(tls)
    from distributed import security as dask_security

    ca, cert, key = (str(tls / name) for name in FILES)
    make: Any = dask_security.Security  # it has no types
    made: Security = make(
        tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, tls_worker_cert=cert,
        tls_worker_key=key, tls_scheduler_cert=cert, tls_scheduler_key=key,
        require_encryption=True)
    return made


def _check_certificates(tls: Path) -> None:
    """Raise UserError for what are no certificates, or not of one another."""
    ca, cert, key = (tls / name for name in FILES)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for file in (ca, cert):
        try:
            context.load_verify_locations(file)
        except OSError as error:  # ssl.SSLError is one
            raise UserError(f"is no certificate that can be read: {_said(error)}", file=file,
                            hint="in PEM") from None
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")  # nobody is asked for one
    except OSError as error:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            raise UserError(f"is not the key of {cert.name}", file=key) from None
        raise UserError(f"is no key that can be read: {_said(error)}", file=key,
                        hint="in PEM, without a passphrase") from None


def _said(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)


def trouble(address: Address, security: Security | None, seconds: float = 3.0) -> str:
    """What is likely wrong where no scheduler answers; empty where nobody listens, or all is well.

    One connection is made for that.
    """
    found = _ADDRESS.fullmatch(address.text)
    assert found is not None
    try:
        with socket.create_connection((found[2].strip("[]"), int(found[3])), seconds) as connection:
            return _looked_at(connection, security)
    except OSError:
        return ""


def _looked_at(connection: socket.socket, security: Security | None) -> str:
    if security is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            context.wrap_socket(connection).close()
        except OSError:
            return "something listens there, and is no scheduler that speaks tcp://"
        return "what listens there speaks TLS: it is tls://, with --cluster-tls DIR"
    contexts: Any = security  # it has no types
    try:
        with contexts.get_connection_args("worker")["ssl_context"].wrap_socket(
                connection) as encrypted:
            encrypted.recv(1)  # who does not take our certificate says so here
    except TimeoutError:
        return ""
    except ssl.SSLCertVerificationError as error:
        return (f"the scheduler's certificate is not taken with this {FILES[0]}: "
                f"{error.verify_message}")
    except ssl.SSLError as error:
        reason = error.reason or ""
        if reason.endswith("ALERT_UNKNOWN_CA"):
            return f"the scheduler does not take this {FILES[1]}: it is of another {FILES[0]}"
        if "_ALERT_" in reason:
            said = reason.partition("_ALERT_")[2].replace("_", " ").lower()
            return f"the scheduler does not take this {FILES[1]}: {said}"
        return "what listens there speaks no TLS: a scheduler without certificates is tcp://"
    return ""


def check_installed() -> None:
    """Raise UserError where dask.distributed is not installed."""
    from importlib.util import find_spec

    if find_spec("distributed") is None:
        raise UserError("more machines than one need dask.distributed, which is not installed",
                        hint="pip install 'bootmatrix[cluster]'")
