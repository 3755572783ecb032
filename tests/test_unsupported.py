"""What cannot be run, and the sentence that says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.model import (
    Arch,
    Cell,
    Disk,
    FirmwareBuild,
    GuestKind,
    Host,
    HostSpec,
    Interface,
    Nic,
    Policy,
    QemuBuild,
    Signing,
)
from harness.scenarios import LIBRARY, parse
from harness.unsupported import reason

HERE = Path()
MACHINES = ("isapc", "microvm", "pc-i440fx-5.2", "pc-q35-5.2", "virt-5.2", "virt")
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
LINUX: Changed = {"guest": GuestKind.LINUX}


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("firmware", [SEABIOS, OVMF, SECBOOT])
def test_every_policy_is_on_q35(policy: Policy, firmware: FirmwareBuild) -> None:
    assert why(firmware, policy=policy) is None
    assert why(firmware, policy=policy, **LINUX) is None


def test_a_machine_that_a_qemu_does_not_have() -> None:
    assert why(machine="pc-q35-6.2") == "QEMU 5.2.0 (q-5.2.0) has no machine pc-q35-6.2"
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
    (AAVMF, ARM | {"disk": Disk.AHCI}, "virt has no ahci disk"),
    (SEABIOS, {"machine": "isapc"}, "isapc has no ahci disk"),
    (SEABIOS, ISAPC | {"nic": Nic.E1000}, "isapc has no PCI, and so no e1000 card"),
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


@pytest.mark.parametrize(("firmware", "changed"), [
    (AAVMF, ARM), (AAVMF, ARM | {"policy": Policy.GUEST_OWNED}),
    # What is loaded into memory is machine-owned by itself.
    (OPENSBI, RISCV), (OPENSBI, RISCV | {"policy": Policy.MACHINE_OWNED}),
    # isapc has no versions either, but no word says that it does not migrate.
    (SEABIOS, ISAPC), (SEABIOS, ISAPC | {"policy": Policy.REREAD}),
    (SEABIOS, MICROVM | {"versions": ("5.2.0", "5.2.0")}),
    (SEABIOS, MICROVM | {"scenario": "move"}),
    (COMBINED, {}), (COMBINED, {"policy": Policy.GUEST_OWNED}),
    (OVMF, {"machine": "pc-i440fx-5.2"}), (OVMF, {"machine": "default"}),
    (SEABIOS, {"nic": Nic.VIRTIO}), (SIGNED, {}),
])  # fmt: skip
def test_what_they_can(firmware: FirmwareBuild, changed: Changed) -> None:
    assert why(firmware, **changed) is None


Who = tuple[FirmwareBuild, Changed]
UEFI_PROBE: Who = (OVMF, {})
UEFI_LINUX: Who = (OVMF, LINUX)
BIOS_LINUX: Who = (SEABIOS, LINUX)
SECTOR: Who = (SEABIOS, {})


@pytest.mark.parametrize(("scenario", "who", "words"), [
    ("reset-by-efi-cold", SECTOR, "reset by efi-cold needs UEFI firmware"),
    ("reset-by-efi-warm", BIOS_LINUX, "reset by efi-warm needs UEFI firmware"),
    ("reset-by-efi-warm", UEFI_PROBE, None),
    ("reset-by-efi-cold", UEFI_LINUX, None),
    ("reset-by-efi-cold", (AAVMF, ARM), None),
    ("reset-by-efi-cold", (OPENSBI, RISCV), None),
    ("reset-by-cf9", SECTOR, None),
    ("reset-by-cf9", UEFI_PROBE, None),
    ("reset-by-cf9", (AAVMF, ARM), "virt (aarch64) has no reset by cf9"),
    ("reset-by-cf9", (SEABIOS, ISAPC), "isapc (x86_64) has no reset by cf9"),
    ("reset-by-keyboard", (SEABIOS, ISAPC), None),
    ("reset-by-keyboard", (SEABIOS, MICROVM), "microvm (x86_64) has no reset by keyboard"),
    ("reset-by-triple-fault", (SEABIOS, MICROVM), None),
    ("reset-by-triple-fault", (AAVMF, ARM), "virt (aarch64) has no reset by triple-fault"),
    ("reset-by-acpi", UEFI_LINUX, None),
    ("reset-by-acpi", BIOS_LINUX, None),
    ("reset-by-acpi", SECTOR, "reset by acpi needs a Linux guest, a boot sector knows nothing"),
    ("reset-by-acpi", UEFI_PROBE, "reset by acpi needs a Linux guest, a probe guest knows"),
    ("suspend-wake", SECTOR, "suspend needs a Linux guest, a boot sector cannot"),
    ("suspend-wake", UEFI_PROBE, "suspend needs a Linux guest, a probe guest cannot"),
    ("suspend-wake", BIOS_LINUX, None),
    ("suspend-wake", (AAVMF, ARM | LINUX), "a linux guest is one of x86_64, there is none of"),
    ("shutdown-by-guest-restart", SECTOR, "shutdown by the guest: a boot sector cannot"),
    ("shutdown-by-guest-restart", UEFI_PROBE, None),
    ("shutdown-by-guest-restart", BIOS_LINUX, None),
    ("variables-move", SECTOR, "write-variable needs UEFI firmware in flash, seabios on pc-q35"),
    ("variables-move", BIOS_LINUX, "write-variable needs UEFI firmware in flash"),
    ("variables-fill-migrate-reset", (OPENSBI, RISCV), "fill-variables needs UEFI firmware in"),
    ("variables-move", UEFI_PROBE, None),
    ("variables-move", UEFI_LINUX, None),
    ("variables-move", (COMBINED, {}), None),
    ("guest-flash-reset", SECTOR, None),
    ("guest-flash-reset", UEFI_PROBE, "guest-flash needs the boot sector on a BIOS, a probe"),
    ("guest-flash-reset", BIOS_LINUX, "guest-flash needs the boot sector on a BIOS, a linux"),
    ("migrate-during-post", SECTOR, None),
    ("migrate-during-post", UEFI_PROBE, "during-post needs firmware that says its name"),
])  # fmt: skip
def test_what_a_guest_cannot(
    scenario: str, who: Who, words: str | None
) -> None:
    firmware, changed = who
    found = why(firmware, scenario, **changed)
    if words is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(words)


def test_microvm_is_asked_about_each_migration() -> None:
    there_and_back = ["start", "shutdown", {"start": {"on": "destination"}},
                      {"migrate": {"to": "host-3"}}]  # fmt: skip
    versions = ("5.2.0", "11.1.3", "11.1.3")
    assert why(scenario=there_and_back, versions=versions, **MICROVM) is None
    versions = ("5.2.0", "11.1.3", "10.0.2")
    assert (why(scenario=there_and_back, versions=versions, **MICROVM) or "").endswith(
        ": 11.1.3 to 10.0.2"
    )
