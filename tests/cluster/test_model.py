"""Cells as data, and back; what a machine lacks for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cluster.model import (
    PROTOCOL,
    Facts,
    Needs,
    known_data,
    read_answer,
    read_facts,
    read_task,
)
from bootmatrix.errors import HarnessError
from bootmatrix.model import Known, Verdict
from helpers.clusters import CELL, a_task

FACTS = Facts(protocol=PROTOCOL, axes=[], version="1", name="one", machine="x86_64", slots=2,
              kvm="", memory=4096, engines=["bubblewrap"], roots={}, boards=["apu2-main"])


def test_a_cell_comes_back_from_its_values(store: ImageStore, tmp_path: Path) -> None:
    known = Known((("machine", ("pc-*",)),), (Verdict.SILENT,), "as ever", "https://example.org")
    task, _, _ = a_task(tmp_path, known=[known_data(known)])
    again = read_task(task.model_dump_json().encode())
    assert again == task
    assert again.cell().id == CELL
    assert again.cell().scenario.steps == task.cell().scenario.steps
    assert again.declared() == (known,)


@pytest.mark.parametrize("changes", [
    {"id": "another"}, {"seconds": 1, "values": {}}, {"values": {"machine": "../x"}},
    {"steps": []},
])
def test_what_makes_no_cell_or_another_one_is_refused(
    store: ImageStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    task, _, _ = a_task(tmp_path, **changes)
    with pytest.raises(HarnessError):
        task.cell()


@pytest.mark.parametrize("read", [read_task, read_answer, read_facts])
@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"run": "../../etc"}', b"\xff"])
def test_what_is_no_message_is_refused(read: Any, data: bytes) -> None:
    with pytest.raises(HarnessError):
        read(data)


@pytest.mark.parametrize(("needs", "lacks"), [
    ({}, ""),
    ({"kvm": True, "memory": 4096, "engine": "bubblewrap", "boards": ["apu2-main"]}, ""),
    ({"machine": "aarch64"}, "is x86_64, not aarch64"),
    ({"memory": 4097}, "has 4096 MiB of memory, not 4097"),
    ({"engine": "docker"}, "has no engine docker"),
    ({"boards": ["other"]}, "has no board other"),
])
def test_what_a_machine_lacks_is_said(needs: dict[str, Any], lacks: str) -> None:
    assert Needs(**{"machine": "x86_64", **needs}).lacking(FACTS) == lacks


def test_a_machine_says_why_it_has_no_kvm_and_that_it_has_no_engine() -> None:
    poor = FACTS.model_copy(update={"kvm": "/dev/kvm is not there", "engines": []})
    assert Needs(machine="x86_64", kvm=True).lacking(poor) == \
        "has no KVM: /dev/kvm is not there"
    assert Needs(machine="x86_64").lacking(poor) == "has no engine that works"
