"""What stands around a script's steps: hosts, kernel, disks, as bash takes them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.diagnose.reproduction import parts
from bootmatrix.guests import LinuxKernel
from bootmatrix.model import Grant, Host
from helpers.fakes import hosts, setup


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return hosts(tmp_path)[0]


def bash(script: str) -> str:
    """What bash prints of it, with nothing in its environment."""
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True,
                          env={"PATH": os.environ["PATH"], "WORK": "/w"})
    return done.stdout


def said(host: Host, *, tcp: bool = False, grants: Collection[Grant] = ()) -> str:
    return "\n".join(parts.host(0, host, tcp, grants)) + "\n"


def test_each_host_has_variables_of_its_role() -> None:
    assert [parts.variable(index) for index in range(3)] == ["SOURCE", "DESTINATION", "HOST_3"]


def test_a_root_with_spaces_and_quotes_is_one_word(host: Host, tmp_path: Path) -> None:
    odd = tmp_path / "it's a \"root\" $HOME"
    odd.mkdir()
    script = said(replace(host, qemu=replace(host.qemu, root=odd)))
    words = bash(script + 'printf "%s\\n" "${SOURCE[@]}"').splitlines()
    assert words[:4] == ["bwrap", "--ro-bind", str(odd), "/"]
    assert words[-2:] == ["--", host.qemu.binary]


def test_one_s_own_qemu_takes_its_place(host: Host) -> None:
    script = f"SOURCE_QEMU='/my/qemu -L /my/bios'\nSOURCE_FIRMWARE=/my/fw\n{said(host)}"
    assert bash(script + 'printf "%s\\n" "${SOURCE[@]}" $SOURCE_FIRMWARE').splitlines() == [
        "/my/qemu", "-L", "/my/bios", "/my/fw"]


def test_what_a_qemu_needs_in_its_environment(host: Host) -> None:
    needs = replace(host, qemu=replace(host.qemu, environment=(("QEMU_MODULE_DIR", "/m"),)))
    assert "--setenv QEMU_MODULE_DIR /m --die-with-parent" in said(needs)


def test_a_network_only_where_the_hosts_must_reach_each_other(host: Host) -> None:
    assert "--unshare-all" in said(host)
    assert "--unshare-all" not in said(host, tcp=True)
    assert "--unshare-pid" in said(host, tcp=True)


def test_kvm_s_device_only_where_it_is_used(host: Host) -> None:
    assert "/dev/kvm" not in said(host)
    assert "--dev-bind /dev/kvm /dev/kvm" in said(host, grants={Grant.KVM})


def test_the_package_is_named_where_there_is_one(host: Host) -> None:
    of_debian = replace(host.qemu, packages=(("seabios", "1"), ("qemu-system-x86", "1:5.2")))
    assert "QEMU 5.2.0 of Debian's qemu-system-x86 1:5.2," in said(replace(host, qemu=of_debian))
    assert "of Debian's" not in said(host)


def test_files_beside_the_firmware_have_variables_of_their_own(host: Host) -> None:
    more = replace(host.firmware, variables=Path("/f/vars.fd"), payload=Path("/f/u-boot.bin"))
    script = said(replace(host, firmware=more))
    assert bash(script + 'echo "$SOURCE_VARIABLES $SOURCE_PAYLOAD"') == (
        "/f/vars.fd /f/u-boot.bin\n")
    assert "SOURCE_VARIABLES" not in said(host)


def test_a_kernel_only_where_qemu_boots_one(tmp_path: Path) -> None:
    made = setup(tmp_path)
    assert list(parts.kernel(made)) == []
    linux = replace(made, kernel=LinuxKernel(Path("/k/vmlinuz"), Path("/k/initrd"), "quiet"))
    assert bash("\n".join(parts.kernel(linux)) + '\necho "$KERNEL $INITRAMFS"') == (
        "/k/vmlinuz /k/initrd\n")


def test_a_small_disk_is_in_the_script_and_whole(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(b"boot" + bytes(1000) + b"end" + bytes(70_000))
    script = "\n".join(parts.disk("disk_a", image))
    assert str(image) not in script
    bash(f"{script}\ndisk_a {tmp_path / 'made'}")
    assert (tmp_path / "made").read_bytes() == image.read_bytes()


def test_a_large_disk_is_copied_from_where_it_is(tmp_path: Path) -> None:
    image = tmp_path / "a disk"
    image.write_bytes(os.urandom(parts._EMBEDDED + 1))
    script = "\n".join(parts.disk("disk_a", image))
    assert len(script) < 1000
    bash(f"{script}\ndisk_a {tmp_path / 'made'}")
    assert (tmp_path / "made").read_bytes() == image.read_bytes()
