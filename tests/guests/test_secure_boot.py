"""Keys for a guest to enrol: as UEFI has them, and signed by the key that they are."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from bootmatrix.errors import ImageError
from bootmatrix.guests import secure_boot, uefi_disk
from bootmatrix.model import Signing
from helpers.mtools import mtools

HEAD = 16 + 24  # EFI_TIME, and WIN_CERTIFICATE_UEFI_GUID without its data


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Signing:
    """A key of ours, with a certificate that it has signed itself."""
    directory = tmp_path_factory.mktemp("keys")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-keyout", str(key), "-out", str(certificate),
            "-passout", "pass:word", "-subj", "/CN=ours", "-days", "10000")
    return Signing(key, certificate, "word")


def openssl(*argv: str) -> bytes:
    done = subprocess.run(["openssl", *argv], check=True, capture_output=True, timeout=300)
    return done.stdout


def test_a_list_has_the_certificate_and_the_sizes_that_lead_through_it(signing: Signing) -> None:
    der = openssl("x509", "-in", str(signing.certificate), "-outform", "DER")
    found = secure_boot.signature_list(signing.certificate.read_text())
    assert UUID(bytes_le=found[:16]) == UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
    assert struct.unpack_from("<3I", found, 16) == (len(found), 0, 16 + len(der))
    assert found[44:] == der


def test_the_sum_is_over_all_three(signing: Signing) -> None:
    total = 0x811C9DC5
    for byte in secure_boot.signature_list(signing.certificate.read_text()) * 3:
        total = (total ^ byte) * 0x01000193 % 2**32
    assert secure_boot.enrolled_sum(signing) == f"{total:08x}"


def test_a_disk_has_what_enrols_them_and_openssl_believes_it(
    signing: Signing, tmp_path: Path
) -> None:
    disk = uefi_disk("A", tmp_path / "cache", signing=signing)
    content = secure_boot.signature_list(signing.certificate.read_text())
    for name, guid in secure_boot.VARIABLES.items():
        told = mtools("mtype", "-i", str(disk), f"::KEYS/{name.upper()}")
        length, revision, kind = struct.unpack_from("<IHH", told, 16)
        assert (revision, kind) == (0x0200, 0x0EF1)
        assert UUID(bytes_le=told[24:40]) == UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
        signature, rest = told[HEAD:16 + length], told[16 + length:]
        assert rest == content
        head = bytes.fromhex("06092a864886f70d010702a082") + struct.pack(">H", len(signature))
        (tmp_path / "signature").write_bytes(
            b"\x30\x82" + struct.pack(">H", len(head) + len(signature)) + head + signature)
        said = name.encode("utf-16-le") + guid.bytes_le + struct.pack("<I", 0x27) + told[:16]
        (tmp_path / "signed").write_bytes(said + content)
        verify = ("smime", "-verify", "-binary", "-inform", "DER", "-purpose", "any",
                  "-in", str(tmp_path / "signature"), "-content", str(tmp_path / "signed"),
                  "-CAfile", str(signing.certificate))
        assert openssl(*verify) == said + content
        (tmp_path / "signed").write_bytes(said + content[:-1] + b"x")
        with pytest.raises(subprocess.CalledProcessError):
            openssl(*verify)


def test_the_same_key_gives_the_same_variables(signing: Signing, tmp_path: Path) -> None:
    key = openssl("pkey", "-in", str(signing.key), "-passin", "pass:word")
    (tmp_path / "key.pem").write_bytes(key)
    one, other = (secure_boot.signed(signing, "key.pem", tmp_path) for _ in range(2))
    assert one == other
    assert len({*one.values()}) == len(one) == 3
    assert b"KEYS" not in uefi_disk("A", tmp_path / "cache").read_bytes(), "who is not signed"


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    file = tmp_path / "none.pem"
    for content in (b"no certificate", b"\xff", b""):
        file.write_bytes(content)
        with pytest.raises(ImageError, match=r"none\.pem: "):
            secure_boot.enrolled_sum(Signing(file, file))
