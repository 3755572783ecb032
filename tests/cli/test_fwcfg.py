"""``bootmatrix fwcfg``: what is printed, and the exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cli.main import main
from bootmatrix.fw_cfg import baseline
from helpers.own_builds import build_tree

pytestmark = pytest.mark.usefixtures("store")

SHOW = ["fwcfg", "show", "--qemu", "debian-trixie", "--machine", "pc-q35-7.2"]


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHOW, "--fw-cfg", "opt/org.example/x,string=hello"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("debian-trixie (QEMU 10.0.")
    row = {words[1]: line for line in lines if len(words := line.split()) > 3}
    assert "DSDT" in row["etc/acpi/tables"]
    assert row["etc/acpi/tables"].split()[2] == "131072"
    assert "RAM" in row["etc/e820"]
    assert "writable" in row["etc/smi/requested-features"]
    assert row["opt/org.example/x"].endswith("hello")
    assert "uuid" in lines[-1]
    assert not any(line.endswith(" ") for line in lines)


def test_show_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHOW, "-v"]) == 0
    out = capsys.readouterr().out
    assert "type 1 System, version: pc-q35-7.2\n" in out
    assert "FACP, sci_int: 0x9\n" in out


def test_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHOW, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    items = {item["name"]: item for item in found["items"]}
    assert found["machine"] == "pc-q35-7.2"
    assert items["signature"]["decoded"] == "QEMU"
    assert items["etc/smbios/smbios-tables"]["decoded"]["type 1 System"]["version"] == "pc-q35-7.2"
    assert all(len(item["sha256"]) == 64 and item["malformed"] is None for item in items.values())


def version(store: ImageStore, suite: str) -> str:
    return store.qemu(f"debian-{suite}").version


def test_diff_of_four(store: ImageStore, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["fwcfg", "diff", "--machine", "pc-q35-7.2", "debian-bullseye", "debian-bookworm",
            "debian-trixie", "debian-sid"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert out.startswith("reference: debian-bookworm")
    old = version(store, "bullseye")
    assert f"debian-bullseye (QEMU {old}): has no machine type pc-q35-7.2\n" in out
    row, = [line for line in out.splitlines() if line.startswith("etc/acpi/tables")]
    assert row.split()[1:] == ["no", "such", "machine", "same", "content", "content"]
    assert "APIC, revision: 1 to 3\n" in out
    assert "type 4 Processor, family: 1 to 254\n" in out
    assert main([*argv, "--json"]) == 0
    columns = json.loads(capsys.readouterr().out)["columns"]
    assert [(column["qemu"], column["machine"], column["worst"]) for column in columns] == [
        ("debian-bullseye", False, None), ("debian-bookworm", True, None),
        ("debian-trixie", True, "content"), ("debian-sid", True, "content")]


def test_record_and_check(
    store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "b.json"
    assert main(["fwcfg", "record", "--qemu", "debian-bullseye", "--machine", "pc-q35-5.2",
                 "-o", str(file)]) == 0
    assert main(["fwcfg", "check", str(file)]) == 0
    old = version(store, "bullseye")
    assert f"debian-bullseye (QEMU {old}): the same\n" in capsys.readouterr().out
    assert main(["fwcfg", "check", str(file), "--qemu", "debian-bookworm",
                 "--qemu", "debian-sid"]) == 0
    assert capsys.readouterr().out.count("an old reader finds what it found") == 2


def test_a_broken_contract_is_status_1(
    store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The baseline promises a file that no QEMU has."""
    file = tmp_path / "b.json"
    main(["fwcfg", "record", "--qemu", "debian-sid", "--machine", "pc-i440fx-5.2",
          "-o", str(file)])
    offer = baseline.load(file)
    promised = baseline.dumps(offer).replace('"name": "etc/e820"', '"name": "etc/e819"')
    file.write_text(promised)
    capsys.readouterr()
    assert main(["fwcfg", "check", str(file), "--qemu", "debian-sid"]) == 1
    out = capsys.readouterr().out
    assert "an old reader BREAKS" in out
    assert "  breaks    etc/e819: renamed\n              now etc/e820\n" in out
    assert main(["fwcfg", "check", str(file), "--qemu", "debian-sid", "--json"]) == 1


