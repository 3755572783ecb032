"""QEMU's refusals, in its own words, and the classes they belong to."""

from __future__ import annotations

import re

import pytest

from bootmatrix.model import Verdict
from bootmatrix.verdict import judge
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.refusal import Refusal, classify
from helpers.judging import (
    KNOWN,
    MACHINE_TYPE,
    MIGRATE,
    NEW,
    RESET,
    START,
    boot,
    migrated,
    planned,
    reset,
    started,
)

# The messages of the design's pages field.md and stock-qemu.md, and what QEMU 5.2 and 11.1 say.
LITERAL = [
    ("ram-block-size",
     "Size mismatch: 0000:00:03.0/virtio-net-pci.rom: 0x40000 != 0x80000: Invalid argument"),
    ("ram-block-size", "Size mismatch: pc.bios: 0x20000 != 0x40000: Invalid argument"),
    ("ram-block-size", "Length mismatch: pc.bios: 0x20000 in != 0x40000: Invalid argument"),
    ("ram-block-size", "Size too large: /rom@etc/table-loader: 0x2000 > 0x1000"),
    ("ram-block-unknown", 'Unknown ramblock "/rom@etc/acpi/rsdp", cannot accept migration'),
    ("machine-type", "Machine type received is 'pc-i440fx-5.2' and local is 'pc-i440fx-11.1'"),
    ("machine-type", 'unsupported machine type: "pc-q35-99.0"'),
    ("machine-type", "-M pc-q35-99.0: unsupported machine type"),
    ("missing-section", "Missing section footer for 0000:00:01.3/piix4_pm"),
    ("missing-section", "Read section footer failed: -5"),
    ("missing-section", "Section footer error, section_id: 2"),
    ("not-migratable",
     "1-source: migrate: State blocked by non-migratable device '0000:00:04.0/nvme'"),
    ("section-version", "unsupported version 4 for 'mc146818rtc' v3"),
    ("tpm-state", "tpm-emulator: Setting the stateblob (type 1) failed with a TPM error 0x1f"),
    ("tpm-state", "tpm-emulator: could not set state blob type 2"),
    ("tpm-state", "TPM emulator does not support migration"),
    ("unknown-section", "Unknown savevm section or instance 'cpu_common' 4"),
    ("unknown-section", "Unknown savevm section 8"),
    ("unknown-section",
     "load of migration failed: Invalid argument: Unknown section or instance 'kvmclock' 0. Make "
     "sure that your current VM setup matches your saved VM setup"),
    ("unknown-section", "MIG_CMD 0xb unknown (len 0x0)"),
    ("unknown-section", "vmstate_load_state error -2"),
    ("missing-feature", "migrate-set-parameters: Invalid parameter 'zstd'"),
    ("missing-feature", "'qxl-vga' is not a valid device model name"),
    ("missing-feature",
     "migrate-set-capabilities: Parameter 'capability' does not accept value 'switchover-ack'"),
    ("missing-feature", "migrate-set-parameters: Parameter 'x-none' is unexpected"),
    ("missing-feature",
     "Features 0x130afffa7 unsupported. Allowed features: 0x179bfffe7"),
    ("ram-block-size", "Size mismatch: system.flash0: 0x200000 != 0x400000: Invalid argument"),
    ("rom-size", "combined size of system firmware exceeds 8388608 bytes"),
    ("rom-size", "system firmware block device  has invalid size 5120"),
    ("rom-size", "device requires 67108864 bytes, block backend provides 2097152 bytes"),
    ("rom-size",
     "cfi.pflash01 device '/machine/virt.flash0' requires 67108864 bytes,  block backend "
     "provides 2097152 bytes"),
    ("missing-feature",
     "-device virtio-net-pci,romsize=0x80000: Property 'virtio-net-pci.romsize' not found"),
    ("missing-feature",
     "can't apply global qemu64-x86_64-cpu.nix=on: Property 'qemu64-x86_64-cpu.nix' not found"),
    ("missing-feature", "unable to find CPU model 'nonsense'"),
    ("missing-feature", "CPU model 'host' requires KVM or HVF"),
    ("missing-feature", "TCG doesn't support requested features"),
    ("missing-feature", "Host doesn't support requested features"),
    ("missing-feature",
     "Invalid SMP CPUs 2. The max CPUs supported by machine 'isapc' is 1"),
    ("missing-feature", "-device virtio-net-pci: No 'PCI' bus found for device 'virtio-net-pci'"),
    ("missing-feature", "System Management Mode not supported by this hypervisor."),
    ("missing-feature", "-accel hax: invalid accelerator hax"),
    ("missing-feature", "failed to set MSR 0x10a to 0x400000000c000069"),
    ("missing-feature",
     "-accel kvm: failed to initialize kvm: No such file or directory"),
    ("missing-feature",
     "-accel kvm: Could not access KVM kernel module: No such file or directory"),
    ("device-state",
     "get_pci_config_device: Bad config data: i=0x9a read: 3 device: 2 cmask: ff wmask: 0"),
    ("device-state", "error while loading state for instance 0x0 of device 'ram'"),
    ("device-state", "Failed to load PCIDevice:config"),
    ("block-device",
     "-blockdev driver=file,node-name=a,filename=/none: Could not open '/none': No such file"),
    ("block-device", 'Failed to get "write" lock'),
    ("block-device", "Device 'pflash1' is writable but does not support snapshots"),
    ("other", "Property 'cfi.pflash01.drive' can't find value 'nix'"),
    ("other", "load of migration failed: Invalid argument"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "message"), LITERAL)
