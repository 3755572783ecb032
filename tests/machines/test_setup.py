"""What a guest is made of follows from its cell: disks, memory, what its firmware has to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.boards import known_board
from bootmatrix.machines.setup import GuestSetup, granted_for, setup_of
from bootmatrix.model import Accel, Arch, Grant, GuestKind, Interface, MigrationMode
from helpers.cells import cell
from helpers.fakes import MACHINE, hosts, setup


@pytest.fixture
def made(tmp_path: Path) -> GuestSetup:
    return setup(tmp_path)


def test_it_is_that_of_its_first_host(made: GuestSetup) -> None:
    assert made.arch is Arch.X86_64
    assert made.interface is Interface.BIOS
    assert made.board == known_board(MACHINE, Arch.X86_64)


def test_with_patience_only_the_times_differ(made: GuestSetup) -> None:
    patient = made.patient(120.0)
    assert (patient.seconds, patient.least) == (120.0, 120.0)
    assert replace(patient, seconds=made.seconds, least=made.least, hurry=made.hurry) == made


@pytest.mark.parametrize(("usual", "patience", "able"), [
    (5.0, 120.0, 30.0),
    (60.0, 180.0, 120.0),  # OVMF that makes room in a full store works for as long
    (120.0, 130.0, 130.0),
])
def test_who_has_patience_is_able_to_run_longer_than_without(
    made: GuestSetup, usual: float, patience: float, able: float
) -> None:
    """A guest was called dead that had been able to run for 59 s of its usual 60."""
    patient = replace(made, seconds=usual).patient(patience)
    assert patient.least / patient.hurry == able


@pytest.mark.parametrize(("machine", "words", "given"), [
    ("pc-q35-5.2", (), "pc-q35-5.2"),
    ("pc-i440fx-10.0,vmport=off", ("-m", "64"), "pc-i440fx-10.0"),
    ("pc-q35-5.2", ("-smbios", "type=1,version=mine"), None),
    ("pc-q35-noble", (), None),  # of a distribution: nobody has looked
    ("isapc", (), None),
    ("default", (), None),
])
def test_the_type_of_which_smbios_must_tell(
    made: GuestSetup, machine: str, words: tuple[str, ...], given: str | None
) -> None:
    assert replace(made, machine=machine, words=words).machine_given() == given
    if words:  # of one host alone
        hosts = [made.hosts[0], replace(made.hosts[1], arguments=words)]
        assert replace(made, machine=machine, hosts=hosts).machine_given() == given


def test_files_in_memory_are_granted_for_an_object_alone() -> None:
    wants = "memory-backend-memfd,id=m,size=64M"
    assert granted_for(("-m", "64", "-object", wants)) == {Grant.MEMFD}
    assert granted_for(("--object", wants)) == {Grant.MEMFD}
    for other in (("-name", wants), ("-object", "memory-backend-ram,id=m"), (wants,), ()):
        assert granted_for(other) == frozenset()


def test_a_process_that_becomes_another_has_what_either_needs(made: GuestSetup) -> None:
    to_kvm = replace(made, accel=Accel.TCG_TO_KVM)
    assert [to_kvm.grants(host) for host in (0, 1)] == [frozenset(), {Grant.KVM}]
    in_place = replace(to_kvm, migration=MigrationMode.CPR_EXEC)
    assert [in_place.grants(host) for host in (0, 1)] == [{Grant.KVM, Grant.MEMFD}] * 2


def test_memory_is_what_needs_most(tmp_path: Path, made: GuestSetup) -> None:
    assert made.memory_mib == 32
    uefi = [replace(host, firmware=replace(host.firmware, interface=Interface.UEFI))
            for host in made.hosts]
    assert replace(made, hosts=[made.hosts[0], uefi[1]]).memory_mib > 32
    linux = replace(made, guest=GuestKind.LINUX)
    assert linux.memory_mib == linux.program.mib > 32


def test_one_build_of_the_users_own_makes_it_none_of_the_catalogue(made: GuestSetup) -> None:
    ours = [replace(host, qemu=replace(host.qemu, catalogued=True),
                    firmware=replace(host.firmware, catalogued=True)) for host in made.hosts]
    assert replace(made, hosts=ours).catalogued
    own = replace(ours[1], firmware=replace(ours[1].firmware, catalogued=False))
    assert not replace(made, hosts=[ours[0], own]).catalogued


@pytest.mark.parametrize(("scenario", "post_ms"), [
    ("migrate-reset", 0), ("migrate-during-post", 500),
])  # fmt: skip
def test_firmware_waits_where_it_is_left_during_post(
    tmp_path: Path, scenario: str, post_ms: int
) -> None:
    wanted = replace(cell("bullseye sid", "stock", scenario), debug_log=False)
    made = setup_of(wanted, hosts(tmp_path), tmp_path)
    assert made.post_ms == post_ms
    assert not made.debug_log
    assert made.flash is None
    assert made.kernel is None


def test_what_the_guest_flashes_is_a_host_s_firmware(tmp_path: Path) -> None:
    found = hosts(tmp_path)
    made = setup_of(cell("bullseye sid", "guest-owned", "guest-flash-migrate-reset"), found,
                    tmp_path)
    assert made.flash in [host.firmware for host in found]


def test_disks_a_and_b_are_two_files_that_are_built_once(tmp_path: Path) -> None:
    wanted = cell("bullseye sid", "stock")
    first = setup_of(wanted, hosts(tmp_path), tmp_path).disks
    assert len({disk.read_bytes() for disk in first}) == 2
    at = [disk.stat().st_mtime_ns for disk in first]
    again = setup_of(wanted, hosts(tmp_path), tmp_path).disks
    assert (first, at) == (again, [disk.stat().st_mtime_ns for disk in again])


def test_a_longer_post_has_a_longer_boot(tmp_path: Path) -> None:
    """Three times are tried; a guest that waits for nothing has none that is longer."""
    made = setup_of(cell("bullseye sid", "stock", "migrate-during-post"), hosts(tmp_path), tmp_path)
    second = made.longer_post()
    assert second is not None
    assert (second.post_ms, second.seconds) == (2000, made.seconds + 1.5)
    third = second.longer_post()
    assert third is not None
    assert (third.post_ms, third.seconds) == (8000, made.seconds + 7.5)
    assert third.longer_post() is None
    assert replace(made, post_ms=0).longer_post() is None
