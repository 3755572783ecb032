"""A guest that some run has saved goes on in another, on fakes: whole lives in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds import saved_guest
from bootmatrix.cell import Cell
from bootmatrix.errors import HarnessError
from bootmatrix.machines.fake import Script
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.matrix.document import Document
from bootmatrix.matrix.expansion import load
from bootmatrix.model import Accel, Disk, Host, HostSpec, Known, SavedSource, Verdict
from bootmatrix.policies import Policy
from bootmatrix.records.model import Record
from bootmatrix.roots.cache import Cache
from bootmatrix.run import keeping, saved
from bootmatrix.run.runner import Unjudged
from bootmatrix.steps.library import LIBRARY, parse
from bootmatrix.steps.start import Start
from bootmatrix.vault import Objects
from bootmatrix.vault.guest import File
from bootmatrix.witnesses.refusal import Refusal
from helpers.fakes import MACHINE, SECONDS, FakeRunner, hosts

HOSTS = HostSpec("h0", "q-0"), HostSpec("h1", "q-1")


def cell_of(policy: str, **changed: Any) -> Cell:
    made = Cell(HOSTS, MACHINE, Policy(policy), LIBRARY["migrate-reset"], Disk.VIRTIO,
                seconds=SECONDS, patience=SECONDS)
    return replace(made, **changed)


class Later(FakeRunner):
    """A runner in which h0 is a guest of a vault, and no QEMU any more."""

    saved: Host

    def host(self, spec: HostSpec) -> Host:
        return self.saved if isinstance(spec.qemu, SavedSource) else super().host(spec)

    def setup(self, cell: Cell, hosts: Any) -> GuestSetup:
        made = super().setup(cell, hosts)
        assert hosts[0].qemu.saved is not None
        return replace(made, disks=[hosts[0].qemu.saved / "disk.img"] * 2)


def keep(tmp_path: Path, *cells: Cell, known: Sequence[Known] = ()) -> Path:
    """Save the guests of cells; the vault."""
    vault = tmp_path / "vault"
    with FakeRunner(tmp_path / "then") as runner:
        there = {host.name: host for host in runner.fakes.hosts}
        for key, guest in keeping.to_save(cells, known, there).items():
            begun = runner.beginning(guest.cell, tmp_path / "then" / key)
            assert not isinstance(begun, str)
            host, setup = there["h0"], runner.setup(guest.cell, [there["h0"]])
            keeping.keep(vault, keeping.name_of(key, guest, host), guest, host, setup, begun)
    return vault


def restored(tmp_path: Path, file: Path, script: Script | None = None,
             change: Callable[[Cell], Cell] = lambda cell: cell) -> list[Record]:
    """The records of the cells that a guest's matrix file has on h1."""
    text = file.read_text().replace(
        "hosts:\n", 'hosts:\n  "h1": {"qemu": "q-1"}\n').replace("axes:\n",
                                                                "axes:\n  destination: h1\n")
    (file.parent / "mine").mkdir(exist_ok=True)
    mine = file.parent / "mine" / file.name
    mine.write_text(text.replace('"guest":', '"vault": "..", "guest":'))
    records = []
    with Later(tmp_path / "now", script) as runner:
        for cell in load(mine).cells(lambda host: ()):
            source = cell.hosts[0].qemu
            assert isinstance(source, SavedSource)
            qemu, _ = saved_guest.build(source, Cache(tmp_path / "cache"))
            runner.saved = Host(cell.hosts[0].name, qemu, runner.fakes.hosts[0].firmware)
            begun = runner.begin(change(cell), load(mine).known)
            records.append(begun.judged() if isinstance(begun, Unjudged) else begun)
    return records


@pytest.mark.parametrize(("policy", "runs"), [
    ("stock", "1.14.0-2"), ("guest-owned", "1.14.0-2"), ("machine-owned", "1.17.0-1"),
    ("reread", "1.17.0-1"),
])
def test_it_goes_on_as_the_policy_promises(tmp_path: Path, policy: str, runs: str) -> None:
    (file,) = keeping.guests(keep(tmp_path, cell_of(policy)))
    (record,) = restored(tmp_path, file)
    assert record["verdict"] == "pass", record["reason"]
    first, last = record["boots"]
    assert (first["host"], last["host"]) == ("source", "destination")
    assert last["console"] == f"seabios-{runs}"
    assert record["cell"]["source"]["qemu"] == "5.2.0"
    assert [qemu["role"] for qemu in record["qemus"]] == ["source", "destination"]


def test_cells_that_begin_alike_have_one_guest(tmp_path: Path) -> None:
    cells = [cell_of(str(policy)) for policy in Policy] + [
        cell_of("stock", scenario=LIBRARY["ping-pong"])]
    vault = keep(tmp_path, *cells)
    files = keeping.guests(vault)
    policies = [
        getattr(Document(file).entry.axes, "policy") for file in files]  # noqa: B009
    assert sorted(map(sorted, policies)) == [
        ["guest-owned", "guest-owned-versioned"], ["machine-owned", "reread", "stock"]]
    kept = [keeping.read(file) for file in files]
    assert kept[0].said.files["firmware"] == kept[1].said.files["firmware"]
    assert {record["verdict"] for file in files for record in restored(tmp_path, file)} == {"pass"}


