"""A cell while it is run: what is noted of it, and how its time is judged."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import cast

from bootmatrix.cell import Cell
from bootmatrix.errors import HarnessError
from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.guests.secure_boot import enrolled_sum
from bootmatrix.model import Disk, HostSpec, Signing, Verdict
from bootmatrix.policies import Policy
from bootmatrix.records.model import CellRow, checked
from bootmatrix.run import bounds
from bootmatrix.run.cell_run import CellRun, file_name, keys_of
from bootmatrix.steps.library import LIBRARY, parse
from bootmatrix.steps.start import Start
from bootmatrix.witnesses.observation import BLACK_BOX, BlackBox, BootObserved, StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from helpers.fakes import MACHINE, VERSIONS, hosts


def cold_boot(directory: Path, usual: float | None = None) -> CellRun:
    host, *_ = hosts(directory / "images")
    cell = Cell((HostSpec("h0", "h0"),), MACHINE, Policy.STOCK, LIBRARY["cold-boot"], Disk.IDE)
    described = cast(CellRow, {"id": cell.id, "source": {}, "machine": MACHINE, "policy": "stock",
                               "scenario": "cold-boot"})
    return CellRun(cell, [host], described, KnownFirmware([host.firmware]), (), directory,
                   f"m.yaml/{cell.id}", "fake", 32, usual=usual)


def booted(run: CellRun, seconds: float = 0.1) -> list[StepObserved]:
    up = ProbeLine("up", 1, None, "SeaBIOS", VERSIONS[0], "A")
    rom = run.hosts[0].firmware.sha256
    boot = BootObserved(0, (VERSIONS[0],), up, rom, seconds, 5.0)
    return [StepObserved(Start(0), seconds, 0, boot=boot)]


def test_its_record_fits_the_model_and_leads_to_its_logs(tmp_path: Path) -> None:
    run = cold_boot(tmp_path)
    logs = run.artifacts / "1-source"
    logs.mkdir(parents=True)
    (logs / "qemu.log").write_bytes(b"x" * (bounds.LOG_BYTES + 1))
    run.notes["run_again"] = "why"
    record = run.record(run.judge(booted(run)), booted(run), [])
    assert checked(record) == record
    assert (record["verdict"], record["engine"]) == ("pass", "fake")
    assert tmp_path / record["artifacts"] == run.artifacts
    assert (record["run_again"], record["logs_cut"]) == ("why", ["1-source/qemu.log"])


def test_run_with_patience_it_is_late_by_what_is_usual(tmp_path: Path) -> None:
    run = cold_boot(tmp_path, usual=5.0)
    assert run.judge(booted(run, 4.9)).verdict is Verdict.PASS
    assert run.judge(booted(run, 5.1)).verdict is Verdict.LATE


def test_where_the_rig_broke_what_was_seen_before_stands(tmp_path: Path) -> None:
    run = cold_boot(tmp_path)
    record = run.broken(HarnessError("gone", argv=["qemu"]), booted(run), [])
    assert (record["verdict"], record["reason"], len(record["boots"])) == ("error", "gone", 1)
    assert "qemu" in record["error"]
    fault = run.broken(ValueError("x" * 10_000), [], [])
    assert fault["reason"].startswith("ValueError: xxx")
    assert len(fault["reason"]) <= bounds.TEXT_LENGTH


def test_one_that_was_waited_for_has_two_black_boxes_and_the_last_is_in_its_record(
    tmp_path: Path
) -> None:
    run = cold_boot(tmp_path)
    run.first = BlackBox("loops in 0x10-0x18", "after 5 s: loops\n")
    late = run.record(run.judge(booted(run)), booted(run), [])
    assert late["black_box"] == "loops in 0x10-0x18"
    down = [replace(step, black_box=BlackBox("halted", "after 120 s: halted\n"))
            for step in booted(run)]
    assert run.record(run.judge(down), down, [])["black_box"] == "halted"
    assert (run.artifacts / BLACK_BOX).read_text() == "after 5 s: loops\n\nafter 120 s: halted\n"
    blind = [replace(step, black_box=BlackBox("the registers cannot be read", "x\n", blind=True))
             for step in booted(run)]
    assert run.record(run.judge(blind), blind, [])["black_box"] == "loops in 0x10-0x18"
    run.first = None
    assert run.record(run.judge(blind), blind, [])["black_box"] == "the registers cannot be read"


def test_a_long_id_is_a_short_name_of_a_directory() -> None:
    long = "a" * 300
    assert file_name("a,b") == "a,b"
    assert len(file_name(long)) == 200
    assert file_name(long) != file_name(long + "a")
    assert file_name(long).startswith("a" * 180)


def test_what_a_guest_says_of_keys_that_it_enrols_is_known_beforehand(tmp_path: Path) -> None:
    """By the certificate that it is signed for: a guest that tells of others is found."""
    run = cold_boot(tmp_path)
    certificate = tmp_path / "certificate.pem"
    certificate.write_text(ssl.DER_cert_to_PEM_cert(b"a certificate"))
    signing = Signing(certificate, certificate)
    firmware = replace(run.hosts[0].firmware, signing=signing)
    run.hosts = [replace(run.hosts[0], firmware=firmware)]
    assert keys_of(run.cell, run.hosts) is None, "nobody enrols any"
    enrols = replace(run.cell, scenario=parse("own", ["start", "enrol-keys"]))
    assert keys_of(enrols, run.hosts) == enrolled_sum(signing)
