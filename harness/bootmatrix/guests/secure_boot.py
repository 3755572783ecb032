"""Secure Boot keys for a guest to enrol: signed variables, as the UEFI specification has them.

Version 2.10, 8.2.2 (EFI_VARIABLE_AUTHENTICATION_2), 32.2.4 (PK, KEK), 32.4.1 (signature lists).
One certificate is all three of them.
"""

from __future__ import annotations

import ssl
import struct
from pathlib import Path
from uuid import UUID

from bootmatrix.errors import ImageError
from bootmatrix.guests import tools
from bootmatrix.model import Signing

_GLOBAL = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
_DATABASE = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
VARIABLES = {"PK": _GLOBAL, "KEK": _GLOBAL, "db": _DATABASE}
"""In the order in which the guest sums them up, with the GUIDs of their names."""

_X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_PKCS7 = UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
_OURS = UUID("6d74786f-6f62-4d42-9a1c-0b6f6f746d78")  # who owns them
_ATTRIBUTES = 0x27  # non-volatile, for boot services and runtime, authenticated by time
# EFI_TIME: the same bytes each time. A variable that is there must be older; there is none.
_TIME = struct.pack("<H5BxIhBx", 2020, 1, 1, 0, 0, 0, 0, 0, 0)
_REVISION, _KIND = 0x0200, 0x0EF1  # of WIN_CERTIFICATE_UEFI_GUID
_FNV_BASIS, _FNV_PRIME = 0x811C9DC5, 0x01000193


def signature_list(certificate: str) -> bytes:
    """The variables' content: a list with a certificate, which is PEM. Raises ValueError."""
    der = ssl.PEM_cert_to_DER_cert(certificate.strip())
    entry = _OURS.bytes_le + der
    return _X509.bytes_le + struct.pack("<3I", 28 + len(entry), 0, len(entry)) + entry


def enrolled_sum(signing: Signing) -> str:
    """What the guest says of its ``keys`` once these are enrolled, and no others: FNV-1a."""
    total = _FNV_BASIS
    for byte in _list_of(signing) * len(VARIABLES):
        total = (total ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return f"{total:08x}"


def signed(signing: Signing, key: str, scratch: Path) -> dict[str, bytes]:
    """What SetVariable takes for each of the variables. ``key`` is a file in ``scratch``, opened.

    Raises ImageError.
    """
    content, found = _list_of(signing), {}
    for name, guid in VARIABLES.items():
        said = name.encode("utf-16-le") + guid.bytes_le + struct.pack("<I", _ATTRIBUTES) + _TIME
        (scratch / "to-sign").write_bytes(said + content)
        tools.run(["openssl", "smime", "-sign", "-binary", "-noattr", "-md", "sha256", "-outform",
                   "DER", "-signer", str(signing.certificate.resolve()), "-inkey", key,
                   "-in", "to-sign", "-out", "signed"], scratch, about=name)
        signature = _without_type((scratch / "signed").read_bytes())
        certificate = struct.pack("<IHH", 24 + len(signature), _REVISION, _KIND) + _PKCS7.bytes_le
        found[name] = _TIME + certificate + signature + content
    return found


def _list_of(signing: Signing) -> bytes:
    try:
        return signature_list(tools.read(signing.certificate).decode())
    except ValueError as error:  # no text, or no certificate
        raise ImageError(f"{signing.certificate}: {error}") from None


def _without_type(signed_data: bytes) -> bytes:
    """A SignedData without the ContentInfo around it, as UEFI has it: behind 19 bytes of DER."""
    kind = bytes.fromhex("06092a864886f70d010702a082")  # signedData, in [0]
    if signed_data[4:4 + len(kind)] != kind:
        raise ImageError("openssl: what it has signed is no SignedData")
    return signed_data[19:]
