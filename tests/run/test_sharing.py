"""Sharing beginnings changes no verdict: some of the quickstart on real QEMUs, with and without.

More ways, and what goes wrong on them, are compared on fakes, in tests/run/test_runner.py.
"""

from __future__ import annotations

import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.engines import Engine
from bootmatrix.errors import HarnessError
from bootmatrix.matrix.expansion import load
from bootmatrix.model import (
    Arch,
    FirmwareBuild,
    GuestKind,
    Host,
    Nic,
    QemuBuild,
    ResetBy,
    Verdict,
)
from bootmatrix.records.model import Record
from bootmatrix.run import sharing
from bootmatrix.run.runner import Runner
from bootmatrix.run.sharing import key_of, shared_steps
from bootmatrix.steps import library
from bootmatrix.steps.reset import Reset
from bootmatrix.witnesses import probe_line
from bootmatrix.witnesses.moment import repeatable
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.refusal import Refusal
from helpers.cells import cell

QUICKSTART = Path(__file__).parents[2] / "matrices" / "quickstart.yaml"


def quickstart(store: ImageStore, machine: str) -> list[Cell]:
    cells = load(QUICKSTART).cells(lambda host: store.qemu(str(host.qemu)).machines)
    # A silent cell waits for its whole time-out, in both runs; none is waited for beyond that.
    return [replace(each, seconds=1.0, patience=1.0) for each in cells if each.machine == machine
            and {host.name for host in each.hosts} == {"bullseye", "sid"}]


def told(record: Record) -> dict[str, object]:
    return {
        "verdict": record["verdict"],
        "reason": repeatable(record["reason"]),
        "known": record["known"],
        "boots": [
            (boot["step"], boot["host"], boot["expected"], boot["console"], boot["rom"], boot["up"])
            for boot in record["boots"]
        ],
        "steps": [(step["step"], step["outcome"], step.get("rom")) for step in record["steps"]],
        "qemus": [(qemu["role"], qemu["argv"]) for qemu in record["qemus"]],
    }


@pytest.mark.parametrize("machine", [
    "pc-i440fx-5.2", pytest.param("pc-q35-5.2", marks=pytest.mark.thorough)])
def test_shared_and_not_shared_agree_cell_by_cell(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path, machine: str
) -> None:
    cells = quickstart(store, machine)
    assert len(cells) == 10
    with Runner(Builds(store), bubblewrap, tmp_path / "whole") as runner:
        whole = [runner.run(each) for each in cells]
    with Runner(Builds(store), bubblewrap, tmp_path / "shared", share=True) as runner:
        shared = [runner.run(each) for each in cells]
    for one, other in zip(whole, shared, strict=True):
        assert told(one) == told(other)
        assert "shared" not in one
    keys = [record["shared"]["key"] for record in shared]
    # 2 sources, and the firmware in a -bios file or in nvram: what else differs comes later.
    assert len(set(keys)) == 4
    assert not (tmp_path / "shared" / "shared").exists(), "nothing is left of the beginnings"
    assert {record["verdict"] for record in shared} == (
        {Verdict.PASS, Verdict.SILENT} if "q35" in machine else {Verdict.PASS}
    )


@pytest.mark.parametrize(
    ("steps", "shared"),
    [
        (["start", {"migrate": {"to": "destination"}}, "reset"], 1),
        (["start", "reset", {"migrate": {"to": "destination"}}], 2),
        (["start", "write-variable", {"migrate": {"to": "destination"}}, "reset"], 2),
        (["start", "fill-variables", "reset", {"migrate": {"to": "destination"}}], 3),
        (["start", "write-variable", "reset"], 0),
        (["start", "reset"], 0),
        (["start", {"migrate": {"during-post": True}}, "reset"], 0),
        (["start", "replace-disk", {"migrate": {"to": "destination"}}], 0),
        (["start", {"upgrade-host": {"host": "source", "firmware-of": "destination"}},
          {"migrate": {"to": "destination"}}], 0),
    ],
)  # fmt: skip
def test_what_can_be_shared(steps: list[object], shared: int) -> None:
    assert shared_steps(library.parse("own", steps).steps) == shared


def test_a_reset_before_the_migration_makes_the_policy_count(store: ImageStore) -> None:
    steps = library.parse("own", ["start", "reset", {"migrate": {"to": "destination"}}])

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


@pytest.mark.parametrize("kept", [b"", b"[]", b'{"seen": 3, "qemus": [], "saved": false}',
                                  b'{"seen": [{"step": 1}], "qemus": [], "saved": true}'])
def test_what_lies_in_a_run_directory_is_data(tmp_path: Path, kept: bytes) -> None:
    touched = tmp_path / "touched"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {touched}",)

    file = tmp_path / "beginning"
    for content in (pickle.dumps(Evil()), kept):
        file.write_bytes(content)
        with pytest.raises(HarnessError, match=f"{file} holds no beginning"):
            sharing.from_json(file, "key", tmp_path)
    assert not touched.exists()


def test_a_beginning_comes_back_as_it_was_written(tmp_path: Path) -> None:
    step = Reset(by=ResetBy.CF9)
    line = probe_line.ProbeLine("up", boot=2, value="x", host='a"b')
    boot = BootObserved(0, ("1.14.0-2", "\x1b[31m"), line, "ab" * 32, 0.25, 5.0, None, True)
    seen = (StepObserved(step, 0.5, 0, boot=boot),
            StepObserved(step, 1.5, refusal=Refusal("rom-size", "no\n"), nvram_equal=False))
    for saved in (None, tmp_path / "guest"):
        one = sharing.Snapshot("key", seen, ({"role": "source", "argv": ["-m", "1"]},), saved)
        file = tmp_path / "beginning"
        file.write_bytes(sharing.to_json(one))
        assert sharing.from_json(file, "key", tmp_path) == one


def test_nothing_is_unpickled_or_evaluated() -> None:
    for file in (*Path("harness").rglob("*.py"), *Path("benchmarks").rglob("*.py")):
        code = file.read_text()
        for way in ("pickle", "marshal", "shelve", "eval(", "exec(", "yaml.load(", "unsafe"):
            found = [line for line in code.splitlines()
                     if re.search(rf"(?<![\w.]){re.escape(way)}", line)]
            assert not found, (file, found)


def test_there_is_an_end_to_what_is_kept(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile QEMU's stream can have a GiB, for each beginning."""
    one = quickstart(store, "pc-i440fx-5.2")[0]
    monkeypatch.setattr(sharing, "MOST_BYTES", 10)
    snapshots = sharing.Snapshots(tmp_path / "shared")
    (tmp_path / "shared" / "another").write_bytes(bytes(11))
    with Builds(store) as builds:
        builds.prepare(one.hosts)
        hosts = [builds.host(spec) for spec in one.hosts]
        assert snapshots.run(one, hosts, lambda key: pytest.fail("it is begun")) is None
    snapshots.close()
