"""``bootmatrix import``: a machine, written down as a matrix that can be run."""

from __future__ import annotations

import os
import resource
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from bootmatrix.cli.main import main
from bootmatrix.files.shipped import IMAGES
from bootmatrix.matrix.expansion import load
from bootmatrix.model import Disk, GuestKind, OwnGuest
from bootmatrix.vm import words

EXAMPLES = IMAGES.parent / "examples" / "vm"


@pytest.mark.parametrize(("name", "firmware"), [
    ("desktop.log", "ovmf-4m-secure"), ("numa.ps.txt", "ovmf-4m"), ("old-pc.sh", None),
    ("microvm.sh", "seabios-microvm"), ("arm.xml", None),
])
def test_an_example_becomes_a_matrix(
    name: str, firmware: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "mine.yaml"
    assert main(["import", str(EXAMPLES / name), "-o", str(made), "--memory", "512"]) == 0
    out, told = capsys.readouterr()
    assert " left out; written to" in out or " added; written to" in out
    assert "replaced: " in told
    # What became of each argument stands in the file, too.
    assert all(f"#   {line}" in made.read_text() for line in told.splitlines()[:3])
    cells = load(made).cells(lambda host: ["pc-q35-7.2", "pc-i440fx-5.2"])
    (cell,) = cells
    assert {host.firmware for host in cell.hosts} == {firmware}
    assert isinstance(cell.guest, OwnGuest)
    assert cell.scenario.name == ("move" if name == "microvm.sh" else "migrate-reset")
    assert (cell.guest.kind, cell.disk) == (GuestKind.PROBE, Disk.OWN)
    assert cell.own_machine is not None
    assert str(cell.own_machine.memory).startswith("512")
    # As it is read again, it is what was translated.
    direct = tmp_path / "direct.yaml"
    kind = "libvirt" if name.endswith("xml") else "command-line"
    direct.write_text(made.read_text().split("guests:\n")[0] + (
        f"guests:\n  mine: {{{kind}: {EXAMPLES / name}, memory: 512}}\n"))
    (other,) = load(direct).cells(lambda host: ["pc-q35-7.2", "pc-i440fx-5.2"])
    assert other.own_machine is not None
    assert other.own_machine.words == cell.own_machine.words
    assert other.id == cell.id


def test_a_file_that_could_not_be_written_is_not_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a full disk: nothing is in the way of the next try."""
    made = tmp_path / "mine.yaml"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        status = main(["import", str(EXAMPLES / "microvm.sh"), "-o", str(made)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 2
    assert "mine.yaml cannot be written: File too large" in capsys.readouterr().err
    assert not made.exists()


def test_it_does_not_overwrite_and_prints_without_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "mine.yaml"
    made.write_text("mine")
    assert main(["import", str(EXAMPLES / "microvm.sh"), "-o", str(made)]) == 2
    assert "File exists" in capsys.readouterr().err
    assert made.read_text() == "mine"
    assert main(["import", str(EXAMPLES / "microvm.sh"), "-o", str(tmp_path / "no" / "m")]) == 2
    assert f"m cannot be written: there is no directory {tmp_path}/no\n" in capsys.readouterr().err
    assert main(["import", str(EXAMPLES / "microvm.sh"), "--network", "none", "--runs", "linux",
                 "--name", "small"]) == 0
    out = capsys.readouterr().out
    assert "    runs: linux\n" in out
    assert "user," not in out.split("guests:")[1]


def test_memory_in_files_takes_a_limit_along(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(EXAMPLES / "numa.ps.txt"), "--memory", "2048"]) == 0
    out = capsys.readouterr().out
    assert "\nlimits: {memory: 5120, file: 1024}\n" in out
    assert main(["import", str(EXAMPLES / "numa.ps.txt")]) == 0
    assert "limits:" not in capsys.readouterr().out


VIRSH = """\
#!/bin/sh
# As libvirt 9 has it: a command line with its environment, or an error.
[ "$1 $2 $3" = "domxml-to-native qemu-argv --xml" ] && [ -f "$4" ] || exit 2
%s
"""


@pytest.mark.parametrize(("does", "says", "kept"), [
    ("printf '%s\\n' 'LC_ALL=C \\' 'HOME=/x \\' '/usr/bin/qemu-system-aarch64 \\' "
     "'-machine virt-9.2,gic-version=2 \\' '-nodefaults \\' '-device virtio-rng-pci'",
     "as `virsh domxml-to-native` has it", "kept: -machine gic-version=2"),
    ("echo 'error: failed to connect to the hypervisor' >&2; exit 1",
     "cannot (error: failed to connect to the hypervisor)", "kept: -device qemu-xhci"),
], ids=["there", "no daemon"])
def test_a_domain_is_read_by_libvirt_where_it_is_there(
    does: str, says: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    virsh = tmp_path / "virsh"
    virsh.write_text(VIRSH % does)
    virsh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert main(["import", str(EXAMPLES / "arm.xml")]) == 0
    out, told = capsys.readouterr()
    assert says in told
    assert kept in out


@pytest.mark.parametrize(("more", "says"), [
    (["--name", "a b"], "not a name"), (["--name", "probe"], "not a name"),
    (["--memory", "1"], "32 to 65536"),
])
def test_mistakes(more: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(EXAMPLES / "microvm.sh"), *more]) == 2
    assert says in capsys.readouterr().err
    assert main(["import", "/no/such"]) == 2


def test_hostile_words_stay_a_comment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = tmp_path / "vm.txt"
    given.write_text("qemu-system-x86_64 -M q35 -nodefaults -name 'a: {evil: {}}\x1b[2J'\n")
    made = tmp_path / "mine.yaml"
    assert main(["import", str(given), "-o", str(made)]) == 0
    assert "\x1b" not in made.read_text() + "".join(capsys.readouterr())
    assert [host.name for host in load(made).hosts] == ["source", "destination"]
    given.write_text('kvm -M q35 -nodefaults -device {"driver":"a\\nhosts: {}"}\n')
    assert main(["import", str(given)]) == 2
    assert "cannot be printed" in capsys.readouterr().err


def test_json_with_lists_and_words_with_blanks_are_read_again_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "vm.sh"
    given.write_text(
        "kvm -M pc-q35-10.0 -nodefaults -cpu 'qemu64,hv-vendor-id=KVM Hv' -object iothread,id=io0 "
        """-device '{"driver":"virtio-blk-pci","drive":"d","iothread-vq-mapping":"""
        """[{"iothread":"io0"}]}' -numa node,cpus=0,cpus=1 -smp 2\n""")
    made = tmp_path / "mine.yaml"
    assert main(["import", str(given), "-o", str(made)]) == 0
    capsys.readouterr()
    (cell,) = load(made).cells(lambda host: ["pc-q35-10.0"])
    assert cell.disk is Disk.OWN
    assert cell.own_machine is not None
    assert cell.own_machine.words == (
        "-global", "driver=qemu64-x86_64-cpu,property=hv-vendor-id,value=KVM Hv",
        "-object", "iothread,id=io0", "-device",
        '{"driver":"virtio-blk-pci","drive":"disk","iothread-vq-mapping":[{"iothread":"io0"}],'
        '"bootindex":0}', "-numa", "node,cpus=0,cpus=1")


def test_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (EXAMPLES / "microvm.sh").read_bytes()
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(given)))
    assert main(["import", "-"]) == 0
    assert "# A machine of standard input, by" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"x" * (words.LARGEST + 1))))
    assert main(["import", "-"]) == 2
    assert "standard input has more than" in capsys.readouterr().err
