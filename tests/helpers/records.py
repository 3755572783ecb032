"""Run records as they are kept, of cells that nobody has run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bootmatrix.model import RECORD_SCHEMA

HOSTS = {
    "bullseye": ("5.2.0", "seabios-1.14.0-2"),
    "bookworm": ("7.2.22", "seabios-1.16.2-1"),
    "trixie": ("10.0.13", "seabios-1.16.3-2"),
    "sid": ("11.1.3", "seabios-1.17.0-1"),
}
POLICIES = ("stock", "guest-owned", "guest-owned-versioned", "machine-owned", "reread")
ROLES = ("source", "destination", "host-3")


def record(hosts: str = "bullseye sid", policy: str = "guest-owned", verdict: str = "pass",
           known: str | None = None, reason: str = "", **cell: Any) -> Any:
    """A cell that was migrated and reset, between hosts of HOSTS; ``cell`` are its axes."""
    names = hosts.split()
    values = {"machine": "pc-q35-5.2", "scenario": "migrate-reset", "disk": "ahci",
              "accel": "tcg", "policy": policy} | cell
    firmware = [HOSTS[name][1] for name in names]
    last = firmware[-1] if policy in ("machine-owned", "reread") else firmware[0]
    if verdict == "wrong-firmware":
        last = "sha256:0123456789abcdef"
    seen = None if verdict == "silent" else last
    described: dict[str, Any] = {
        "id": ",".join(("-to-".join(names), values["machine"], policy, values["scenario"]))}
    for role, name in zip(ROLES, names, strict=False):
        described[role] = {"host": name, "qemu": HOSTS[name][0], "firmware": HOSTS[name][1],
                           "build": f"debian-{name}"}
    return {
        "schema": RECORD_SCHEMA, "cell": described | values, "verdict": verdict, "reason": reason,
        "known": known, "matrix": "matrices/m.yaml", "seconds": 0.4, "artifacts": "cells/x",
        "boots": [
            {"n": 1, "step": "start", "host": "source", "expected": firmware[0],
             "console": firmware[0], "rom": firmware[0], "up": True, "seconds": 0.041},
            {"n": 2, "step": "reset", "host": "destination", "expected": last,
             "console": seen, "rom": last, "up": verdict == "pass", "seconds": 3.0}],
    }


def all_pairs() -> list[Any]:
    """The quickstart: each host to each other, under each policy, on two machine types."""
    return [record(f"{a} {b}", policy, machine=machine) for a in HOSTS for b in HOSTS if a != b
            for policy in POLICIES for machine in ("pc-q35-5.2", "pc-i440fx-5.2")]


def changed(index: int, **values: Any) -> list[Any]:
    """All pairs, one of which has other values."""
    records = all_pairs()
    records[index] = records[index] | values
    return records


def failing() -> Any:
    """A cell whose guest did not come back, with its steps and its QEMU."""
    told = record(verdict="silent", reason="boot 2 (reset on destination): nothing <b>came</b>")
    told["cell"]["id"] = "bullseye-to-sid,pc-q35-5.2,guest-owned,migrate-reset,ahci"
    told["steps"] = [
        {"step": "start", "seconds": 0.9, "outcome": "ok", "host": "source"},
        {"step": "migrate", "seconds": 0.06, "outcome": "completed", "host": "destination",
         "rom": "seabios-1.14.0-2"},
        {"step": "reset", "seconds": 3.0, "outcome": "ok", "host": "destination"}]
    told["qemus"] = [{"role": "source", "version": "5.2.0", "argv": ["qemu", "-m", "32 M"]}]
    told["black_box"] = "loops in 0x10-0x18 <b>"
    told["layout_mismatch"] = "the code is of another <b>layout</b>"
    return told


def refusing(one: dict[str, Any]) -> Any:
    """A record whose migration QEMU refused, as it must."""
    steps = [{"step": "start", "outcome": "ok", "host": "source"},
             {"step": "migrate", "outcome": "refused: machine-type: no", "host": "source"}]
    return one | {"reason": "QEMU refused the migrate, as it must (machine-type)",
                  "boots": one["boots"][:1], "steps": steps}


def of_two_matrices() -> list[Any]:
    """Cells of one id, which a and b have; b's fails, and takes longer."""
    return [record() | {"matrix": "a.yaml", "seconds": 1.0},
            record(verdict="silent", reason="nothing") | {"matrix": "b.yaml", "seconds": 9.0}]


def write(path: Path, records: Any) -> Path:
    """A records file of them."""
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path
