"""Sharing beginnings changes no verdict: the whole quickstart matrix, with and without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cells import cell

from harness import scenarios
from harness.builds import Builds
from harness.engines import Engine
from harness.images import ImageStore
from harness.matrix import load
from harness.model import (
    Arch,
    Cell,
    FirmwareBuild,
    GuestKind,
    Host,
    Nic,
    QemuBuild,
    RunRecord,
    Verdict,
)
from harness.runner import Runner
from harness.sharing import key_of, shared_steps

QUICKSTART = Path(__file__).parent.parent / "matrices" / "quickstart.yaml"


def quickstart(store: ImageStore, machine: str) -> list[Cell]:
    cells = load(QUICKSTART).cells(lambda host: store.qemu(str(host.qemu)).machines)
    # A silent cell waits for its whole time-out, in both runs.
    return [replace(each, seconds=2.5) for each in cells if each.machine == machine]


def told(record: RunRecord) -> dict[str, object]:
    return {
        "verdict": record.verdict,
        "reason": record.reason,
        "known": record.known,
        "boots": [
            (boot.step, boot.host, boot.expected, boot.console, boot.rom, boot.up)
            for boot in record.boots
        ],
        "steps": [(step["step"], step["outcome"], step.get("rom")) for step in record.steps],
        "qemus": [(qemu["role"], qemu["argv"]) for qemu in record.qemus],
    }


@pytest.mark.parametrize("machine", ["pc-i440fx-5.2", "pc-q35-5.2"])
def test_shared_and_not_shared_agree_cell_by_cell(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path, machine: str
) -> None:
    cells = quickstart(store, machine)
    assert len(cells) == 60
    with Runner(Builds(store), bubblewrap, tmp_path / "whole") as runner:
        whole = [runner.run(each) for each in cells]
    with Runner(Builds(store), bubblewrap, tmp_path / "shared", share=True) as runner:
        shared = [runner.run(each) for each in cells]
    for one, other in zip(whole, shared, strict=True):
        assert told(one) == told(other)
        assert "shared" not in one.details
    keys = [record.details["shared"]["key"] for record in shared]
    # 4 sources, and the firmware in a -bios file or in nvram: what else differs comes later.
    assert len(set(keys)) == 8
    assert not (tmp_path / "shared" / "shared").exists(), "nothing is left of the beginnings"
    assert {record.verdict for record in shared} == (
        {Verdict.PASS, Verdict.SILENT, Verdict.NO_BOOT} if "q35" in machine else {Verdict.PASS}
    )


@pytest.mark.parametrize(
    ("steps", "shared"),
    [
        (["start", {"migrate": {"to": "destination"}}, "reset"], 1),
        (["start", "reset", {"migrate": {"to": "destination"}}], 2),
        (["start", "reset"], 0),
        (["start", {"migrate": {"during-post": True}}, "reset"], 0),
        (["start", "replace-disk", {"migrate": {"to": "destination"}}], 0),
        (["start", {"upgrade-host": {"host": "source", "firmware-of": "destination"}},
          {"migrate": {"to": "destination"}}], 0),
    ],
)  # fmt: skip
def test_what_can_be_shared(steps: list[object], shared: int) -> None:
    assert shared_steps(scenarios.parse("own", steps).steps) == shared


def test_a_reset_before_the_migration_makes_the_policy_count(store: ImageStore) -> None:
    steps = scenarios.parse("own", ["start", "reset", {"migrate": {"to": "destination"}}])

    def key(policy: str, count: int) -> str:
        one = replace(cell("bullseye sid", policy), scenario=steps)
        hosts = [Builds(store).host(spec) for spec in one.hosts]
        return key_of(one, hosts, steps.steps[:count])

    assert key("stock", 1) == key("reread", 1) != key("guest-owned", 1)
    assert key("stock", 2) != key("reread", 2)


def test_all_that_a_beginning_depends_on_is_in_its_key(tmp_path: Path) -> None:
    stores = [tmp_path / name for name in "abc"]
    for store, content in zip(stores, (b"template", b"template", b"another"), strict=True):
        store.write_bytes(content)
    plain = cell("bullseye sid", "stock")
    qemu = QemuBuild("q", "1.0", "digest", tmp_path)
    firmware = FirmwareBuild("f", "sha256", 1, tmp_path, variables=stores[0])

    def key(one: Cell, firmware: FirmwareBuild = firmware) -> str:
        return key_of(one, [Host("a", qemu, firmware)], one.scenario.steps[:1])

    other = [
        replace(plain, guest=GuestKind.LINUX), replace(plain, cpu="max"), replace(plain, smp=2),
        replace(plain, nic=Nic.VIRTIO), replace(plain, arch=Arch.AARCH64),
    ]  # fmt: skip
    keys = [key(plain), *map(key, other), key(plain, replace(firmware, variables=stores[2])),
            key(plain, replace(firmware, payload=stores[2]))]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert key(plain, replace(firmware, variables=stores[1])) == key(plain)


def test_a_beginning_that_stays_silent_is_the_verdict_of_all_its_cells(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path
) -> None:
    steps = scenarios.parse("own", ["start", "reset", {"migrate": {"to": "destination"}}, "reset"])
    with Runner(Builds(store), bubblewrap, tmp_path, share=True) as runner:
        records = [
            runner.run(replace(
                cell(f"bullseye {to}", "stock", machine="pc-q35-5.2", disk="ahci", seconds=1.5),
                scenario=steps,
            ))
            for to in ("sid", "trixie")
        ]  # fmt: skip
    assert [(record.verdict, record.details.get("error")) for record in records] == [
        (Verdict.SILENT, None), (Verdict.SILENT, None)
    ]  # fmt: skip
    assert records[0].reason == records[1].reason
    assert records[0].reason.startswith("boot 2 (reset on source): nothing on the console")
    assert records[1].seconds < 1, "the second did not wait for it again"
