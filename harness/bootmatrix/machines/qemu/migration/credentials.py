"""What two QEMUs show each other when a migration is encrypted: made by openssl for this process.

The names of the files are those that QEMU looks for (docs/system/tls.rst).
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from bootmatrix.guests import tools
from bootmatrix.modes import PEER, Credentials

_DAYS = "7"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", _DAYS)
_OF_AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
# QEMU 5.2 takes no certificate that may not be used for keyEncipherment.
_OF_PEER = ("basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature,keyEncipherment", f"subjectAltName=DNS:{PEER}")


@cache
def files(kind: Credentials) -> Mapping[str, bytes]:
    """The files of a directory of credentials, by name. Raises ImageError without an openssl."""
    if kind is Credentials.PSK:
        return MappingProxyType({"keys.psk": f"{PEER}:{secrets.token_hex(32)}\n".encode()})
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for argv in commands():
            tools.run(argv, place, about="to make certificates")
        return MappingProxyType({file.name: file.read_bytes() for file in place.iterdir()
                                 if file.name != "ca-key.pem"})


def commands() -> Iterator[tuple[str, ...]]:
    """What openssl is told to make the certificates of an authority and of both sides."""
    yield _request("ca", "/CN=bootmatrix-ca", _OF_AUTHORITY)
    for side in ("server", "client"):
        yield (*_request(side, f"/CN={PEER}", _OF_PEER), "-CA", "ca-cert.pem", "-CAkey",
               "ca-key.pem")


def _request(name: str, subject: str, extensions: tuple[str, ...]) -> tuple[str, ...]:
    return ("openssl", "req", "-x509", *_KEY, "-keyout", f"{name}-key.pem", "-out",
            f"{name}-cert.pem", "-subj", subject,
            *(word for extension in extensions for word in ("-addext", extension)))
