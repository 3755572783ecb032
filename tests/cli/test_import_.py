"""``bootmatrix import``: a machine, written down as a matrix that can be run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.cli.main import main
from bootmatrix.files.shipped import IMAGES
from bootmatrix.matrix.expansion import load
from bootmatrix.model import Disk, GuestKind, OwnGuest

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


def test_it_does_not_overwrite_and_prints_without_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "mine.yaml"
    made.write_text("mine")
    assert main(["import", str(EXAMPLES / "microvm.sh"), "-o", str(made)]) == 2
    assert "File exists" in capsys.readouterr().err
    assert made.read_text() == "mine"
    assert main(["import", str(EXAMPLES / "microvm.sh"), "--network", "none", "--runs", "linux",
                 "--name", "small"]) == 0
    out = capsys.readouterr().out
    assert "    runs: linux\n" in out
    assert "user," not in out.split("guests:")[1]


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
