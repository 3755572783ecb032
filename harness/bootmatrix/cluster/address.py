"""Where a cluster is, and whether it may be talked to in the clear."""

from __future__ import annotations

import ipaddress
import re
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
    from distributed import security as dask_security

    ca, cert, key = (str(tls / name) for name in FILES)
    make: Any = dask_security.Security  # it has no types
    made: Security = make(
        tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, tls_worker_cert=cert,
        tls_worker_key=key, tls_scheduler_cert=cert, tls_scheduler_key=key,
        require_encryption=True)
    return made


def check_installed() -> None:
    """Raise UserError where dask.distributed is not installed."""
    from importlib.util import find_spec

    if find_spec("distributed") is None:
        raise UserError("more machines than one need dask.distributed, which is not installed",
                        hint="pip install 'bootmatrix[cluster]'")