def test_literal_messages(kind: str, message: str) -> None:
    refusal = classify(f"qemu-system-x86_64: {message}\n")
    assert refusal.kind == kind
    # QEMU's own words, at most without where on the command line it was.
    assert message.endswith(refusal.message)
    assert refusal.message
    assert str(refusal) == f"{kind}: {refusal.message}"


@pytest.mark.parametrize("message", [message for kind, message in LITERAL if kind != "other"])
def test_a_class_needs_no_program_name_before_it(message: str) -> None:
    # query-migrate's error-desc has none, and QEMU 5.2 prints some lines without.
    assert classify(message).kind != "other"


def test_the_refusal_names_the_device() -> None:
    refusal = classify("Error: Device 'pflash1' is writable but does not support snapshots\n")
    assert refusal.message == "Device 'pflash1' is writable but does not support snapshots"


ROM_SIZE = """\
qemu-system-x86_64: Size mismatch: 0000:00:03.0/virtio-net-pci.rom: 0x40000 != 0x80000: \
Invalid argument
qemu-system-x86_64: error while loading state for instance 0x0 of device 'ram'
qemu-system-x86_64: load of migration failed: Invalid argument
"""
VIRTIO = """\
qemu-system-x86_64: Features 0x130afffa7 unsupported. Allowed features: 0x179bfffe7
qemu-system-x86_64: Failed to load virtio-net:virtio
qemu-system-x86_64: error while loading state for instance 0x0 of device '0000:00:03.0/virtio-net'
qemu-system-x86_64: load of migration failed: Operation not permitted
"""
CONFIG = """\
qemu-system-x86_64: get_pci_config_device: Bad config data: i=0x6e read: 0 device: 40 cmask: ff
qemu-system-x86_64: Failed to load PCIDevice:config
qemu-system-x86_64: error while loading state for instance 0x0 of device '0000:00:03.0/e1000'
qemu-system-x86_64: load of migration failed: Invalid argument
"""
FOOTER = """\
qemu-system-x86_64: Missing section footer for 0000:00:01.3/piix4_pm
qemu-system-x86_64: load of migration failed: Invalid argument
"""


@pytest.mark.parametrize(
    ("log", "kind", "begins"),
    [
        (ROM_SIZE, "ram-block-size", "Size mismatch: 0000:00:03.0/virtio-net-pci.rom: 0x40000"),
        (VIRTIO, "missing-feature", "Features 0x130afffa7 unsupported"),
        (CONFIG, "device-state", "get_pci_config_device: Bad config data"),
        (FOOTER, "missing-section", "Missing section footer for 0000:00:01.3/piix4_pm"),
    ],
)
def test_the_cause_wins_over_its_consequences(log: str, kind: str, begins: str) -> None:
    refusal = classify(log)
    assert refusal.kind == kind
    assert refusal.message.startswith(begins)
    assert "\n" not in refusal.message
    # Whatever stood in the log before, and in whatever order the lines came.
    assert classify("warning: x\n" + "".join(reversed(log.splitlines(True)))) == refusal


def test_unknown_text_is_other_with_the_last_complaint() -> None:
    log = "qemu-system-x86_64: the first\nqemu-system-x86_64: -device x: the last: really\n"
    assert classify(log) == Refusal("other", "-device x: the last: really")
    assert classify("qemu: could not load PC BIOS '/none'\n") == Refusal(
        "other", "could not load PC BIOS '/none'"
    )


DEPRECATED = (
    "qemu-system-x86_64: warning: Machine type 'pc-i440fx-5.2' is deprecated: machines more "
    "than 3 years old are subject to deletion after 6 years\n"
)


