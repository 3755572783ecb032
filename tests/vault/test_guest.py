"""What is said of a saved guest: the same in a year, and within bounds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import UserError
from bootmatrix.steps.start import Start
from bootmatrix.vault import Objects, SavedGuest, guest
from helpers.vaults import SAID, said_of


def keep(objects: Objects, said: dict[str, Any]) -> str:
    return objects.put(json.dumps(said).encode())[0]


def test_what_was_kept_is_read_and_unpacked(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects")
    found = guest.read(objects, keep(objects, said_of(objects)))
    assert found.steps == [Start(0)]
    assert objects.put(found.dumps()) == objects.put(SavedGuest.model_validate(
        said_of(objects)).dumps())
    found.check(objects)
    (tmp_path / "made").mkdir()
    guest.unpack(objects, found, tmp_path / "made")
    names = sorted(str(path.relative_to(tmp_path / "made"))
                   for path in (tmp_path / "made").rglob("*") if path.is_file())
    assert names == ["beginning", "disk.img", "firmware", "guest/host/nvram.bin", "guest/stream",
                     "said.json"]
    assert guest.unpacked(tmp_path / "made") == found


@pytest.mark.parametrize(("change", "says"), [
    ({"schema": 2}, "schema 2"),
    ({"more": 1}, "more: Extra inputs"),
    ({"files": {"../../etc/passwd": {"sha256": "0" * 64, "size": 1}}}, "files"),
    ({"files": {"stream": {"sha256": "../" * 10, "size": 1}}}, "sha256"),
    ({"files": {"stream": {"sha256": "0" * 64, "size": 1 << 40}}}, "size"),
    ({"files": {}}, "it has no beginning"),
    ({"qemu": SAID["qemu"] | {"version": "7.2; rm"}}, "qemu.version"),
    ({"firmware": {"name": "a/b"}}, "firmware.name"),
    ({"steps": ["reboot"]}, "steps"),
    ({"steps": []}, "steps"),
    ({"memory_mib": 1 << 30}, "memory_mib"),
], ids=str)
def test_what_it_cannot_be_is_told(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    objects = Objects(tmp_path / "objects")
    digest = keep(objects, said_of(objects) | change)
    with pytest.raises(UserError, match=says) as caught:
        guest.read(objects, digest)
    assert digest in str(caught.value)


@pytest.mark.parametrize("text", [b"[]", b"{", b"[" * 100_000, b"\xff", b"1" * 10_000], ids=len)
def test_what_is_no_json_of_ours_is_told(tmp_path: Path, text: bytes) -> None:
    objects = Objects(tmp_path / "objects")
    with pytest.raises(UserError, match="is no saved guest"):
        guest.read(objects, objects.put(text)[0])


def test_a_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects")
    found = guest.read(objects, keep(objects, said_of(objects)))
    damage: Callable[[bytes], bytes] = lambda packed: packed[:-1]  # noqa: E731
    stream = objects.path(found.files["stream"].sha256)
    stream.write_bytes(damage(stream.read_bytes()))
    with pytest.raises(UserError, match=stream.name):
        found.check(objects)