def test_what_is_declared_of_it_comes_along(tmp_path: Path) -> None:
    entries = [Known(tuple((key, (glob,)) for key, glob in when.items()), (Verdict.SILENT,), name)
               for name, when in {
        "here": {"source.host": "h0", "source.firmware": "seabios-1.14.0-*", "policy": "stock"},
        "where it goes": {"destination.qemu": "11.*", "machine": "pc-i440fx-*"},
        "another firmware": {"source.firmware": "seabios-1.9.0"},
        "another policy": {"policy": "guest-owned"},
        "another host": {"source.host": "h1"},
        "another scenario": {"scenario": "ping-pong"},
        "a destination": {"destination.host": "sid"},
    }.items()]
    (file,) = keeping.guests(keep(tmp_path, cell_of("stock"), known=entries))
    found = Document(file).entry.known
    assert [entry.reason for entry in found] == ["here", "where it goes"]
    assert "source.host" not in found[0].when
    (record,) = restored(tmp_path, file)
    assert record["known"] == "here"


def test_resets_before_it_was_saved_are_part_of_it(tmp_path: Path) -> None:
    scenario = parse("mine", ["start", "reset", "migrate", "reset"])
    (file,) = keeping.guests(keep(tmp_path, cell_of("reread", scenario=scenario)))
    (record,) = restored(tmp_path, file)
    assert record["verdict"] == "pass", record["reason"]
    assert len(record["boots"]) == 3
    (other,) = restored(tmp_path, file, change=lambda cell: replace(cell, policy=Policy.STOCK))
    assert other["verdict"] == "unsupported"
    assert "was one of reread" in other["reason"]


def test_a_qemu_that_does_not_take_it_is_red(tmp_path: Path) -> None:
    (file,) = keeping.guests(keep(tmp_path, cell_of("stock")))
    (record,) = restored(tmp_path, file, Script(refuses=Refusal("machine-type", "no such type")))
    assert record["verdict"] == "blocked"
    assert record["reason"] == "migrate: machine-type: no such type"


def test_one_that_does_not_come_up_is_looked_at_from_where_it_was_saved(tmp_path: Path) -> None:
    (file,) = keeping.guests(keep(tmp_path, cell_of("stock")))
    # The first boot of the run is the reset: the one before it was then.
    (record,) = restored(tmp_path, file, Script(silent={1}))
    assert record["verdict"] == "silent"
    assert "boot 2 (reset on destination)" in record["reason"]
    source = SavedSource(vault=tmp_path / "vault", guest=keeping.read(file).digest)
    with Later(tmp_path / "again") as runner:
        qemu, _ = saved_guest.build(source, Cache(tmp_path / "cache"))
        runner.saved = Host("h0-5.2.0", qemu, runner.fakes.hosts[0].firmware)
        steps = parse("own", ["start", {"migrate": {"channel": "file"}}, "reset"]).steps
        cell = cell_of("stock", hosts=(HostSpec("h0-5.2.0", source), HOSTS[1]))
        setup = runner.setup(cell, [runner.host(spec) for spec in cell.hosts])
        seen = runner._watch_apart("apart", setup, steps)
        assert [step.step for step in seen] == list(steps)
        alone = runner._watch_apart("alone", setup, [Start(1)])
        assert alone[0].boot is not None, "a guest that is started alone was not saved"


@pytest.mark.parametrize(("change", "says"), [
    ({"disk": Disk.IDE}, "has disk 'virtio', the cell 'ide'"),
    ({"machine": "pc-i440fx-4.2"}, "has machine 'pc-i440fx-5.2'"),
    ({"smp": 2}, "has smp 1, the cell 2"),
    ({"accel": Accel.KVM_TO_TCG}, "ran with tcg"),
    ({"policy": Policy.GUEST_OWNED}, "was one of stock, and guest-owned would have had another"),
    ({"scenario": LIBRARY["migrate-reset"]}, "goes on with migrate: {channel: file}"),
    ({"scenario": LIBRARY["ping-pong"]}, "has done start"),
], ids=["disk", "machine", "smp", "accel", "policy", "live", "ping-pong"])
def test_a_cell_that_is_another_is_unsupported(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    (file,) = keeping.guests(keep(tmp_path, cell_of("stock")))
    (record,) = restored(tmp_path, file, change=lambda cell: replace(cell, **change))
    assert record["verdict"] == "unsupported", record["reason"]
    assert says in record["reason"]


def test_what_was_seen_of_other_steps_is_no_beginning(tmp_path: Path) -> None:
    vault = keep(tmp_path, cell_of("stock"))
    (file,) = keeping.guests(vault)
    objects, kept = Objects(vault / "objects"), keeping.read(file)
    digest, size = objects.put(b'{"seen": [], "qemus": [], "saved": true}')
    files = kept.said.files | {"beginning": File(sha256=digest, size=size)}
    other, _ = objects.put(kept.said.model_copy(update={"files": files}).dumps())
    for guest in (kept.digest, other):
        qemu, _ = saved_guest.build(SavedSource(vault=vault, guest=guest), Cache(tmp_path / "c"))
        host = Host("h0", qemu, hosts(tmp_path / "images")[0].firmware)
        if guest == kept.digest:
            assert [seen.step for seen in saved.beginning(host).seen] == kept.said.steps
    with pytest.raises(HarnessError, match="has other steps than were seen of it"):
        saved.beginning(host)


def test_no_guest_moves_to_a_saved_one(tmp_path: Path) -> None:
    (file,) = keeping.guests(keep(tmp_path, cell_of("stock")))
    (record,) = restored(tmp_path, file, change=lambda cell: replace(
        cell, hosts=(HostSpec("h1", "q-1"), cell.hosts[0])))
    assert record["verdict"] == "unsupported"
