"""The doctor, asked for real, and with something wrong that it must find."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix import engines
from bootmatrix.builds import image_store
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.diagnose import doctor
from bootmatrix.diagnose.doctor import Finding, Health, examine
from bootmatrix.engines import Engine, confinement
from bootmatrix.errors import QemuError, UserError
from bootmatrix.model import Accel, FirmwareBuild, Interface, QemuBuild, QemuSource
from helpers.own_builds import build_tree

Usage = namedtuple("Usage", "total used free")


def findings(engine: str | None = "bubblewrap", store: ImageStore | None = None) -> dict[
    str, Finding
]:
    return {finding.what: finding for finding in examine(engine, store)}


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("bootmatrix")
    return subprocess.run([script, "doctor", *arguments], capture_output=True, text=True,
                          timeout=300, env=os.environ | environment)


@pytest.fixture(autouse=True)
def _kvm_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A boot under KVM takes seconds where it is nested: one, in a process of its own, will do."""
    monkeypatch.setattr(doctor, "kvm_complaint", lambda: "not in this test")


@pytest.fixture(autouse=True)
def _images_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """All bytes of a dozen images and builds, each time: in a process of its own they are, once."""
    monkeypatch.setattr(ImageStore, "check", lambda store, name, *, whole=False: None)
    monkeypatch.setattr(doctor, "damaged_own", list)


@pytest.fixture
def _nothing_is_booted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "boot_seconds", lambda *arguments: 0.1)


@pytest.mark.thorough
def test_this_machine_for_real(store: ImageStore, tmp_path: Path) -> None:
    """Without a Docker engine, which is no failure; and nothing is left behind."""
    (tmp_path / "tmp").mkdir()
    done = command(DOCKER_HOST=f"unix://{tmp_path}/no.sock", TMPDIR=str(tmp_path / "tmp"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    accelerator tcg: debian-sid boots in " in done.stdout
    assert "ok    engine bubblewrap: works" in done.stdout
    assert "warn  engine docker: docker: no engine answers" in done.stdout
    assert "mend it: start a Docker engine" in done.stdout
    old = store.qemu("debian-bullseye")
    assert f"ok    image debian-bullseye: QEMU {old.version}, {old.firmware} (+" in done.stdout
    # KVM was decided by booting, if it can be used at all; either way it is told.
    complaint = confinement.kvm_complaint()
    words = f"warn  accelerator kvm: cannot be used: {complaint}" if complaint else \
        r"(ok  |warn)  accelerator kvm: (debian-sid boots in|cannot be used: )"
    assert re.search(words, done.stdout), done.stdout
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.docker
def test_docker_for_real(store: ImageStore) -> None:
    found = findings("docker")
    assert found["engine docker"].state is Health.OK
    assert found["accelerator tcg"].state is Health.OK


def test_missing_tools(monkeypatch: pytest.MonkeyPatch, store: ImageStore) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: (
        None if name in doctor.PACKAGES else which(name)))
    found = findings()
    assert found["tool nasm"].state is Health.FAIL
    assert found["tool nasm"].mend == "apt install nasm"
    assert found["tool mmdebstrap"].state is Health.WARN  # all images are built
    assert found["tool bwrap"].mend == "apt install bubblewrap"
    assert found["engine bubblewrap"].state is Health.WARN
    assert found["engine"].state is Health.FAIL
    assert found["accelerator"].found == "not tried: no engine works"


def test_an_empty_cache(tmp_path: Path) -> None:
    done = command("--json", "--engine", "bubblewrap", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0
    rows = json.loads(done.stdout)
    assert [row["what"] for row in rows if row["what"].startswith("engine")] == [
        "engine bubblewrap"]
    for row in rows:
        assert set(row) == {"what", "state", "found", "mend"}
        assert bool(row["mend"]) == (row["state"] != "ok"), row
        assert "\n" not in row["found"] + row["mend"]
    found = {row["what"]: row for row in rows}
    assert found["image debian-sid"] == {
        "what": "image debian-sid", "state": "warn",
        "found": "not built; a run that needs it does so",
        "mend": "bootmatrix images build debian-sid",
    }  # fmt: skip
    assert found["accelerator"]["found"] == "not tried: no image is built yet"
    assert not (tmp_path / "cache").exists()  # it only looks


@pytest.mark.usefixtures("_nothing_is_booted")
def test_no_room(monkeypatch: pytest.MonkeyPatch, store: ImageStore, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12, 10**8))
    assert findings()["disk space"].state is Health.FAIL
    assert "XDG_CACHE_HOME" in findings()["disk space"].mend
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12, 10**9))
    assert findings()["disk space"].state is Health.OK
    empty = ImageStore(cache=tmp_path)
    assert findings(store=empty)["disk space"].state is Health.WARN
    assert findings(store=empty)["tool mmdebstrap"].state is Health.OK