@pytest.mark.parametrize(
    "log",
    [
        "",
        "\n",
        "something else\n",
        DEPRECATED,
        "qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.01H:ECX.vmx\n",
        "qemu-system-x86_64: -device x: warning: this accelerator is slow: very\n",
        "qemu-system-x86_64: info: its size must be a non-zero multiple of 0x1000\n",
        'qemu-system-x86_64: warning: Failed to get "write" lock\n',
    ],
)
def test_warnings_are_not_complaints(log: str) -> None:
    assert classify(log) == Refusal("other", "no reason given")


def test_a_complaint_among_warnings() -> None:
    complaint = "system firmware block device  has invalid size 5120"
    info = "qemu-system-x86_64: info: its size must be a non-zero multiple of 0x1000\n"
    log = f"{DEPRECATED}qemu-system-x86_64: {complaint}\n{info}{DEPRECATED}"
    assert classify(log) == Refusal("rom-size", complaint)


@pytest.mark.parametrize("block", ["0000:00:03.0/virtio-net-pci.rom", "system.flash0"])
def test_a_block_that_does_not_fit_is_named_with_both_sizes(block: str) -> None:
    (line,) = (text for _, text in LITERAL if block in text)
    message = classify(f"qemu-system-x86_64: {line}\n").message
    assert re.search(rf"{block}: 0x[0-9a-f]+ != 0x[0-9a-f]+", message)


def test_a_word_in_passing_is_no_class() -> None:
    log = "qemu-system-x86_64: the accelerator of this lift is broken\n"
    assert classify(log).kind == "other"


SIZE = Refusal("ram-block-size", "Size mismatch: pc.bios: 0x20000 != 0x40000: Invalid argument")


def test_blocked() -> None:
    judgement = judge(
        planned(START, MIGRATE, RESET),
        [started(), StepObserved(MIGRATE, 0.1, 0, refusal=SIZE)],
        KNOWN,
    )
    assert judgement.verdict is Verdict.BLOCKED
    assert judgement.reason == (
        "migrate: ram-block-size: Size mismatch: pc.bios: 0x20000 != 0x40000: Invalid argument"
    )
    assert [each.step for each in judgement.boots] == ["start"]


def test_a_launch_can_be_blocked() -> None:
    refusal = Refusal("missing-feature", "failed to initialize kvm: No such file")
    judgement = judge(planned(START), [StepObserved(START, 0.1, refusal=refusal)], KNOWN)
    assert judgement.verdict is Verdict.BLOCKED
    assert judgement.reason.startswith("start: missing-feature: failed to initialize kvm")


def test_a_refusal_that_must_come_is_a_pass() -> None:
    expected = planned(START, MIGRATE, RESET, machine="default")
    seen = [started(), StepObserved(MIGRATE, 0.1, 0, refusal=MACHINE_TYPE)]
    judgement = judge(expected, seen, KNOWN)
    assert judgement.verdict is Verdict.PASS
    assert judgement.reason == "QEMU refused the migrate, as it must (machine-type)"


def test_blocked_by_another_reason_than_the_one_that_must_come() -> None:
    expected = planned(START, MIGRATE, RESET, machine="default")
    seen = [started(), StepObserved(MIGRATE, 0.1, 0, refusal=SIZE)]
    judgement = judge(expected, seen, KNOWN)
    assert judgement.verdict is Verdict.BLOCKED
    assert judgement.reason.endswith("(expected: machine-type)")


def test_a_refusal_that_must_come_and_does_not() -> None:
    expected = planned(START, MIGRATE, RESET, machine="default")
    judgement = judge(expected, [started(), migrated(), reset(boot(NEW, 1))], KNOWN)
    assert judgement.verdict is not Verdict.PASS
    assert judgement.reason == (
        "migrate: QEMU must refuse this (machine-type), but it went through"
    )


@pytest.mark.parametrize("hostile", ["x" * (1 << 20), "requires 1 bytes, " * 60_000,
                                     "requires 1 bytes, " + "block backend" * 80_000],
                         ids=["nothing", "begun", "begun more"])
def test_what_a_hostile_qemu_complains_of_is_read_once(hostile: str) -> None:
    assert classify(hostile).kind == "other"


@pytest.mark.parametrize("status", [137, -9])
def test_of_one_that_was_killed_it_is_said_what_can_have_killed_it(status: int) -> None:
    found = classify("", status)
    assert found.kind == "other"
    assert found.message.startswith(f"no reason given, exit status {status}; by SIGKILL")
    assert "limits: {memory: MIB}" in found.message
    assert classify("", 1).message == "no reason given, exit status 1"
