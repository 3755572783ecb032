"""What both engines promise alike, and whether a sandbox could have KVM here."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from bootmatrix.engines import confinement
from bootmatrix.engines.confinement import (
    SHOWN,
    Identity,
    complaint,
    devices,
    kvm_complaint,
    shown_at,
)
from bootmatrix.errors import EngineError
from bootmatrix.model import Grant


def test_nobody_runs_as_root_inside() -> None:
    identity = Identity.unprivileged()
    assert identity.uid > 0
    assert identity.gid > 0
    if os.getuid():
        assert identity == Identity(os.getuid(), os.getgid())


def test_what_is_shown_lies_at_one_place(tmp_path: Path) -> None:
    assert shown_at(None) == ()
    assert shown_at(tmp_path) == ((tmp_path, SHOWN),)


def test_a_host_without_the_device_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "KVM", str(tmp_path / "kvm"))
    assert kvm_complaint() == f"this host has no {tmp_path / 'kvm'}"
    with pytest.raises(EngineError, match="this host has no"):
        devices({Grant.KVM})


def test_a_file_in_its_place_makes_no_virtual_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "kvm"
    fake.touch()
    monkeypatch.setattr(confinement, "KVM", str(fake))
    assert kvm_complaint() == f"{fake} makes no virtual machine: Inappropriate ioctl for device"


def test_userfaultfd_is_asked_for_a_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {Grant.USERFAULTFD, Grant.MEMFD}
    monkeypatch.setattr(confinement, "USERFAULTFD", "/dev/null")
    assert complaint(wanted) == (
        "/dev/null makes no descriptor: Inappropriate ioctl for device")
    monkeypatch.setattr(confinement, "USERFAULTFD", str(tmp_path / "none"))
    with pytest.raises(EngineError, match="this host has no"):
        devices(wanted)
    assert complaint({Grant.MEMFD}) is None
    assert list(devices({Grant.MEMFD})) == [], "no device"


def test_a_user_who_may_not_open_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refused)
    who = "this user" if os.getuid() else "root"
    assert kvm_complaint() == f"{who} cannot open /dev/kvm: Permission denied"


def test_a_host_that_is_able_has_no_complaint_and_nothing_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "kvm"
    fake.touch()
    monkeypatch.setattr(confinement, "KVM", str(fake))
    machine = os.open(fake, os.O_RDONLY)
    asked: list[int] = []

    def make(fd: int, request: int) -> int:
        asked.append(request)
        return machine

    monkeypatch.setattr(fcntl, "ioctl", make)
    assert kvm_complaint() is None
    assert asked == [0xAE01]
    still = [link for link in Path("/proc/self/fd").iterdir() if link.exists()
             and link.resolve() == fake]
    assert still == [], "the machine and the device are closed"
