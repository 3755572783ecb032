"""bootmatrix list: cells, ids and counts; nothing is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.commands import M, bootmatrix
from helpers.planting import I440FX_STOCK, MATRIX, Q35_GUEST, Q35_STOCK, plant


def test_list_starts_nothing(here: Path) -> None:
    plant(here)
    (here / "built.json").write_text("[]")
    done = bootmatrix(here, "list", M)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 6 + 2 + 6
    assert lines[0] == I440FX_STOCK
    assert "6 cells" in lines
    assert "  policy:    stock 2, guest-owned 2, machine-owned 2" in lines
    assert not (here / "rig.log").exists()
    assert not (here / "runs").exists()


def test_list_selects_as_pytest_does(here: Path) -> None:
    plant(here)
    done = bootmatrix(here, "list", M, "-k", "q35 and guest-owned", "--json")
    assert [cell["id"] for cell in json.loads(done.stdout)] == [Q35_GUEST]
    done = bootmatrix(here, "list", M, "-m", "policy(name='stock')", "--json")
    assert [cell["id"] for cell in json.loads(done.stdout)] == [I440FX_STOCK, Q35_STOCK]
    done = bootmatrix(here, "list", M, "-k", "q35 and (")
    assert done.returncode == 2
    assert done.stderr.startswith("bootmatrix: Wrong expression passed to '-k'")
    assert not (here / "runs").exists()


def test_list_tells_of_an_axis_where_a_cell_is_not_at_its_default(here: Path) -> None:
    plant(here, matrix=MATRIX.replace(
        "  disk: ahci\n", '  disk: ahci\n  guest: linux\n  cpu: ["", max]\n'))
    done = bootmatrix(here, "list", M)
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"{I440FX_STOCK},linux", f"{I440FX_STOCK},linux,cpu-max"]
    assert lines[-3:] == ["  accel:     tcg 12", "  guest:     linux 12",
                          "  cpu:       default 6, max 6"]
    done = bootmatrix(here, "list", M, "-k", "q35 and guest-owned and max", "--json")
    (cell,) = json.loads(done.stdout)
    assert {axis: cell[axis] for axis in ("arch", "guest", "cpu", "smp", "nic")} == {
        "arch": "x86_64", "guest": "linux", "cpu": "max", "smp": 1, "nic": "none"}
    done = bootmatrix(here, "run", M, "--cell", f"{Q35_GUEST},linux,cpu-max", "-n", "1",
                      "--junit-xml", "j.xml")
    assert done.returncode == 0
    assert "pc-q35-5.2, linux, cpu max" in done.stdout.splitlines()
    assert '<property name="cpu" value="max" />' in (here / "j.xml").read_text()
    assert 'name="smp"' not in (here / "j.xml").read_text()


def test_list_does_not_build_to_find_the_newest_machine(here: Path) -> None:
    plant(here, matrix=MATRIX.replace("[pc-i440fx-5.2, pc-q35-5.2]", "newest-common"))
    (here / "built.json").write_text("[]")
    done = bootmatrix(here, "list", M)
    assert done.returncode == 2
    assert "bootmatrix images build debian-bullseye" in done.stderr


def test_list_breaks_no_value_over_lines(here: Path) -> None:
    hosts = ", ".join(f"host-number-{n}" for n in range(12))
    matrix = MATRIX.replace("  sid: {qemu: debian-sid}", "\n".join(
        f"  host-number-{n}: {{qemu: debian-sid}}" for n in range(12)))
    plant(here, matrix=matrix.replace("destination: sid", f"destination: [{hosts}]"))
    done = bootmatrix(here, "list", M)
    assert done.returncode == 0, done.stderr
    told = done.stdout.partition("\n72 cells\n")[2]
    assert max(map(len, told.splitlines())) <= 100
    for number in range(12):
        assert f"bullseye → host-number-{number} 6" in told


@pytest.mark.parametrize(("name", "words"), [
    ("./-k.yaml", "to pytest - and @ at its beginning make a word an option"),
    ("@x.yaml", "to pytest - and @ at its beginning make a word an option"),
    ("a\udcff.yaml", "the path of a matrix file must be UTF-8"),
    ("directive.yaml", "1: a directive (%YAML, %TAG) has no meaning here"),
])
def test_list_and_run_refuse_the_same_files(here: Path, name: str, words: str) -> None:
    plant(here)
    (here / name).write_text("%YAML 1.1\n---\n" + MATRIX if name == "directive.yaml" else MATRIX)
    for command in ("list", "run"):
        done = bootmatrix(here, command, name)
        assert done.returncode == 2
        assert done.stderr.startswith("bootmatrix: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (here / "runs").exists()


def test_an_expression_that_pytest_would_take_for_a_file_of_options(here: Path) -> None:
    plant(here)
    for command in ("list", "run"):
        done = bootmatrix(here, command, M, "-k", "@")
        assert done.returncode == 2
        assert done.stderr == ("bootmatrix: Wrong expression passed to '-k': @: at column 1: "
                               "unexpected character \"@\"\n")
