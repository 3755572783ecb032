"""A guest that another run has saved, as the beginning of a cell: as if it shared that run's.

That can be a run of last year, or of another machine: the guest's files come out of a vault
(bootmatrix.vault), and what a cell of it must be like is said there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bootmatrix import vault
from bootmatrix.cell import AXES, Cell
from bootmatrix.errors import HarnessError
from bootmatrix.model import Accel, Channel, Host, SavedSource
from bootmatrix.policies import Policy
from bootmatrix.run.sharing import BEGINNING, GUEST, Snapshot, from_json
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.reset import Reset
from bootmatrix.vault import SavedGuest

# What may differ: the rest of its life, and what QEMU it goes on in.
_FREE = ("policy", "scenario", "migration", "accel")


def beginning(host: Host) -> Snapshot:
    """The guest that was saved on a host, and what was seen of it until then.

    Raises HarnessError where that is not what was done to it.
    """
    assert host.qemu.saved is not None
    directory = host.qemu.saved
    found = from_json(directory / BEGINNING, host.qemu.digest[:16], directory)
    if [seen.step for seen in found.seen] != vault.unpacked(directory).steps:
        raise HarnessError(f"the saved guest {host.qemu.digest[:16]} has other steps than were "
                           "seen of it")
    return Snapshot(found.key, found.seen, found.qemus, directory / GUEST)


def reason(cell: Cell, hosts: Sequence[Host]) -> str | None:
    """Why a cell cannot go on with a saved guest; None if it can, or begins otherwise."""
    if any(isinstance(host.qemu, SavedSource) for host in cell.hosts[1:]):
        return "a saved guest is where a cell begins: no guest moves to it"
    saved = hosts[0].qemu.saved
    return None if saved is None else next(_reasons(cell, vault.unpacked(saved)), None)


def _reasons(cell: Cell, said: SavedGuest) -> Iterator[str]:
    values = {name: axis.plain(axis.default) for name, axis in AXES.items()
              if axis.default is not None} | said.values
    for name, value in cell.values.items():
        if name not in _FREE and values.get(name) != value:
            yield f"the saved guest has {name} {values.get(name)!r}, the cell {value!r}"
    words = {name: list(getattr(cell, name).words) for name in ("arguments", "devices")}
    for name, found in words.items():
        if found != said.words.get(name, []):
            yield f"the saved guest has other {name}"
    if cell.accel.on(0) is not Accel(str(values["accel"])):
        yield f"the saved guest ran with {values['accel']}, the cell begins with {cell.accel.on(0)}"
    done, rest = cell.scenario.steps[:len(said.steps)], cell.scenario.steps[len(said.steps):]
    if list(done) != said.steps or not rest or not (
            isinstance(rest[0], Migrate) and rest[0].channel is Channel.FILE):
        kinds = ", ".join(step.kind for step in said.steps)
        yield (f"the saved guest has done {kinds}: a scenario goes on with "
               "migrate: {channel: file}")
    yield from _of_policy(cell.policy, said)


def _of_policy(policy: Policy, said: SavedGuest) -> Iterator[str]:
    """Until its first reset all that counts of a policy is where the firmware lies."""
    its = Policy(str(said.values["policy"]))
    same = policy.model.how.nvram == its.model.how.nvram
    if not same or (policy is not its and any(isinstance(step, Reset) for step in said.steps)):
        yield f"the saved guest was one of {its}, and {policy} would have had another"
