"""Builds by their content: what goes to another machine, and what is taken there."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cluster.table import (
    BuildCache,
    Packing,
    Sent,
    SentBuilds,
    TreeRef,
    boards_of,
    read_table,
)
from bootmatrix.errors import HarnessError, ImageError, UserError
from bootmatrix.model import BoardSource, FirmwareSource, HostSpec
from bootmatrix.roots.cache import Cache
from bootmatrix.roots.manifest import Manifest
from helpers.clusters import a_task


def tree_in(home: Path) -> Sent:
    """A small tree, as a cache has it."""
    def fill(directory: Path) -> None:
        (directory / "bin").mkdir()
        (directory / "bin/qemu").write_text("#!")
        (directory / "bin/qemu").chmod(0o755)
        (directory / "link").symlink_to("bin/qemu")

    place = Cache(home).entry("qemu-1", fill)
    return Sent(Manifest.of(place).digest, place, is_tree=True)


def test_a_tree_and_a_file_come_as_they_were(store: ImageStore, tmp_path: Path) -> None:
    sent = tree_in(tmp_path / "here")
    kept = BuildCache(tmp_path / "there", store)
    assert not kept.has(sent.digest)
    packed = io.BytesIO()
    sent.write(packed)
    packed.seek(0)
    kept.take(sent.digest, True, packed)
    assert Manifest.of(kept.path(sent.digest)).digest == sent.digest
    assert (kept.path(sent.digest) / "link").readlink() == Path("bin/qemu")
    kept.close()


@pytest.mark.parametrize("is_tree", [True, False])
def test_what_is_not_what_it_was_called_is_not_taken(
    store: ImageStore, tmp_path: Path, is_tree: bool
) -> None:
    sent = tree_in(tmp_path / "here")
    packed = io.BytesIO()
    sent.write(packed)
    packed.seek(0)
    kept = BuildCache(tmp_path / "there", store)
    with pytest.raises(ImageError, match="has the sha256"):
        kept.take("0" * 64, is_tree, packed)
    assert not kept.has("0" * 64)


def test_what_was_damaged_since_is_not_there(store: ImageStore, tmp_path: Path) -> None:
    file = tmp_path / "bios"
    file.write_bytes(b"firmware")
    digest = hashlib.sha256(b"firmware").hexdigest()
    first = BuildCache(tmp_path / "there", store)
    first.take(digest, False, io.BytesIO(b"firmware"))
    first.path(digest).write_bytes(b"firmwar3")
    first.close()
    assert not BuildCache(tmp_path / "there", store).has(digest)


def test_hosts_are_found_by_content(store: ImageStore, tmp_path: Path) -> None:
    bios = tmp_path / "bios.bin"
    bios.write_bytes(store.beside("debian-sid", "seabios").path.read_bytes())
    with Builds(store, tmp_path / "own") as builds:
        host = builds.host(HostSpec("new", "debian-bookworm", FirmwareSource(bios, name="mine")))
        packing = Packing()
        key = packing.key(host)
        table = read_table(packing.table(builds.firmwares()).model_dump_json().encode())
    assert str(tmp_path) not in table.model_dump_json(), "no path of this machine goes along"
    assert table.named[host.qemu.digest] == "debian-bookworm"
    kept = BuildCache(tmp_path / "there", store)
    for digest in table.files:
        kept.take(digest, False, io.BytesIO(packing.sent[digest].path.read_bytes()))
    there = SentBuilds(store, table, kept, {})
    same = there.host(HostSpec("new", key))
    assert (same.qemu.root, same.qemu.machines) == (host.qemu.root, host.qemu.machines)
    assert same.firmware.path.read_bytes() == bios.read_bytes()
    assert (same.firmware.name, same.firmware.sha256) == (host.firmware.name, host.firmware.sha256)
    with pytest.raises(HarnessError, match="not in the run's table"):
        there.host(HostSpec("new", "0" * 64))
    there.close()


def test_a_disk_of_the_users_is_found_by_content(store: ImageStore, tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(4096))
    packing = Packing()
    digest = packing.disk(image)
    assert digest == hashlib.sha256(bytes(4096)).hexdigest()
    table = read_table(packing.table(()).model_dump_json().encode())
    assert digest in table.files
    kept = BuildCache(tmp_path / "there", store)
    sent = io.BytesIO()
    packing.sent[digest].write(sent)
    sent.seek(0)
    kept.take(digest, False, sent)
    there = SentBuilds(store, table, kept, {})
    assert there.disk(digest).read_bytes() == bytes(4096)
    with pytest.raises(HarnessError, match="not in the run's table"):
        there.disk("0" * 64)
    there.close()
    with pytest.raises(UserError, match="cannot be read"):
        packing.disk(tmp_path / "none.raw")


@pytest.mark.parametrize("below", ["../x", "/etc", "a/../../b"])
def test_a_place_stays_in_its_tree(below: str) -> None:
    with pytest.raises(HarnessError, match="leaves its tree"):
        TreeRef(tree="0" * 64, below=below).within(Path("/tree"))


def test_what_is_no_table_is_refused(store: ImageStore, tmp_path: Path) -> None:
    _, _, table = a_task(tmp_path)
    for data in (b"", b"{}", table.model_dump_json().replace('"hosts"', '"guests"').encode()):
        with pytest.raises(HarnessError, match="no table of builds"):
            read_table(data)


def env_in(home: Path) -> Path:
    """An environment file of two boards."""
    home.mkdir()
    file = home / "apu2.yaml"
    file.write_text("targets:\n  main: {drivers: {SerialDriver: {}}}\n  other: {}\n")
    return file


def test_a_board_is_known_by_what_is_in_its_file_and_is_used_by_that_of_its_bench(
    store: ImageStore, tmp_path: Path
) -> None:
    here, there = (env_in(tmp_path / name) for name in ("here", "there"))
    spec = HostSpec("board", BoardSource(env=here, restore=True), "seabios-1.16.3")
    packing = Packing()
    with Builds(store, tmp_path / "own") as builds:
        host = builds.host(spec)
        key = packing.key(host)
        table = read_table(packing.table(builds.firmwares()).model_dump_json().encode())
    assert table.trees == []
    assert str(here) not in table.model_dump_json()
    boards = boards_of([there])
    assert [source.target for source in boards.values()] == ["main", "other"]
    assert boards[host.qemu.digest].env == there
    kept = BuildCache(tmp_path / "cache", store)
    for digest in table.files:
        with packing.sent[digest].path.open("rb") as file:
            kept.take(digest, False, file)
    sent = SentBuilds(store, table, kept, boards)
    qemu = sent.host(HostSpec("board", key)).qemu
    assert qemu == replace(host.qemu, board=BoardSource(env=there, restore=True))
    there.write_text(there.read_text() + "# moved\n")
    for known in (boards, {}):
        with pytest.raises(HarnessError, match="is not on this machine's bench"):
            SentBuilds(store, table, kept, known).host(HostSpec("board", key))
    sent.close()
