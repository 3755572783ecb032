"""bootmatrix preflight, and the figure of its page."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootmatrix import engines
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cli import preflight
from bootmatrix.cli.main import main
from bootmatrix.cli.preflight import DEPENDS, GOES, MARKS, REFUSED, Measured, measured_text
from bootmatrix.files.shipped import IMAGES
from bootmatrix.model import HostSpec
from bootmatrix.run import runner as runner_module
from bootmatrix.run.runner import Runner
from helpers.leavings import deep_tree
from helpers.own_builds import build_tree

OLD_PC = IMAGES.parent / "examples" / "vm" / "old-pc.sh"


@pytest.mark.thorough
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
    from bootmatrix.model import FirmwareSource
    from bootmatrix.records.jsonl import RecordWriter
    from helpers.cells import cell

    wanted = cell("sid bullseye", "stock")
    there = HostSpec("small", "debian-bullseye", FirmwareSource(small, name="small"))
    record = runner.run(type(wanted)(
        (wanted.hosts[0], there), wanted.machine, wanted.policy, wanted.scenario, wanted.disk))
    with RecordWriter(tmp_path / "records.jsonl") as writer:
        writer.write(record)
    assert record["verdict"] == "blocked"
    assert main([*pair, *definition, "--machine", "pc-i440fx-5.2", "--records",
                 str(tmp_path / "records.jsonl")]) == 1
    said = capsys.readouterr().out
    assert "REFUSED  ram-block: pc.bios has 0x40000 bytes, the destination's 0x20000" in said
    assert "proof: sid-to-small,pc-i440fx-5.2,stock,migrate-reset,ide (blocked)" in said
    # The same of a pair of which nothing is foretold: what was seen is not contradicted.
    host = record["cell"]["destination"]
    host |= {"build": "debian-bullseye", "firmware": runner.host(wanted.hosts[1]).firmware.name}
    (tmp_path / "seen.jsonl").write_text(json.dumps(record) + "\n")
    pair[-1] = "debian-bullseye"
    seen = [*pair, "--machine", "pc-i440fx-5.2", "--records", str(tmp_path / "seen.jsonl")]
    assert main(seen) == 1
    assert ("but a cell of the records was refused: sid-to-small,pc-i440fx-5.2,stock,"
            f"migrate-reset,ide: {record['reason']}") in capsys.readouterr().out
    assert main([*seen, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["not_foretold"].startswith("sid-to-small,")


@pytest.mark.parametrize(("arguments", "wanted"), [
    ([], "--source is missing"),
    (["--source", "debian-sod", "--destination", "debian-sid", "--machine", "m"],
     "no such QEMU build: 'debian-sod'"),
    (["mine.yaml"], "which cell of mine.yaml?"),
    (["mine.yaml", "a", "--disk", "ide"], "--disk is said by the cell"),
    (["mine.yaml", "a"], "mine.yaml: no such matrix file"),
    (["--measure", "/dev/zero"], "/dev/zero: is no regular file"),
    (["--measure", "nowhere.md"], "nowhere.md: cannot be read"),
])
def test_mistakes(
    arguments: list[str], wanted: str, store: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preflight", *arguments]) == 2
    said = capsys.readouterr().err
    assert wanted in said
    assert said.count("\n") == 1


def test_the_state_of_a_tpm_is_nothing_that_can_be_asked(
    store: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = IMAGES.parent / "matrices" / "tpm.yaml"
    wanted = "bookworm-to-trixie,pc-q35-7.2,stock,migrate-reset,ide,tpm-crb"
    assert main(["preflight", str(matrix), wanted]) == 2
    assert f"{wanted} has a TPM" in capsys.readouterr().err


def test_misses_are_told() -> None:
    text = measured_text([
        Measured("a", "b", "m (ide)", "BIOS, probe", REFUSED, True, "pc.bios"),
        Measured("a", "b", "n (ide)", "BIOS, probe", GOES, True, "refused: x | y"),
        Measured("b", "a", "m (ide)", "BIOS, probe", REFUSED, False, "field"),
        Measured("b", "a", "n (ide)", "BIOS, probe", GOES, False, "completed"),
        Measured("b", "a", "n (virtio)", "UEFI, Linux", DEPENDS, True, "queue-size"),
    ])
    assert ("Of 5 migrations, preflight said of 1 that it depends on the guest's drivers, and "
            "foretold **2 of the other 4 (50.0 %)** as they went.") in text
    assert ("| preflight: refused | 1 | 1 |\n| preflight: depends | 1 | 0 |\n"
            "| preflight: goes | 1 | 1 |") in text
    assert "| BIOS, probe | 4 | 2 | 1, 0, 1 |\n| UEFI, Linux | 1 | 0 | 0, 1, 0 |" in text
    assert "| a | b | BIOS, probe | goes | n (ide) | refused: x / y |" in text
    assert "| b | a | BIOS, probe | refused | m (ide) | field |" in text


def test_the_machine_of_a_cell(
    store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = tmp_path / "mine.yaml"
    matrix.write_text(
        "schema: 1\nhosts: {trixie: {qemu: debian-trixie}, sid: {qemu: debian-sid}}\n"
        "axes: {source: trixie, destination: sid, guest: mine, policy: stock, scenario: "
        f"migrate-reset}}\nguests: {{mine: {{command-line: {OLD_PC}, memory: 128}}}}\n")
    cell = "trixie-to-sid,pc-i440fx-5.2,hpet=off,usb=on,stock,migrate-reset,own,mine"
    assert main(["preflight", str(matrix), cell]) == 1
    told = capsys.readouterr().out
    assert "REFUSED  stream: the stream of a guest that has not run is refused: VQ 0 " in told
    assert "virtio-balloon" in told
    assert f"{cell}: would be refused\n" in told
    # What is offered to firmware: both hosts, with the machine's two CPUs and no HPET.
    assert main(["fwcfg", "diff", "--guest", str(matrix), cell]) in (0, 1)
    assert "pc-i440fx-5.2,hpet=off,usb=on, 128 MiB" in capsys.readouterr().out
    assert main(["fwcfg", "show", "--guest", str(matrix), cell, "--json"]) == 0
    offer = json.loads(capsys.readouterr().out)
    items = {item["name"]: item for item in offer["items"]}
    assert (offer["smp"], items["nb_cpus"]["decoded"]) == (2, 2)
    assert items["opt/org.example/role"]["decoded"] == "web"


def test_a_machine_that_a_qemu_does_not_start(
    store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = tmp_path / "mine.yaml"
    matrix.write_text(
        "schema: 1\nhosts: {old: {qemu: debian-bookworm}, new: {qemu: debian-bookworm, arguments: "
        "[-device, no-such-card]}}\naxes: {source: old, destination: new, machine: pc-q35-5.2, "
        "policy: stock, scenario: migrate-reset}\n")
    cell = "old-to-new,pc-q35-5.2,stock,migrate-reset,ahci"
    assert main(["preflight", str(matrix), cell]) == 1
    assert re.fullmatch(
        r"REFUSED  start: the destination, QEMU 7\.2\.\d+, does not start with this machine: "
        r"missing-feature: 'no-such-card' is not a valid device model name\n"
        rf"{cell}: would be refused\n", capsys.readouterr().out)
    assert main(["fwcfg", "diff", "--guest", str(matrix), cell]) == 1
    assert re.fullmatch(
        r"REFUSED  start: debian-bookworm[^\n]*: missing-feature: 'no-such-card' is not a valid "
        r"device model name\n", capsys.readouterr().out)


def test_the_page_has_a_figure() -> None:
    page = (Path(__file__).parents[2] / "docs" / "preflight.md").read_text()
    figure = page.split(MARKS[0])[1].split(MARKS[1])[0]
    assert "migrations, preflight said of" in figure


def test_a_build_tree_without_a_bios_with_another_firmware(
    store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = build_tree(store, tmp_path / "build")
    bios = (tree / "pc-bios" / "bios-256k.bin").rename(tmp_path / "bios.bin")
    assert main(["preflight", "--source", "m/f", "--destination", "debian-bookworm", "--qemu",
                 f"m={tree}", "--firmware", f"f={bios}", "--machine", "pc-q35-5.2"]) == 0
    assert "nothing of what is compared would refuse it" in capsys.readouterr().out


def test_what_a_hostile_qemu_leaves_goes_however_deep_it_is(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(MARKS))
    places: list[Path] = []

    @contextlib.contextmanager
    def leaving(builds: Any, engine: Any, directory: Path) -> Iterator[None]:
        places.append(directory)
        yield
        deep_tree(directory / "cell")

    monkeypatch.setattr(engines, "choose_for_a_look", contextlib.nullcontext)
    monkeypatch.setattr(runner_module, "Runner", leaving)
    monkeypatch.setattr(preflight, "_all", lambda *arguments: [])
    assert main(["preflight", "--measure", str(page)]) == 0
    assert not places[0].exists()
