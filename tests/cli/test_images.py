"""bootmatrix images: what is cached, built and removed."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.commands import bootmatrix


def test_images(here: Path) -> None:
    done = bootmatrix(here, "images", "list")
    assert done.stdout.splitlines() == [
        "NAME             SUITE     QEMU   FIRMWARE   SIZE    BUILT       SHA256",
        "debian-bullseye  bullseye  5.2.0  seabios-1  185 MB  2026-01-01  abababababab",
        "debian-bookworm  bookworm                            not built",
        "debian-sid       sid       5.2.0  seabios-1  185 MB  2026-01-01  abababababab",
        "",
        "2 of 3 built, 370 MB"]
    assert len(json.loads(bootmatrix(here, "images", "list", "--json").stdout)) == 3
    assert bootmatrix(here, "images", "list", "nope").returncode == 2
    assert bootmatrix(here, "images", "build", "debian-sid").stdout == "1 image there\n"
    assert bootmatrix(here, "images", "build").returncode == 3
    assert bootmatrix(here, "images", "rm", "debian-sid").stdout == (
        "185 MB freed, 1 image removed from the Docker engine\n")
    assert bootmatrix(here, "images", "rm", "nope").returncode == 2