class Broken(ImageStore):
    """A store whose firmware does nothing, as one whose cache went bad."""

    path: Path

    def firmware(self, name: str) -> FirmwareBuild:
        return replace(super().firmware(name), path=self.path)


def test_a_firmware_that_does_not_boot(
    monkeypatch: pytest.MonkeyPatch, store: ImageStore, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "BOOT_SECONDS", 1.0)
    broken = Broken()
    broken.path = tmp_path / "bios.bin"
    broken.path.write_bytes(bytes(256 * 1024 - 16) + b"\xf4\xeb\xfd" + bytes(13))  # hlt, again
    tcg = findings(store=broken)["accelerator tcg"]
    assert tcg.state is Health.FAIL
    assert tcg.found == (
        "debian-sid: no firmware boots within 1 s; the console said 'nothing'")


@pytest.mark.parametrize(("seconds", "state", "words"), [
    (0.05, Health.OK, "debian-sid boots in 0.05 s"),
    (2.8, Health.WARN, "debian-sid boots in 2.80 s, 28 times as long as under tcg"),
])
def test_kvm_is_measured_against_tcg(
    monkeypatch: pytest.MonkeyPatch, store: ImageStore, seconds: float, state: Health, words: str
) -> None:
    def took(engine: Engine, build: QemuBuild, firmware: FirmwareBuild, accel: Accel) -> float:
        return seconds if accel is Accel.KVM else 0.1

    monkeypatch.setattr(doctor, "boot_seconds", took)
    monkeypatch.setattr(doctor, "kvm_complaint", lambda: None)
    kvm = findings()["accelerator kvm"]
    assert (kvm.state, kvm.found) == (state, words)


@pytest.mark.usefixtures("_nothing_is_booted")
def test_kvm_that_cannot_be_used_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, store: ImageStore
) -> None:
    monkeypatch.setattr(doctor, "kvm_complaint", lambda: "this user cannot open /dev/kvm: no")
    kvm = findings()["accelerator kvm"]
    assert (kvm.state, kvm.found) == (
        Health.WARN, "cannot be used: this user cannot open /dev/kvm: no")


@pytest.mark.parametrize(("seconds", "state"), [(0.1, Health.OK), (2.8, Health.WARN)])
def test_kvm_is_tried_with_uefi_firmware_too(
    monkeypatch: pytest.MonkeyPatch, store: ImageStore, seconds: float, state: Health
) -> None:
    """OVMF dies on nested hosts on which SeaBIOS boots, slowly: docs/stock-qemu.md."""
    def took(engine: Engine, build: QemuBuild, firmware: FirmwareBuild, accel: Accel) -> float:
        if accel is Accel.KVM and firmware.interface is Interface.UEFI:
            raise QemuError("KVM: entry failed, hardware error 0x80000021")
        return seconds if accel is Accel.KVM else 0.1

    monkeypatch.setattr(doctor, "boot_seconds", took)
    monkeypatch.setattr(doctor, "kvm_complaint", lambda: None)
    found = findings()
    assert found["accelerator kvm"].state is state
    assert found["accelerator kvm, UEFI"].state is Health.WARN
    assert "hardware error" in found["accelerator kvm, UEFI"].found


