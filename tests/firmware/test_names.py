"""Firmware by its whole name, by its upstream version, by a glob, and by a name that is wrong."""

from __future__ import annotations

import pytest

from bootmatrix.errors import UserError
from bootmatrix.firmware.names import could_be, kind_of, means, resolve

BUILDS = ("seabios-1.14.0-2", "seabios-1.16.2-1", "seabios-1.16.3-2", "seabios-1.17.0-1",
          "seabios-128k-1.16.2-1", "ovmf-4m-2020.11-2+deb11u2", "ovmf-4m-ms-2020.11-2+deb11u2",
          "ovmf-4m-2026.08+ds-2", "aavmf-2025.02-8+deb13u1", "opensbi-1.1-2", "opensbi-1.16-1",
          "edk2-2024-1")  # fmt: skip
KINDS = ("seabios", "seabios-128k", "ovmf-4m", "ovmf-4m-ms", "aavmf", "opensbi")


@pytest.mark.parametrize(("name", "whole"), [
    ("seabios-1.14.0-2", "seabios-1.14.0-2"),
    ("seabios-1.14.0", "seabios-1.14.0-2"),
    ("seabios-1.14.*", "seabios-1.14.0-2"),
    ("seabios-128k-1.16.2", "seabios-128k-1.16.2-1"),
    ("ovmf-4m-2020.11", "ovmf-4m-2020.11-2+deb11u2"),
    ("ovmf-4m-2020.11-2", "ovmf-4m-2020.11-2+deb11u2"),
    ("ovmf-4m-2026.08", "ovmf-4m-2026.08+ds-2"),
    ("ovmf-4m-2026.08+ds", "ovmf-4m-2026.08+ds-2"),
    ("aavmf-2025.02", "aavmf-2025.02-8+deb13u1"),
    ("opensbi-1.1", "opensbi-1.1-2"),
    ("*-1.17.?-[0-9]", "seabios-1.17.0-1"),
])
def test_a_name_of_one_build(name: str, whole: str) -> None:
    assert resolve(name, BUILDS) == whole
    assert [build for build in BUILDS if means(name, build)] == [whole]


@pytest.mark.parametrize(("name", "told"), [
    ("seabios-1.16.?", "no such firmware build: 'seabios-1.16.?' (near it: "),
    ("seabios-1.16.1", "no such firmware build: 'seabios-1.16.1' (near it: seabios-1.1"),
    ("seabois-1.14.0", "no such firmware build: 'seabois-1.14.0' (near it: seabios-1.14.0-2"),
    ("seabio", "no such firmware build: 'seabio' (near it: seabios"),
    ("seabios-1.1", "no such firmware build: 'seabios-1.1' (near it: "),
    ("ovmf", "no such firmware build: 'ovmf' ("),
    ("seabios-", "no such firmware build: 'seabios-' ("),
    ("zzz", "no such firmware build: 'zzz' (`bootmatrix images list --json` has their names)"),
    ("", "no such firmware build: '' (`bootmatrix images list --json` has their names)"),
    ("seabios-1.16.*", "'seabios-1.16.*' could be 2 firmware builds "
                       "(seabios-1.16.2-1, seabios-1.16.3-2)"),
    ("*", f"'*' could be {len(BUILDS)} firmware builds (seabios-1.14.0-2, seabios-1.16.2-1, "
          "seabios-1.16.3-2, seabios-1.17.0-1 and 8 more)"),
])
def test_a_name_of_none_or_several(name: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(name, BUILDS, KINDS)
    assert str(error.value).startswith(told)
    assert len(str(error.value)) < 160


def test_two_packages_of_one_version_are_two_builds() -> None:
    with pytest.raises(UserError, match=r"could be 2 .*\(seabios-1\.16\.3-1, seabios-1\.16\.3-2\)"):
        resolve("seabios-1.16.3", ("seabios-1.16.3-1", "seabios-1.16.3-2"))


def test_the_kind_of_a_build() -> None:
    assert [kind_of(build, KINDS) for build in BUILDS[3:7]] == [
        "seabios", "seabios-128k", "ovmf-4m", "ovmf-4m-ms"]
    assert kind_of("mine-1", KINDS) == ""


@pytest.mark.parametrize(("name", "kinds"), [
    ("seabios-1.18.0", {"seabios"}),
    ("seabios-128k-1.18.0", {"seabios", "seabios-128k"}),  # it could be a version 128k
    ("ovmf-4m-ms-*", {"ovmf-4m-ms"}),
    ("aavmf-*", {"aavmf"}),
    ("*-1.18.0", set(KINDS)),
    ("seabois-1.14.0", set()),
    ("ovmf", set()),
])
def test_what_kind_a_name_could_be_of(name: str, kinds: set[str]) -> None:
    assert {kind for kind in KINDS if could_be(name, kind)} == kinds
