"""What two QEMUs show each other: files that openssl itself takes for what they are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bootmatrix.machines.qemu.migration import credentials
from bootmatrix.modes import Credentials


def test_both_sides_have_a_certificate_of_one_authority(tmp_path: Path) -> None:
    made = credentials.files(Credentials.X509)
    assert set(made) == {"ca-cert.pem", "server-cert.pem", "server-key.pem", "client-cert.pem",
                         "client-key.pem"}
    assert credentials.files(Credentials.X509) is made, "once for this process"
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        ["openssl", "verify", "-verify_hostname", "bootmatrix", "-CAfile", "ca-cert.pem",
         "server-cert.pem", "client-cert.pem"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["server-cert.pem:", "OK", "client-cert.pem:", "OK"], done.stderr


def test_both_sides_know_one_key() -> None:
    made = credentials.files(Credentials.PSK)
    assert set(made) == {"keys.psk"}
    assert re.fullmatch(rb"bootmatrix:[0-9a-f]{64}\n", made["keys.psk"])


@pytest.mark.parametrize("argv", list(credentials.commands()), ids=["ca", "server", "client"])
def test_no_command_asks_for_a_passphrase(argv: tuple[str, ...]) -> None:
    assert argv[0] == "openssl"
    assert "-nodes" in argv
