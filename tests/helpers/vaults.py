"""Vaults with guests that nobody has booted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bootmatrix.run import keeping, sharing
from bootmatrix.run.keeping import VaultEntry
from bootmatrix.run.sharing import Snapshot
from bootmatrix.steps.start import Start
from bootmatrix.vault import Objects, SavedGuest
from bootmatrix.witnesses.observation import StepObserved

SAID: dict[str, Any] = {
    "schema": 1,
    "saved": "2026-11-27T17:00:00+00:00",
    "values": {"machine": "pc-i440fx-5.2", "policy": "stock", "scenario": "restored",
               "disk": "virtio", "accel": "tcg", "arch": "x86_64", "guest": "probe", "cpu": "",
               "smp": 1, "nic": "none", "migration": "precopy"},
    "words": {},
    "memory_mib": 32,
    "steps": [{"start": {"on": "source"}}],
    "qemu": {"version": "7.2.22", "build": "debian-bookworm", "default_machine": "pc-i440fx-7.2"},
    "firmware": {"name": "seabios-1.16.2-1", "machines": [], "features": []},
    "files": {},
}
"""What is said of a guest in schema 1: what stands here is to be read for good."""
BIOS = bytes(0xfff0) + b"\xea" + bytes(15)
MATRIX = """schema: 1
hosts:
  "old": {"saved": {"guest": "%s"}}
axes:
  source: "old"
  machine: "pc-i440fx-5.2"
  policy: ["stock", "reread"]
  scenario: "restored"
  disk: "virtio"
scenarios:
  restored: ["start", {"migrate": {"channel": "file"}}, "reset"]
"""


STARTED = (StepObserved(Start(0), 0.1, 0),)


def said_of(
    objects: Objects, disk: bytes = b"disk", seen: tuple[StepObserved, ...] = STARTED
) -> dict[str, Any]:
    """What is said of a guest whose files are no more than names."""
    begun = sharing.to_json(Snapshot("k", seen, (), Path("saved")))
    contents = {"beginning": begun, "stream": b"stream",
                "disk.img": disk, "firmware": BIOS, "nvram.bin": b"nvram"}
    files = {name: objects.put(content) for name, content in contents.items()}
    return SAID | {"files": {name: {"sha256": digest, "size": size}
                             for name, (digest, size) in files.items()}}


def add_guest(
    vault: Path, name: str, disk: bytes = b"disk", seen: tuple[StepObserved, ...] = STARTED
) -> VaultEntry:
    """Put such a guest into a vault, under a name."""
    objects = Objects(vault / "objects")
    digest, _ = objects.put(SavedGuest.model_validate(said_of(objects, disk, seen)).dumps())
    file = vault / f"{name}.yaml"
    file.write_text(MATRIX % digest)
    return keeping.read(file)