@pytest.mark.thorough
def test_a_uefi_firmware_boots(store: ImageStore) -> None:
    build = store.qemu("debian-sid")
    with engines.choose("bubblewrap") as engine:
        took = doctor.boot_seconds(engine, build, store.beside(build.name, doctor.UEFI), Accel.TCG)
    assert 0.5 < took < doctor.UEFI_SECONDS


def test_a_catalogue_with_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> ImageStore:
        raise UserError("no such field", file="images/catalogue.yaml", line=3)

    monkeypatch.setattr(doctor, "ImageStore", broken)
    (found,) = examine()
    assert (found.state, found.found) == (Health.FAIL, "images/catalogue.yaml:3: no such field")


@pytest.mark.usefixtures("_nothing_is_booted")
def test_what_cannot_be_read_is_a_finding_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, store: ImageStore, tmp_path: Path
) -> None:
    before = list(findings())

    def unreadable(*arguments: object, **named: object) -> bool:
        raise PermissionError(13, "Permission denied", "/proc/x")

    def broken(*arguments: object, **named: object) -> float:
        raise QemuError("clang refused pe.S", status=1, tail="no room\n")

    monkeypatch.setattr(shutil, "disk_usage", unreadable)
    monkeypatch.setattr(engines, "choose", unreadable)
    monkeypatch.setattr(ImageStore, "check", unreadable)
    monkeypatch.setattr("bootmatrix.guests.damaged", unreadable)
    monkeypatch.setattr(doctor, "damaged_own", broken)
    found = findings()
    assert [what for what in found if what != "engine"] == [
        what for what in before if not what.startswith("accelerator ")] + ["accelerator"]
    for what in ("disk space", "engine bubblewrap", "image debian-sid", "guests' disks"):
        assert found[what] == Finding(
            what, Health.FAIL, "cannot be looked at: /proc/x: Permission denied",
            "mend that, then ask again")
    assert found["own builds"].found == "cannot be looked at: clang refused pe.S: no room"
    monkeypatch.setattr(ImageStore, "is_built", unreadable)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert findings()["tools"].found == "cannot be looked at: /proc/x: Permission denied"


@pytest.mark.usefixtures("_nothing_is_booted")
def test_a_cache_whose_place_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    disk = findings()["disk space"]
    assert (disk.state, disk.found) == (Health.FAIL, f"{tmp_path}/cache is no directory")


def test_uefi_that_cannot_be_tried(monkeypatch: pytest.MonkeyPatch, store: ImageStore) -> None:
    def took(engine: Engine, build: QemuBuild, firmware: FirmwareBuild, accel: Accel) -> float:
        if firmware.interface is Interface.UEFI:
            raise QemuError("clang refused pe.S")
        return 0.1

    monkeypatch.setattr(doctor, "boot_seconds", took)
    monkeypatch.setattr(doctor, "kvm_complaint", lambda: None)
    found = findings()["accelerator kvm, UEFI"]
    assert (found.state, found.found) == (
        Health.WARN, "not tried: under tcg: clang refused pe.S")


@pytest.mark.usefixtures("_nothing_is_booted")
def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, store: ImageStore) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert str(image_store.cache_home()) in findings()["disk space"].found
    assert findings()["disk space"].state is Health.FAIL


@pytest.mark.usefixtures("_nothing_is_booted")
def test_a_qemu_of_ones_own(store: ImageStore, tmp_path: Path) -> None:
    tree = build_tree(store, tmp_path / "qemu")

    def found(source: QemuSource) -> Finding:
        asked = examine("bubblewrap", store, {"m": source})
        return next(finding for finding in asked if finding.what == "QEMU m")

    bookworm = store.qemu("debian-bookworm")
    assert found(QemuSource(tree)) == Finding("QEMU m", Health.OK, (
        f"{bookworm.version}, in the root debian-bookworm, boots {bookworm.firmware} in 0.10 s"))
    (tree / "pc-bios" / "bios-256k.bin").unlink()
    assert found(QemuSource(tree)).state is Health.WARN
    wrong = found(QemuSource(tmp_path / "none"))
    assert wrong.state is Health.FAIL
    assert "none is not there" in wrong.found
