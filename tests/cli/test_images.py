"""bootmatrix images: what is cached, built and removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cli.main import main
from bootmatrix.roots.cache import Cache
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


@pytest.mark.parametrize(("names", "told"), [
    (["debian-sid", "own"], ["debian-sid", "1 MB of copies of your own builds freed"]),
    (["own", "debian-sid", "own"], ["debian-sid", "1 MB of copies of your own builds freed"]),
    (["own"], ["1 MB of copies of your own builds freed"]),
], ids=str)
def test_copies_of_own_builds_may_stand_beside_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    names: list[str], told: list[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("bootmatrix.engines.docker.remove_images", lambda names, home: 0)
    cache = Cache(tmp_path / "bootmatrix" / "own")

    def fill(place: Path) -> None:
        (place / "bios.bin").write_bytes(bytes(1_000_000))

    copy = cache.entry("firmware-0123456789abcdef", fill)
    cache.close()
    monkeypatch.setattr(ImageStore, "remove", lambda store, names: print(*names) or 0
                        if names else 0)
    assert main(["images", "rm", *names]) == 0
    assert not copy.exists()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line not in ("0 MB freed", "")] == told
    assert main(["images", "rm", "own", "nope"]) == 2
    assert "no such QEMU build: nope (builds: " in capsys.readouterr().err
