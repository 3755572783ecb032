"""Which guests a vault takes, and which files in it are a guest of it. Lives are in test_saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.arguments import ArgumentSet
from bootmatrix.cell import Cell
from bootmatrix.errors import UserError
from bootmatrix.model import Accel, GuestKind, HostSpec, Nic, SavedSource, Tpm
from bootmatrix.run import keeping
from bootmatrix.steps.library import LIBRARY
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from helpers.cells import cell
from helpers.vaults import STARTED, add_guest

DIGEST = "0" * 64
MEMFD = '[-object, "memory-backend-memfd,id=m0,size=200M"]'
WHOLE = f"""schema: 1
hosts:
  "old": {{"saved": {{"guest": "{DIGEST}"}}}}
axes:
  source: old
  machine: pc-q35-5.2
  scenario: restored
scenarios:
  restored: [start, {{migrate: {{channel: file}}}}, reset]
"""


@pytest.mark.parametrize(("change", "says"), [
    ({}, None),
    ({"scenario": LIBRARY["chain"]}, None),
    ({"scenario": LIBRARY["move"]}, "no beginning that can be saved"),
    ({"scenario": LIBRARY["migrate-during-post"]}, "no beginning that can be saved"),
    ({"guest": GuestKind.LINUX}, None),
    ({"guest": GuestKind.LINUX_KERNEL}, "guest linux-kernel"),
    ({"nic": Nic.VIRTIO}, None),
    ({"accel": Accel.TCG_TO_KVM}, "no device of this machine"),
    ({"nic": Nic.VIRTIO_ROMSIZE}, "nic virtio-romsize"),
    ({"arguments": ArgumentSet("m", ("-object", "memory-backend-memfd,id=m"))}, "memory in a file"),
    ({"tpm": Tpm.CRB}, "tpm crb"),
    ({"hosts": (HostSpec("a", SavedSource()), HostSpec("b", "debian-sid"))}, "saved guest already"),
], ids=["usual", "chain", "move", "during-post", "linux", "kernel", "nic", "kvm", "romsize",
        "memfd", "tpm", "saved"])
def test_what_a_vault_takes(change: dict[str, Any], says: str | None) -> None:
    made: Cell = replace(cell("bullseye sid", "stock"), **change)
    found = keeping.unsavable(made)
    assert (found is None) == (says is None), found
    assert (says or "") in (found or "")


def link(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere")


def text(change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda path: path.write_text(change(path.read_text()))  # type: ignore[return-value]


@pytest.mark.parametrize(("change", "says"), [
    (link, "is a symbolic link"),
    (text(lambda old: old.replace(f'"saved": {{"guest": "{DIGEST}"}}', '"qemu": {"path": "/x"}')),
     "in a vault a host is a guest that it holds"),
    (text(lambda old: old.replace(f'"{DIGEST}"', f'"{DIGEST}", "vault": "/etc"')),
     "in a vault a host is a guest that it holds"),
    (text(lambda old: old.replace("axes:", "  more: {qemu: debian-sid}\naxes:")), "has one host"),
    (text(lambda old: old + "guests: {mine: {command-line: /etc/passwd}}\n"),
     "no guests of its own"),
    (text(lambda old: old.replace("axes:", "axes:\n  accel: tcg-to-kvm")), "nothing of accel"),
    (text(lambda old: old + "include:\n  - {source: old, migration: postcopy}\n"),
     "nothing of migration"),
    (text(lambda old: old + "limits: {memory: 1048576}\n"), "no limits of its own"),
    (text(lambda old: old.replace("axes:", f"axes:\n  arguments: {{x: {MEMFD}}}")),
     "arguments ask for no files in memory"),
    (text(lambda old: old + f"include:\n  - {{source: old, devices: {{x: {MEMFD}}}}}\n"),
     "devices ask for no files in memory"),
    (text(lambda old: old + "patience: 1000000000.0\n"), "at most 3600 s"),
    (text(lambda old: old + "boot-timeout: 1.0e+9\n"), "at most 3600 s"),
    (text(lambda old: old.replace(DIGEST, "../../x")), "guest"),
    (text(lambda old: "- no matrix"), "must be a mapping"),
    (lambda path: None, "objects"),
], ids=["link", "path", "elsewhere", "two", "guests", "kvm", "postcopy", "limits", "memfd",
        "memfd-device", "patience", "timeout", "digest", "none", "missing"])
def test_what_is_no_guest_of_a_vault_is_named(
    tmp_path: Path, change: Callable[[Path], None], says: str
) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(WHOLE)
    change(file)
    with pytest.raises(UserError, match=says) as caught:
        keeping.read(file)
    assert str(tmp_path) in str(caught.value)


def test_a_vault_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`bootmatrix vault add` makes a vault"):
        keeping.guests(tmp_path / "none")
    for name in ("b.yaml", "a.yaml", ".hidden.yaml", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in keeping.guests(tmp_path)] == ["a.yaml", "b.yaml"]


@pytest.mark.parametrize(("seen", "says"), [
    ((), "other steps were seen of it"),
    (STARTED * 2, "other steps were seen of it"),
    ((replace(STARTED[0], host=7),), "on a host that it had not been to"),
    ((replace(STARTED[0], boot=BootObserved(7, (), None, "", 1.0, 5.0)),),
     "on a host that it had not been to"),
], ids=["none", "twice", "elsewhere", "boot"])
def test_a_beginning_that_is_not_the_guest_s_is_named(
    tmp_path: Path, seen: tuple[StepObserved, ...], says: str
) -> None:
    """Its bytes are what they were named for: somebody has made it so."""
    with pytest.raises(UserError, match=says) as caught:
        add_guest(tmp_path, "forged", seen=seen)
    assert str(tmp_path / "forged.yaml") in str(caught.value)


@pytest.mark.parametrize(("change", "says"), [
    (text(lambda old: old.replace('}}', '}, "arguments": ["-rtc", "base=utc"]}', 1)),
     "brought along"),
    (text(lambda old: old.replace('"file"', '"file", "capabilities": ["x-ignore-shared"]')),
     "x-ignore-shared is said by the axis"),
    (text(lambda old: old.replace('disk: "virtio"', 'disk: "nonsense"')), "nonsense"),
    (text(lambda old: old.replace('"pc-i440fx-5.2"', '"newest-common"')), "machine type is named"),
], ids=["arguments", "capabilities", "disk", "machine"])
def test_a_matrix_file_that_no_run_would_take_is_named(
    tmp_path: Path, change: Callable[[Path], None], says: str
) -> None:
    kept = add_guest(tmp_path, "good")
    change(kept.path)
    with pytest.raises(UserError, match=says):
        keeping.read(kept.path)
