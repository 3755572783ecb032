"""What a host's QEMU and firmware cannot be, as far as can be told by looking."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bootmatrix.builds.host import Builds, own_usage
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.errors import UserError
from bootmatrix.model import Arch, FirmwareSource, HostSpec, QemuSource


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    """Of the catalogue, and none of them is built."""
    return Builds(ImageStore(cache=tmp_path / "cache"), tmp_path / "cache")


@pytest.mark.parametrize(("host", "field", "says"), [
    (HostSpec("a", "debian-potato"), "qemu", "no such QEMU build: 'debian-potato'"),
    (HostSpec("a", QemuSource(suite="Trixie!")), "qemu", "'Trixie!' is no name of a suite"),
    (HostSpec("a", QemuSource(suite="trixie", package_version="new")), "qemu",
     "'new' is no version of a Debian package"),
    (HostSpec("a", QemuSource(suite="trixie"), arch=Arch.AARCH64), "qemu",
     "QEMUs of your own are those of PCs"),
    (HostSpec("a", QemuSource(path=Path("/nowhere"))), "qemu", "/nowhere"),
    (HostSpec("a", QemuSource(root=Path("/nowhere"))), "qemu", "/nowhere is not there"),
    (HostSpec("a", QemuSource(root=Path(__file__).parent)), "qemu", "holds no QEMU"),
    (HostSpec("a", "debian-sid", FirmwareSource(Path("/nowhere/bios.bin"))), "firmware",
     "/nowhere/bios.bin"),
    (HostSpec("a", "debian-sid", "coreboot-9.9"), "firmware", "coreboot-9.9"),
    (HostSpec("a", QemuSource(image="mine:latest"), "ovmf-4m"), "firmware",
     "ovmf-4m is the one beside a QEMU of Debian's"),
])
def test_a_build_that_cannot_be_is_told_with_its_place(
    builds: Builds, host: HostSpec, field: str, says: str
) -> None:
    at: list[str] = []

    def place(host: HostSpec, field: str, error: UserError) -> UserError:
        at.append(field)
        return UserError(f"{host.name}.{field}: {error}")

    with pytest.raises(UserError) as caught:
        builds.check([HostSpec("good", "debian-bookworm"), host], place)
    assert at == [field]
    assert str(caught.value).startswith(f"a.{field}: ")
    assert says in str(caught.value)
    with pytest.raises(UserError, match=re.escape(says)):
        builds.check([host])


def test_what_is_missing_is_named_once(builds: Builds) -> None:
    hosts = [HostSpec("a", "debian-sid"), HostSpec("b", "debian-bookworm"),
             HostSpec("c", "debian-sid"), HostSpec("d", QemuSource(path=Path("/nowhere")))]
    assert builds.missing(hosts) == ("debian-sid", "debian-bookworm")
    assert builds.missing(hosts[3:]) == ()


def test_a_cache_without_own_builds_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert own_usage() == 0
