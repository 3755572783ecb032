"""A saved guest as a build: what its QEMU was, and its firmware, without either being here."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.builds.saved_guest import firmware_source
from bootmatrix.errors import UserError
from bootmatrix.model import HostSpec, SavedSource
from bootmatrix.run.keeping import VaultEntry
from bootmatrix.vault import Objects, SavedGuest
from bootmatrix.vault.guest import FileName
from helpers.vaults import BIOS, add_guest, said_of


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    """Of the catalogue, and none of them is built."""
    return Builds(ImageStore(cache=tmp_path / "cache"), tmp_path / "cache")


def host_of(vault: Path, guest: str) -> HostSpec:
    return HostSpec("old", SavedSource(vault=vault, guest=guest))


def test_it_is_what_was_said_of_it(builds: Builds, tmp_path: Path) -> None:
    kept: VaultEntry = add_guest(tmp_path / "vault", "one")
    spec = host_of(tmp_path / "vault", kept.digest)
    builds.check([spec])
    builds.prepare([spec])
    host = builds.host(spec)
    assert (host.qemu.version, host.qemu.name, host.qemu.digest) == (
        "7.2.22", "debian-bookworm", kept.digest)
    assert (host.qemu.machines, host.qemu.default_machine) == (
        ("pc-i440fx-5.2",), "pc-i440fx-7.2")
    assert not host.qemu.catalogued, "its sandboxes are used once"
    assert host.firmware.name == "seabios-1.16.2-1"
    assert host.firmware.path.read_bytes() == BIOS
    assert host.qemu.saved is not None
    assert (host.qemu.saved / "guest" / "stream").read_bytes() == b"stream"
    assert builds.machines(spec) == ("pc-i440fx-5.2",)


def test_what_it_owned_tells_whether_its_firmware_was_in_flash(tmp_path: Path) -> None:
    said = SavedGuest.model_validate(said_of(Objects(tmp_path / "objects")))
    file = said.files["firmware"]
    known: list[tuple[tuple[FileName, ...], bool]] = [
        ((), False), (("nvram.bin",), True), (("flash.fd",), True),
        (("vars.fd", "variables"), True)]
    for owned, flash in known:
        files = {"firmware": file, **dict.fromkeys(owned, file)}
        source = firmware_source(tmp_path, said.model_copy(update={"files": files}))
        assert source.flash is flash


def test_what_cannot_be_one_is_told(builds: Builds, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    kept = add_guest(vault, "one")
    with pytest.raises(UserError, match="No such file"):
        builds.check([host_of(vault, "0" * 64)])
    objects = Objects(vault / "objects")
    said = said_of(objects)
    said["values"] = said["values"] | {"arch": "sparc"}
    odd, _ = objects.put(SavedGuest.model_validate(said).dumps())
    with pytest.raises(UserError, match="is of no architecture that is known"):
        builds.check([host_of(vault, odd)])
    objects.path(kept.said.files["stream"].sha256).write_bytes(b"")
    with pytest.raises(UserError, match="cut off"):
        builds.prepare([host_of(vault, kept.digest)])
    assert not [*(tmp_path / "cache" / "own").glob("saved-*-*")], "nothing is half there"
