"""What cannot be run, and the sentence that says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.arguments import ArgumentSet
from bootmatrix.cell import Cell
from bootmatrix.matrix.unsupported import reason
from bootmatrix.model import (
    Accel,
    Arch,
    Disk,
    FirmwareBuild,
    GuestKind,
    Host,
    HostSpec,
    Interface,
    MigrationMode,
    Nic,
    QemuBuild,
    Signing,
    Tpm,
)
from bootmatrix.policies import Policy
from bootmatrix.steps.base import Ability
from bootmatrix.steps.library import LIBRARY, parse

HERE = Path()
MACHINES = ("isapc", "microvm", "pc-i440fx-5.2", "pc-q35-5.2", "virt-5.2", "virt",
            "pseries-5.2", "sun4u", "s390-ccw-virtio-5.2")
SEABIOS = FirmwareBuild("seabios", "5e", 1 << 18, HERE)
OVMF = FirmwareBuild(
    "ovmf-4m", "0f", 1 << 22, HERE, Interface.UEFI, variables=HERE,
    machines=("pc-i440fx-*", "pc-q35-*"),
)  # fmt: skip
COMBINED = replace(OVMF, name="ovmf-2m", variables=None)
SECBOOT = replace(
    OVMF, name="ovmf-4m.secboot", machines=("pc-q35-*",), features=("requires-smm", "secure-boot")
)
ENROLLED = replace(
    SECBOOT, name="ovmf-4m.ms", features=("enrolled-keys", "requires-smm", "secure-boot")
)
SIGNED = replace(ENROLLED, signing=Signing(HERE, HERE))
AAVMF = replace(OVMF, name="aavmf", machines=("virt-*",))
EDK2_LOONG = replace(OVMF, name="edk2-loongarch64", machines=("virt*",))
SLOF = FirmwareBuild("slof", "51", 1 << 20, HERE, Interface.OPENFIRMWARE)
OPENBIOS = replace(SLOF, name="openbios-sparc64", sha256="0b")
S390_CCW = FirmwareBuild("s390-ccw", "39", 1 << 16, HERE, Interface.IPL,
                         machines=("s390-ccw-virtio-*",))
OPENSBI = FirmwareBuild("opensbi", "05", 1 << 18, HERE, payload=HERE)


def qemu(version: str, arch: Arch = Arch.X86_64) -> QemuBuild:
    default = "pc-i440fx-11.1" if arch is Arch.X86_64 else ""
    return QemuBuild(
        f"q-{version}", version, "", HERE, machines=MACHINES, default_machine=default, arch=arch
    )


def why(
    firmware: FirmwareBuild = SEABIOS,
    scenario: str | list[Any] = "migrate-reset",
    versions: tuple[str, ...] = ("5.2.0", "11.1.3"),
    **changed: Any,
) -> str | None:
    """Why a cell on the default axes, with these changes, cannot be run."""
    steps = LIBRARY[scenario] if isinstance(scenario, str) else parse("own", scenario)
    cell = replace(
        Cell((HostSpec("a", "a"),) * len(versions), "pc-q35-5.2", Policy.STOCK, steps), **changed
    )
    hosts = [Host(version, qemu(version, cell.arch), firmware) for version in versions]
    return reason(cell, hosts)


Changed = dict[str, Any]
ARM: Changed = {"arch": Arch.AARCH64, "machine": "virt-5.2", "disk": Disk.VIRTIO}
RISCV: Changed = {"arch": Arch.RISCV64, "machine": "virt", "disk": Disk.VIRTIO}
MICROVM: Changed = {"machine": "microvm", "disk": Disk.VIRTIO}
ISAPC: Changed = {"machine": "isapc", "disk": Disk.IDE}
PSERIES: Changed = {"arch": Arch.PPC64, "machine": "pseries-5.2", "disk": Disk.VIRTIO}
SUN: Changed = {"arch": Arch.SPARC64, "machine": "sun4u", "disk": Disk.IDE}
S390X: Changed = {"arch": Arch.S390X, "machine": "s390-ccw-virtio-5.2", "disk": Disk.VIRTIO}
LOONG: Changed = {"arch": Arch.LOONGARCH64, "machine": "virt", "disk": Disk.VIRTIO}
PROMPT: Changed = {"guest": GuestKind.PROMPT}
LINUX: Changed = {"guest": GuestKind.LINUX}


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("firmware", [SEABIOS, OVMF, SECBOOT])
def test_every_policy_is_on_q35(policy: Policy, firmware: FirmwareBuild) -> None:
    assert why(firmware, policy=policy) is None
    assert why(firmware, policy=policy, **LINUX) is None


def test_kvm_is_of_the_host_s_architecture() -> None:
    assert why(accel=Accel.KVM) is None
    assert why(AAVMF, accel=Accel.KVM, **ARM) == (
        "kvm runs guests of this host's own architecture, which aarch64 is not")
    assert why(AAVMF, accel=Accel.TCG_TO_KVM, **ARM) is not None
    assert why(AAVMF, **ARM) is None


def test_two_accelerators_are_for_two_hosts() -> None:
    assert why(accel=Accel.TCG_TO_KVM) is None
    assert why(scenario="reset", versions=("5.2.0",), accel=Accel.KVM_TO_TCG) == (
        "kvm-to-tcg is for two hosts, reset has one")


@pytest.mark.parametrize(("scenario", "mode", "told"), [
    ("reset", "multifd", "migration multifd: reset migrates nowhere"),
    ("save-restore-reset", "multifd",
     "migration multifd has a channel of its own: not file"),
    ("migrate-reset", "multifd", None),
    ("migrate-reset", "mapped-ram", "mapped-ram is QEMU 9.0's and later, 5.2.0 has 5.2.0"),
    (["start", "migration-fails"], "savevm",
     "a migration by savevm is not ended half-way here"),
    (["start", {"migrate": {"capabilities": ["xbzrle"]}}], "savevm",
     "savevm is no migration to QEMU: it takes no capabilities of one"),
    ("migrate-during-post", "savevm",
     "savevm: a destination of its can be launched only once the source ended"),
    (["start", "replace-disk", "migrate"], "savevm",
     "savevm keeps the guest in its disk, and replace-disk has put another one where the "
     "destination looks"),
    (["start", "replace-disk", "shutdown", "start", "migrate"], "savevm", None),
    ("migrate-reset", "savevm", None),
    ("migrate-reset", "postcopy", None),
    (["start", "migrate", {"migrate": {"to": "source"}}], "postcopy",
     "postcopy goes into QEMU 8.1 and later, which takes /dev/userfaultfd: no sandbox has the "
     "system call; 5.2.0 has 5.2.0"),
])
def test_a_mode_is_for_guests_that_migrate(
    scenario: str | list[Any], mode: str, told: str | None
) -> None:
    assert why(scenario=scenario, migration=MigrationMode(mode)) == told
    assert why(scenario=scenario) is None


def test_only_postcopy_goes_on_by_another_connection() -> None:
    steps = ["start", {"migrate": {"recovers": True}}, "reset"]
    assert why(scenario=steps, migration=MigrationMode.POSTCOPY) is None
    for mode in ("precopy", "postcopy-after-pass", "multifd", "savevm"):
        told = why(scenario=steps, migration=MigrationMode(mode))
        assert told == (f"migration {mode}: only postcopy that has begun at once goes on by "
                        "another connection")


def test_a_process_becomes_another_of_its_own_root() -> None:
    new: Changed = {"versions": ("11.1.3", "11.1.3"), "migration": MigrationMode.CPR_EXEC}
    assert why(**new) is None
    assert why(**new | {"versions": ("10.0.13", "11.1.3")}) == (
        "cpr-exec is QEMU 10.2's and later, 10.0.13 has 10.0.13")


SAVEVM: Changed = {"migration": MigrationMode.SAVEVM}
CPR: Changed = {"migration": MigrationMode.CPR_TRANSFER}


def test_a_snapshot_is_one_of_the_disk() -> None:
    of_all = ("savevm of QEMU 5.2.0 takes a snapshot of all that is written to, and a flash in a "
              "raw file can have none; 6.0 leaves it alone")
    assert why(policy=Policy.GUEST_OWNED, **SAVEVM) == of_all
    assert why(OVMF, **SAVEVM) == of_all
    assert why(OVMF, versions=("7.2.22", "11.1.3"), **SAVEVM) is None
    assert why(disk=Disk.FLOPPY, machine="pc-i440fx-5.2", **SAVEVM) == (
        "savevm needs a disk with a name of its own, which a floppy has not")


def test_memory_that_is_handed_over_is_the_harness_s() -> None:
    new = ("10.0.13", "11.1.3")
    assert why(versions=new, **CPR) is None
    assert why(versions=new, memory=64, **CPR) is None
    assert why(versions=new, memory="1G,slots=2,maxmem=4G", **CPR) is None
    other = "cpr-transfer puts the guest's memory in an object of its own"
    for words in (("-m", "64"), ("-numa", "node"), ("-object", "memory-backend-ram,id=m,size=1M")):
        told = why(versions=new, arguments=ArgumentSet("own", words), **CPR)
        assert told is not None
        assert told.startswith(other)


def test_a_machine_that_a_qemu_does_not_have() -> None:
    assert why(machine="pc-q35-6.2") == "QEMU 5.2.0 (q-5.2.0) has no machine pc-q35-6.2"
    assert why(machine="pc-q35") == (
        "pc-q35 is no machine of its own in QEMU 5.2.0 (q-5.2.0): name one of a version, such as "
        "pc-q35-5.2, or newest-common:pc-q35")
    for short, family in (("q35", "pc-q35"), ("pc", "pc-i440fx")):
        told = why(machine=short)
        assert told is not None
        assert told.endswith(f"such as {family}-5.2, or newest-common:{family}")
    power = Host("p", replace(qemu("5.2.0"), arch=Arch.PPC64, machines=("pseries-5.2",)), SLOF)
    pseries = Cell((HostSpec("p", "p"),), "pseries", Policy.STOCK, LIBRARY["cold-boot"],
                   disk=Disk.VIRTIO, arch=Arch.PPC64)
    assert (reason(pseries, [power]) or "").endswith(
        "such as pseries-5.2, or newest-common:pseries")
    assert why(machine="pseries") == "QEMU 5.2.0 (q-5.2.0) has no machine pseries"
    assert why(machine="pc-q") == "QEMU 5.2.0 (q-5.2.0) has no machine pc-q"
    assert why(machine="default") is None
    words = "no guest of ours boots on machine none (x86_64)"
    hosts = [Host("a", replace(qemu("5.2.0"), machines=("none",)), SEABIOS)]
    cell = Cell((HostSpec("a", "a"),), "none", Policy.STOCK, LIBRARY["cold-boot"])
    assert reason(cell, hosts) == words


def test_a_qemu_of_another_architecture() -> None:
    cell = Cell((HostSpec("a", "a"),), "virt-5.2", Policy.STOCK, LIBRARY["cold-boot"],
                disk=Disk.VIRTIO, arch=Arch.AARCH64)  # fmt: skip
    assert reason(cell, [Host("a", qemu("5.2.0"), AAVMF)]) == (
        "QEMU 5.2.0 (q-5.2.0) emulates x86_64, not aarch64"
    )


def test_a_bios_here_and_uefi_there() -> None:
    cell = Cell((HostSpec("a", "a"),) * 2, "pc-q35-5.2", Policy.STOCK, LIBRARY["move"])
    hosts = [Host("a", qemu("5.2.0"), SEABIOS), Host("b", qemu("5.2.0"), OVMF)]
    assert (reason(cell, hosts) or "").startswith("one host has a BIOS, another UEFI firmware")


@pytest.mark.parametrize(("firmware", "changed", "words"), [
    # policies
    (replace(COMBINED, in_flash=False), {"policy": Policy.GUEST_OWNED},
     "guest-owned needs flash, and ovmf-2m is given by -bios"),
    (OPENSBI, RISCV | {"policy": Policy.GUEST_OWNED},
     "guest-owned needs flash, which virt (riscv64) does not have"),
    (SEABIOS, ISAPC | {"policy": Policy.GUEST_OWNED_VERSIONED},
     "guest-owned-versioned needs flash, which isapc (x86_64) does not have"),
    (AAVMF, ARM | {"policy": Policy.MACHINE_OWNED},
     "machine-owned replaces firmware at the reset vector, which is not done on virt (aarch64)"),
    (AAVMF, ARM | {"policy": Policy.REREAD}, "reread replaces firmware at the reset vector"),
    (OPENSBI, RISCV | {"policy": Policy.REREAD}, "reread replaces firmware at the reset vector"),
    (COMBINED, {"policy": Policy.MACHINE_OWNED},
     "machine-owned needs code and variables apart: ovmf-2m has both in one flash"),
    (EDK2_LOONG, LOONG | {"policy": Policy.MACHINE_OWNED},
     "machine-owned replaces firmware at the reset vector, which is not done on "
     "virt (loongarch64)"),
    (SLOF, PSERIES | {"policy": Policy.GUEST_OWNED},
     "guest-owned needs flash, which pseries (ppc64) does not have"),
    (SLOF, PSERIES | {"policy": Policy.REREAD}, "reread replaces firmware at the reset vector"),
    (OPENBIOS, SUN | PROMPT | {"policy": Policy.MACHINE_OWNED},
     "machine-owned replaces firmware at the reset vector, which is not done on sun4u (sparc64)"),
    (S390_CCW, S390X | PROMPT | {"policy": Policy.GUEST_OWNED},
     "guest-owned needs flash, which s390-ccw-virtio (s390x) does not have"),
    # guests
    (OPENBIOS, SUN, "no probe of ours runs on sun4u (sparc64): its firmware's prompt is there"),
    (S390_CCW, S390X,
     "no probe of ours runs on s390-ccw-virtio (s390x): its firmware's prompt is there"),
    (SLOF, PSERIES | PROMPT,
     "guest prompt is for boards without a probe of ours, and pseries (ppc64) has one"),
    # descriptors
    (AAVMF, {}, "aavmf is made for virt-*, not for pc-q35-5.2"),
    (SECBOOT, {"machine": "pc-i440fx-5.2"},
     "ovmf-4m.secboot is made for pc-q35-*, not for pc-i440fx-5.2"),
    (SECBOOT, {"machine": "default"},
     "ovmf-4m.secboot is made for pc-q35-*, not for pc-i440fx-11.1"),
    (replace(SECBOOT, machines=()), {"machine": "pc-i440fx-5.2"},
     "ovmf-4m.secboot needs SMM, which pc-i440fx does not have: pc-q35 has"),
    # keys
    (ENROLLED, {}, "ovmf-4m.ms starts only what is signed for the Secure Boot keys enrolled in "
                   "it: nobody here has what signs for them"),
    (SIGNED, LINUX, "ovmf-4m.ms starts only what is signed for the Secure Boot keys enrolled in "
                    "it: our Linux guest is not"),
    # devices
    (EDK2_LOONG, LOONG | {"disk": Disk.AHCI}, "virt has no ahci disk"),
    (AAVMF, ARM | {"disk": Disk.AHCI}, "virt has no ahci disk"),
    (SEABIOS, {"machine": "isapc"}, "isapc has no ahci disk"),
    (SEABIOS, ISAPC | {"nic": Nic.E1000}, "isapc has no PCI, and so no e1000 card"),
    (SEABIOS, {"tpm": Tpm.CRB}, "tpm crb is read through UEFI firmware, and seabios is a BIOS"),
    (AAVMF, ARM | {"tpm": Tpm.CRB}, "virt has no TPM with crb"),
    # migration
    (SEABIOS, MICROVM, "microvm does not migrate between versions of QEMU "
                       "(its documentation says so): 5.2.0 to 11.1.3"),
])  # fmt: skip
def test_what_a_board_or_a_firmware_cannot(
    firmware: FirmwareBuild, changed: Changed, words: str
) -> None:
    found = why(firmware, **changed)
    assert found is not None
    assert found.startswith(words)


@pytest.mark.parametrize("board", [ISAPC, MICROVM, S390X | PROMPT])
def test_two_images_of_one_version_that_no_bytes_tell_apart(board: Changed) -> None:
    one = replace(SEABIOS, name="one", prints="1.16.2")
    cell = replace(Cell((HostSpec("a", "a"),) * 2, "pc-q35-5.2", Policy.STOCK, LIBRARY["move"]),
                   **board)

    def on(other: FirmwareBuild) -> str | None:
        host = Host("a", qemu("5.2.0", cell.arch), one)
        return reason(cell, [host, replace(host, name="b", firmware=other)])

    assert on(replace(one, name="two", sha256="0a")) == (
        f"one and two both print 1.16.2, and on {cell.board} no bytes tell which of "
        "them ran")
    assert on(replace(one, name="the same")) is None
    assert on(replace(one, name="two", sha256="0a", prints="1.17.0")) is None
    assert on(replace(one, name="two", sha256="0a", prints=None)) is None
    cell = replace(cell, machine="pc-q35-5.2", disk=Disk.AHCI, arch=Arch.X86_64,
                   guest=GuestKind.PROBE)
    assert on(replace(one, name="two", sha256="0a")) is None


@pytest.mark.parametrize(("firmware", "changed"), [
    (AAVMF, ARM), (AAVMF, ARM | {"policy": Policy.GUEST_OWNED}),
    # What is loaded into memory is machine-owned by itself.
    (OPENSBI, RISCV), (OPENSBI, RISCV | {"policy": Policy.MACHINE_OWNED}),
    # isapc has no versions either, but no word says that it does not migrate.
    (SLOF, PSERIES), (SLOF, PSERIES | {"policy": Policy.MACHINE_OWNED}),
    (OPENBIOS, SUN | PROMPT),
    (S390_CCW, S390X | PROMPT), (S390_CCW, S390X | PROMPT | {"policy": Policy.MACHINE_OWNED}),
    (EDK2_LOONG, LOONG), (EDK2_LOONG, LOONG | {"policy": Policy.GUEST_OWNED}),
    (SEABIOS, ISAPC), (SEABIOS, ISAPC | {"policy": Policy.REREAD}),
    (SEABIOS, MICROVM | {"versions": ("5.2.0", "5.2.0")}),
    (SEABIOS, MICROVM | {"scenario": "move"}),
    (COMBINED, {}), (COMBINED, {"policy": Policy.GUEST_OWNED}),
    (OVMF, {"machine": "pc-i440fx-5.2"}), (OVMF, {"machine": "default"}),
    (SEABIOS, {"nic": Nic.VIRTIO}), (SIGNED, {}), (OVMF, {"tpm": Tpm.CRB}),
    (OVMF, LINUX | {"tpm": Tpm.TIS}), (AAVMF, ARM | {"tpm": Tpm.TIS}),
])  # fmt: skip
def test_what_they_can(firmware: FirmwareBuild, changed: Changed) -> None:
    assert why(firmware, **changed) is None


Who = tuple[FirmwareBuild, Changed]
BIOS_LINUX: Who = (SEABIOS, LINUX)
SECTOR: Who = (SEABIOS, {})


@pytest.mark.parametrize(("scenario", "who", "words"), [
    ("reset-by-efi-cold", SECTOR, "reset by efi-cold needs UEFI firmware"),
    ("reset-by-efi-cold", (AAVMF, ARM), None),
    ("suspend-wake", BIOS_LINUX, None),
    ("suspend-wake", (AAVMF, ARM | LINUX), "a linux guest is one of x86_64, there is none of"),
    ("variables-move", SECTOR, "write-variable needs UEFI firmware in flash, seabios on pc-q35"),
    ("variables-move", (COMBINED, {}), None),
])  # fmt: skip
def test_steps_say_what_a_guest_cannot(scenario: str, who: Who, words: str | None) -> None:
    firmware, changed = who
    found = why(firmware, scenario, **changed)
    assert (found is None) == (words is None)
    assert (found or "").startswith(words or "")


def test_microvm_is_asked_about_each_migration() -> None:
    there_and_back = ["start", "shutdown", {"start": {"on": "destination"}},
                      {"migrate": {"to": "host-3"}}]  # fmt: skip
    versions = ("5.2.0", "11.1.3", "11.1.3")
    assert why(scenario=there_and_back, versions=versions, **MICROVM) is None
    versions = ("5.2.0", "11.1.3", "10.0.2")
    assert (why(scenario=there_and_back, versions=versions, **MICROVM) or "").endswith(
        ": 11.1.3 to 10.0.2"
    )


def test_an_architecture_without_a_default_machine_of_use() -> None:
    found = why(AAVMF, **ARM | {"machine": "default"})
    assert found == "QEMU has no default machine of use for aarch64: name one, such as virt"


@pytest.mark.parametrize(("policy", "scenario", "lacking", "words"), [
    (Policy.GUEST_OWNED, "move", Ability.NVRAM, "guest-owned needs a file for a guest's firmware"),
    (Policy.MACHINE_OWNED, "move", Ability.SWAP, "machine-owned needs firmware that can be"),
    (Policy.REREAD, "move", Ability.SWAP, "reread needs firmware that can be replaced at a reset"),
    (Policy.STOCK, "move", Ability.SWAP, None),
    (Policy.STOCK, "move", Ability.NVRAM, None),
    (Policy.GUEST_OWNED, "move", Ability.SWAP, None),
    (Policy.STOCK, "migrate-reset", Ability.MIGRATE, "migrate needs migration, which these"),
    (Policy.STOCK, "migrate-reset", Ability.POWER, None),
    (Policy.STOCK, "move", Ability.POWER, "shutdown needs a power switch, which these machines"),
])  # fmt: skip
def test_what_machines_lack(
    policy: Policy, scenario: str, lacking: Ability, words: str | None
) -> None:
    cell = Cell((HostSpec("a", "a"),) * 2, "pc-q35-5.2", policy, LIBRARY[scenario])
    hosts = [Host(version, qemu(version), SEABIOS) for version in ("5.2.0", "11.1.3")]
    found = reason(cell, hosts, set(Ability) - {lacking})
    assert (found is None) == (words is None)
    assert (found or "").startswith(words or "")


def test_a_policy_needs_of_machines_what_its_way_on_this_board_needs() -> None:
    # Into memory QEMU writes what it has read by itself: nothing is swapped.
    cell = Cell((HostSpec("a", "a"),) * 2, "isapc", Policy.MACHINE_OWNED, LIBRARY["move"],
                disk=Disk.IDE)
    hosts = [Host(version, qemu(version), SEABIOS) for version in ("5.2.0", "11.1.3")]
    assert reason(cell, hosts, set(Ability) - {Ability.SWAP}) is None
