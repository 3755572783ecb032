"""What other boards and architectures do with firmware, on real QEMUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cells import cell

from harness import boards, scenario
from harness.boards import Loader
from harness.builds import Builds
from harness.guest_files import GuestSetup
from harness.images import ImageStore
from harness.matrix import Matrix, load
from harness.model import Arch, Cell, HostSpec, Nic, RunRecord, Verdict
from harness.runner import Runner

# The newest QEMU, with firmware of two ages: a migration that no board refuses.
FIRMWARE = {
    "isapc": ("ide", "seabios-128k-1.16.2-1", "seabios-128k-1.17.0-1"),
    "microvm": ("virtio", "seabios-microvm-1.16.2-1", "seabios-microvm-1.17.0-1"),
}
VIRT = {Arch.AARCH64: ("virt-11.1", "aavmf-2026.08+ds-2"), Arch.RISCV64: ("virt", "opensbi-1.9-1")}
HALF_MIB = 512 << 10


def moving(machine: str, policy: str = "stock") -> Cell:
    """A cell that migrates and resets on ``machine``, to newer firmware."""
    disk, *firmware = FIRMWARE[machine]
    hosts = tuple(HostSpec(name, "debian-sid", name) for name in firmware)
    return replace(cell("sid sid", policy, machine=machine, disk=disk), hosts=hosts)


def staying(arch: Arch, policy: str) -> Cell:
    """A cell that starts and resets on the virt of sid's QEMU for ``arch``."""
    host = HostSpec("sid", "debian-sid", arch=arch)
    wanted = cell("sid", policy, "reset", VIRT[arch][0], "virtio", seconds=60)
    return replace(wanted, hosts=(host,), arch=arch)


def consoles(record: RunRecord) -> list[str | None]:
    return [boot.console for boot in record.boots]
