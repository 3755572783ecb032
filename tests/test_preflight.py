"""What preflight foretells, on data that differs in one place, and on real QEMUs."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from harness.builds import Builds
from harness.cli import main
from harness.cli_preflight import MARKS, Measured, measured_text, own_disk
from harness.engines import Engine
from harness.images import ImageStore
from harness.model import Arch, Disk, FirmwareBuild, Host, HostSpec, QemuBuild
from harness.preflight import (
    Block,
    Facts,
    Finding,
    Kind,
    blocks_in,
    compare,
    facts,
    machine_findings,
    sections_in,
)
from harness.runner import Runner

HOST = Host("h", QemuBuild("q", "1.0", "", Path(), machines=("m",), default_machine="m"),
            FirmwareBuild("f", "", 0, Path()))


def entry(name: str, size: int = 4, **more: Any) -> dict[str, Any]:
    return {"field": name, "version_id": 0, "field_exists": False, "size": size} | more


def told(*fields: dict[str, Any], version: int = 2, least: int = 1,
         subsections: tuple[str, ...] = ()) -> Facts:
    description = {
        "name": "dev", "version_id": version, "minimum_version_id": least, "Fields": list(fields),
        "Subsections": [{"name": f"dev/{name}", "version_id": 1, "minimum_version_id": 1,
                         "Fields": []} for name in subsections],
    }
    return Facts(HOST, "m", {"pc.ram": Block(64, 64), "tables": Block(8, 32)}, ("device",),
                 {"device": {"Name": "device", "Description": description},
                  "vmschkmachine": {"Name": "m"}}, ("dev",))


OLD = told(entry("a"), entry("b"), entry("late", version_id=3))


def changed(**fields: Any) -> Facts:
    return Facts(**(vars(copy.deepcopy(OLD)) | fields))


@pytest.mark.parametrize(("new", "kind", "refuses"), [
    (OLD, None, False),
    (told(entry("a"), entry("renamed")), None, False),
    (told(entry("a"), entry("b1", 2), entry("b2", 2)), None, False),
    (told(entry("a"), entry("b"), entry("later", version_id=4), version=4), None, False),
    (told(entry("a")), Kind.FIELD, True),
    (told(entry("a"), entry("b"), entry("c")), Kind.FIELD, True),
    (told(entry("a"), entry("b"), entry("c", field_exists=True)), Kind.FIELD, False),
    (told(entry("a"), entry("b", 8)), Kind.FIELD, True),
    (told(entry("a"), entry("b"), version=1), Kind.SECTION, True),
    (told(entry("a"), entry("b"), version=4, least=3), Kind.SECTION, True),
    (changed(sections=()), Kind.SECTION, True),
    (changed(blocks={"pc.ram": Block(64, 64)}), Kind.RAM, True),
    (changed(blocks={"pc.ram": Block(32, 32), "tables": Block(8, 32)}), Kind.RAM, True),
    (changed(blocks={"pc.ram": Block(64, 64), "tables": Block(2, 4)}), Kind.RAM, True),
    (changed(blocks={"pc.ram": Block(64, 64), "tables": Block(16, 32)}), None, False),
])  # fmt: skip
def test_one_difference(new: Facts, kind: Kind | None, refuses: bool) -> None:
    found = compare(OLD, new)
    assert [(one.kind, one.refuses) for one in found] == ([(kind, refuses)] if kind else [])


def test_boards_have_disks_of_their_own() -> None:
    found = [own_disk(machine) for machine in ("pc-q35-5.2", "pc-i440fx-5.2", "isapc", "microvm")]
    assert found == ["ahci", "ide", "ide", "virtio"]
    assert own_disk("virt-5.2", Arch.AARCH64) == own_disk("virt", Arch.RISCV64) == "virtio"
    assert own_disk("a-board-that-nobody-knows") == "ide"


@pytest.mark.parametrize(("arguments", "refused"), [
    (("debian-bullseye", "debian-sid", "--machine", "virt-5.2", "--arch", "aarch64"), False),
    (("debian-bookworm/ovmf-4m", "debian-sid/ovmf-4m", "--machine", "pc-q35-5.2"), False),
    # Another layout of the flash: its code and its variables are other blocks.
    (("debian-bookworm/ovmf-2m", "debian-sid/ovmf-4m", "--machine", "pc-q35-5.2"), True),
    (("debian-bullseye", "debian-sid", "--machine", "pc-q35-5.2", "--nic", "e1000"), False),
])  # fmt: skip
def test_other_boards_firmware_and_cards(
    arguments: tuple[str, ...], refused: bool, store: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination, *more = arguments
    status = main(["preflight", "--source", source, "--destination", destination, *more,
                   "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (status, told["refused"]) == (int(refused), refused)
    if refused:
        assert {row["text"].split()[0] for row in told["findings"] if row["refuses"]} == {
            "system.flash0", "system.flash1"}


def test_a_subsection_that_is_not_there_is_a_warning() -> None:
    found = compare(told(subsections=("x",)), told())
    assert found == (Finding(Kind.SUBSECTION, False,
                             "dev/x is not there: refused, if it is sent"),)


def test_machine_types() -> None:
    assert machine_findings(HOST, HOST, "m") == ()
    assert machine_findings(HOST, HOST, "default") == ()
    assert [one.text for one in machine_findings(HOST, HOST, "n")] == [
        "the source, QEMU 1.0, has no n", "the destination, QEMU 1.0, has no n"]


def test_what_the_monitor_and_a_stream_tell() -> None:
    text = ("              Block Name    PSize              Offset               Used      Total\n"
            "                  pc.ram    4 KiB  0x0000000000000000 0x0000000002000000 "
            "0x0000000002000000 rw\n"
            "    /rom@etc/acpi/tables    4 KiB  0x0000000002100000 0x0000000000020000 "
            "0x0000000000200000 ro\n")
    assert blocks_in(text) == {"pc.ram": Block(32 << 20, 32 << 20),
                               "/rom@etc/acpi/tables": Block(128 << 10, 2 << 20)}
    end = json.dumps({"devices": [{"name": "timer"}, {"name": "0000:00:1f.0/ICH9LPC"}]}).encode()
    stream = b"QEVM\x06\0\0\0\x02{}" + b"\x06" + len(end).to_bytes(4, "big") + end
    assert sections_in(stream) == ("timer", "ICH9LPC")
    assert sections_in(b"QEVM") == ()


# ---- for real -------------------------------------------------------------------------------


def test_what_a_real_qemu_tells(store: ImageStore, bubblewrap: Engine) -> None:
    with Builds(store) as builds:
        host = builds.host(HostSpec("sid", "debian-sid"))
    there = facts(bubblewrap, host, "pc-q35-5.2", Disk.AHCI)
    assert there.blocks["pc.bios"].used == host.firmware.size
    assert {"ICH9LPC", "ich9_ahci", "timer"} <= set(there.sections)
    assert "ICH9-LPC" in there.devices
    assert not compare(there, there)


def test_the_command(
    store: ImageStore, runner: Runner, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pair = ["preflight", "--source", "debian-sid", "--destination", "debian-bullseye"]
    assert main([*pair, "--machine", "pc-i440fx-5.2"]) == 0
    assert "would refuse it" in capsys.readouterr().out
    assert main([*pair, "--machine", "default", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["kind"] == "machine-type"
    # A firmware of another size: foretold, refused, and the refusal named as the proof.
    small = store.qemu("debian-bullseye").root / "usr/share/seabios/bios.bin"
    pair[-1] += "/small"
    definition = ["--firmware", f"small={small}"]
    from cells import cell

    from harness.chosen import from_records  # noqa: F401  # records as a run writes them
    from harness.model import FirmwareSource
    from harness.records import RecordWriter

    wanted = cell("sid bullseye", "stock")
    there = HostSpec("small", "debian-bullseye", FirmwareSource(small, name="small"))
    record = runner.run(type(wanted)(
        (wanted.hosts[0], there), wanted.machine, wanted.policy, wanted.scenario, wanted.disk))
    with RecordWriter(tmp_path / "records.jsonl") as writer:
        writer.write(record.to_json())
    assert record.verdict == "blocked"
    assert main([*pair, *definition, "--machine", "pc-i440fx-5.2", "--records",
                 str(tmp_path / "records.jsonl")]) == 1
    said = capsys.readouterr().out
    assert "REFUSED  ram-block: pc.bios has 0x40000 bytes, the destination's 0x20000" in said
    assert "proof: sid-to-small,pc-i440fx-5.2,stock,migrate-reset,ide (blocked)" in said


@pytest.mark.parametrize(("arguments", "wanted"), [
    ([], "--source is missing"),
    (["--source", "debian-sod", "--destination", "debian-sid", "--machine", "m"],
     "no such QEMU build: 'debian-sod'"),
    (["--measure", "nowhere.md"], "nowhere.md: cannot be read"),
])
def test_mistakes(
    arguments: list[str], wanted: str, store: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preflight", *arguments]) == 2
    said = capsys.readouterr().err
    assert wanted in said
    assert said.count("\n") == 1


# ---- the figure -----------------------------------------------------------------------------


def test_misses_are_told() -> None:
    text = measured_text([
        Measured("a", "b", "m (ide)", True, True, "pc.bios"),
        Measured("a", "b", "n (ide)", False, True, "refused: x | y"),
        Measured("b", "a", "m (ide)", True, False, "field"),
        Measured("b", "a", "n (ide)", False, False, "completed"),
    ])
    assert "Of 4 migrations, preflight foretold **2 (50.0 %)** as they went." in text
    assert "| preflight: refused | 1 | 1 |\n| preflight: goes | 1 | 1 |" in text
    assert "| a | b | goes | n (ide) | refused: x / y |" in text
    assert "| b | a | refused | m (ide) | field |" in text


def test_the_page_has_a_figure() -> None:
    page = (Path(__file__).parent.parent / "docs" / "preflight.md").read_text()
    figure = page.split(MARKS[0])[1].split(MARKS[1])[0]
    assert "migrations, preflight foretold" in figure
