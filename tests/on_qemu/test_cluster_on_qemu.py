"""Real cells on a machine that has nothing: what it lacks comes to it, encrypted, by content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import ImageStore, cache_home
from bootmatrix.errors import Status
from bootmatrix.guests import probe_disk
from helpers.clusters import Network
from helpers.own_builds import sid_firmware

pytestmark = pytest.mark.slow

MATRIX = """
schema: 1
hosts:
  old: {qemu: debian-bookworm}
  mine: {qemu: debian-bookworm, firmware: {path: bios.bin}, arguments: [-rtc, base=utc]}
guests:
  mine: {disk: disk.img, format: raw, up: "BOOTMATRIX beat boot="}
axes: {source: old, destination: mine, machine: "pc-i440fx-7.2,usb=off",
       policy: [stock, machine-owned], scenario: migrate-reset, disk: virtio,
       guest: [probe, mine], memory: 64, devices: {usb: [qemu-xhci, usb-tablet]}}
"""


def certificates(home: Path, place: Path) -> None:
    """An authority, and a certificate of its for all machines of a test."""
    place.mkdir()
    for argv in (
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
         "-days", "2", "-subj", "/CN=test"],
        ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "one.csr",
         "-subj", "/CN=bootmatrix"],
        ["x509", "-req", "-in", "one.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
         "-CAcreateserial", "-out", "cert.pem", "-days", "2"],
    ):
        subprocess.run(["openssl", *argv], cwd=place, check=True, capture_output=True)
    for name in ("ca.key", "one.csr"):
        (place / name).unlink()


def test_a_machine_that_has_nothing_runs_cells_by_tls(store: ImageStore, tmp_path: Path) -> None:
    certificates(tmp_path, tmp_path / "certs")
    (tmp_path / "bios.bin").write_bytes(sid_firmware(store))
    (tmp_path / "disk.img").write_bytes(probe_disk("A", cache_home()).read_bytes())
    (tmp_path / "m.yaml").write_text(MATRIX)
    with Network(tmp_path) as network:
        scheduler, machine = network.machine(2), network.machine(3)
        certs = tmp_path / "certs"
        address = scheduler.scheduler(certs).address
        assert address.startswith("tls://")
        machine.worker(address, "bare", 1, None, "--cluster-tls", str(certs))
        refused = subprocess.run(
            [sys.executable, "-m", "bootmatrix", "run", "m.yaml", "--insecure", "--cluster",
             address.replace("tls://", "tcp://")], cwd=tmp_path, capture_output=True, text=True,
            timeout=120)
        assert refused.returncode == Status.RIG_BROKEN, refused.stdout + refused.stderr
        assert "no scheduler answers" in refused.stdout
        done = subprocess.run(
            [sys.executable, "-m", "bootmatrix", "run", "m.yaml", "--cluster", address,
             "--cluster-tls", str(certs), "--run-dir", "run", "--all-artifacts"], cwd=tmp_path,
            capture_output=True, text=True, timeout=240, env={**os.environ})
        told = done.stdout + done.stderr + (tmp_path / "bare.log").read_text()
        assert done.returncode == Status.GREEN, told
        assert "bare: gets debian-bookworm, " in done.stdout
        own = machine.cache / "bootmatrix/own"
        assert len(list(own.glob("tree-*[0-9a-f]"))) == 1, "one image, however many cells"
    lines = (tmp_path / "run/records.jsonl").read_text().splitlines()
    records = list(map(json.loads, lines))
    firmware = {(record["cell"]["guest"], record["cell"]["policy"]): record["boots"][-1]["console"]
                for record in records}
    seabios = store.beside("debian-bookworm", "seabios")
    for guest in ("probe", "mine"):
        assert firmware[guest, "stock"] == seabios.name
        assert firmware[guest, "machine-owned"].startswith("bios-")
    for record in records:
        assert record["worker"] == "bare"
        argv = " ".join(record["qemus"][-1]["argv"])
        for words in (",usb=off", "-m 64", "usb-tablet", "-rtc base=utc"):
            assert words in argv
        assert ("backing=base" in argv) == (record["cell"]["guest"] == "mine")
        assert str(machine.cache) not in json.dumps(record), "a path of that machine"
        assert list((tmp_path / "run" / record["artifacts"]).glob("*/console.log"))