def test_a_machine_type_that_is_gone_breaks_the_contract(
    store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "b.json"
    main(["fwcfg", "record", "--qemu", "debian-bullseye", "--machine", "pc-i440fx-2.9",
          "-o", str(file)])
    assert main(["fwcfg", "check", str(file), "--qemu", "debian-sid"]) == 1
    new = version(store, "sid")
    assert f"debian-sid (QEMU {new}): has no machine type" in capsys.readouterr().out


LONG = "opt/" + "x" * 52


@pytest.mark.parametrize(("argv", "said"), [
    ([*SHOW, "--fw-cfg", f"{LONG},string=s"],
     f"fw_cfg file: the name '{LONG}' has 56 characters (at most 55)"),
    ([*SHOW, "--fw-cfg", "etc/x,string=s"], "QEMU's to give"),
    ([*SHOW, "--fw-cfg", "opt/x,file=/no/such/file"], "/no/such/file: fw_cfg file opt/x: No such"),
    ([*SHOW, "--fw-cfg", "opt/x,string=1", "--fw-cfg", "opt/x,string=2"], "given twice"),
    (["fwcfg", "show", "--qemu", "debian-sid", "--machine", "q35"],
     "debian-sid has no machine type 'q35' (near it: pc-q35-"),
    (["fwcfg", "show", "--qemu", "debian-sad", "--machine", "pc-q35-7.2"], "debian-sad"),
    (["fwcfg", "diff", "--machine", "pc-q35-5.2", "--qemu", "a=/nosuch", "debian-sid"],
     "--qemu a=...: nothing that is looked at is called so (give a as a BUILD, too)"),
    (["fwcfg", "show", "--qemu", "debian-sid", "--machine", "pc-q35-5.2", "--device", "nosuch"],
     "'nosuch' is not a valid device model name"),
    (["fwcfg", "show", "--qemu", "debian-sid", "--machine", "none"],
     "none has no fw_cfg device where a PC has its"),
    (["fwcfg", "diff", "--machine", "pc-q35-9.9", "debian-sid", "debian-trixie"],
     "debian-sid or debian-trixie has no machine type 'pc-q35-9.9'"),
    (["fwcfg", "diff", "--machine", "pc-q35-7.2", "debian-sid", "debian-sid"], "given twice"),
    (["fwcfg", "check", "/no/such/file"], "/no/such/file: cannot be read: No such file"),
    (["fwcfg", "check", __file__], "not a fw_cfg baseline: it is not JSON"),
    (["fwcfg", "record", "--qemu", "debian-sid", "--machine", "pc-q35-7.2", "-o", "/no/x"],
     "/no/x: cannot be written"),
])
def test_bad_input_is_one_clear_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err


def test_a_truncated_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "b.json"
    main(["fwcfg", "record", "--qemu", "debian-sid", "--machine", "pc-q35-5.2", "-o", str(file)])
    file.write_text(file.read_text()[:5000])
    capsys.readouterr()
    assert main(["fwcfg", "check", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"bootmatrix: {file}:")


def test_diff_with_a_build_of_ones_own(
    store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = build_tree(store, tmp_path / "qemu")
    diff = ["fwcfg", "diff", "--machine", "pc-q35-5.2", "--qemu", f"m={tree}"]
    assert main([*diff, "debian-bookworm", "m"]) == 0
    same = capsys.readouterr().out
    assert same.startswith("reference: debian-bookworm")
    assert main([*diff, "m", "m"]) == 2
    assert "m is given twice" in capsys.readouterr().err
    assert main([*diff[:-1], "m=/nowhere", "debian-bookworm", "m"]) == 2
    assert "/nowhere is not there" in capsys.readouterr().err


def test_a_build_of_ones_own_is_named_wherever_a_qemu_is(
    store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs no firmware beside it."""
    tree = build_tree(store, tmp_path / "qemu")
    (tree / "pc-bios" / "bios-256k.bin").unlink()
    mine, machine, file = f"m={tree}", ["--machine", "pc-q35-5.2"], str(tmp_path / "b.json")
    assert main(["fwcfg", "show", "--qemu", mine, *machine]) == 0
    assert capsys.readouterr().out.startswith("m (QEMU ")
    assert main(["fwcfg", "record", "--qemu", mine, *machine, "-o", file]) == 0
    assert main(["fwcfg", "check", file, "--qemu", mine, "--qemu", "debian-bookworm"]) == 0
    assert main(["fwcfg", "diff", *machine, "debian-bookworm", mine]) == 0
    capsys.readouterr()
    assert main(["fwcfg", "show", "--qemu", "m=/nowhere", *machine]) == 2
    assert "/nowhere is not there" in capsys.readouterr().err
