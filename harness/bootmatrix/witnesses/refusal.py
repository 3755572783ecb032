"""Why did QEMU refuse? Its own words, to a class of reason: ``StepObserved.refusal``. Pure.

The messages are QEMU's, collected from versions 2.6 to 11.1; docs/refusals.md lists the classes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from bootmatrix.model import Limits, Verdict

if TYPE_CHECKING:  # it is part of what a moment holds
    from bootmatrix.witnesses.moment import Moment, Problem


@dataclass(frozen=True)
class Refusal:
    """A launch or migration that QEMU refused: the class of the reason, and its own words."""

    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


# Compiled where something is refused, which most processes never see.
_CLASSES = tuple(
    (kind, cache(partial(re.compile, pattern)))
    for kind, pattern in (
        ("machine-type", r"Machine type received is '[^']*' and local is '[^']*'"),
        ("machine-type", r"unsupported machine type[^\n]*"),
        # QEMU < 5.2 says "Length mismatch: X: 0x.. in != 0x..", since then "Size mismatch".
        ("ram-block-size", r"(?:Size|Length) mismatch: [^\n]*"),
        ("ram-block-size", r"Size too large: [^\n]*"),
        ("rom-size", r"combined size of system firmware exceeds [^\n]*"),
        ("rom-size", r"system firmware block device +has invalid size [^\n]*"),
        ("rom-size", r"romfile \"[^\"\n]{0,500}\" \([0-9]{1,20} bytes\) is too large for ROM size"
                     r"[^\n]*"),
        # "device requires 67108864 bytes, pflash0 block backend provides 2097152 bytes"
        # (What QEMU writes can be hostile: no part of a pattern may be tried at every place anew.)
        ("rom-size", r"[^\n:]{0,100}requires [0-9]{1,20} bytes, [^\n]{0,100}block backend"
                     r"[^\n]{0,100} provides [^\n]*"),
        # A virtio queue: the stream's is longer than the destination's device has it.
        ("queue-size", r"VQ [0-9]{1,10} [^\n]{0,100}vring\.num 0x[0-9a-f]+[^\n]*"),
        ("queue-size", r"VQ [0-9]{1,10} [^\n]{0,100}vring\.num [^\n]*"),
        ("ram-block-unknown", r"Unknown ramblock \"[^\"]*\"[^\n]*"),
        ("missing-section", r"Missing section footer for [^\n]*"),
        ("missing-section", r"(?:Read section footer failed|Section footer error)[^\n]*"),
        ("not-migratable", r"State blocked by non-migratable device[^\n]*"),
        ("section-version", r"unsupported version [0-9]{1,10} for '[^'\n]{1,200}' v[0-9]{1,10}"),
        ("unknown-section", r"Unknown (?:savevm )?section(?: or instance)? [^\n]*"),
        ("unknown-section", r"MIG_CMD 0x[0-9a-f]+ unknown[^\n]*"),
        # Of what is handed over before a cpr-transfer: -2, ENOENT, is a part that it does not have.
        ("unknown-section", r"vmstate_load_state error -2\b[^\n]*"),
        # swtpm of the source is newer, or what it keeps is damaged: what is in its state, or how.
        ("tpm-state", r"tpm-emulator: [^\n]{0,60}state ?blob[^\n]*"),
        ("tpm-state", r"TPM emulator does not support migration"),
        ("missing-feature", r"Features 0x[0-9a-f]+ unsupported[^\n]*"),
        ("missing-feature", r"invalid accelerator [^\n]*"),
        # A property that this version does not know yet, of a device, a machine or a CPU.
        ("missing-feature", r"Property '[^']*' not found"),
        ("missing-feature", r"'[^'\n]{1,200}' is not a valid device model name"),
        # A capability or a parameter of a migration, or a value of one.
        ("missing-feature", r"Invalid parameter '[^']*'"),
        ("missing-feature", r"Parameter '[^']*' (?:is unexpected|does not accept value)[^\n]*"),
        ("missing-feature", r"unable to find CPU model [^\n]*"),
        ("missing-feature", r"CPU model '[^']*' requires [^\n]*"),
        ("missing-feature", r"(?:TCG|[Hh]ost) doesn't support requested features?[^\n]*"),
        ("missing-feature", r"Invalid SMP CPUs [^\n]*"),
        ("missing-feature", r"No 'PCI' bus found for device [^\n]*"),
        ("missing-feature", r"System Management Mode not supported by this hypervisor[^\n]*"),
        ("missing-feature", r"Could not access KVM kernel module[^\n]*"),
        ("missing-feature", r"failed to initialize kvm[^\n]*"),
        ("missing-feature", r"failed to set MSR 0x[^\n]*"),  # and QEMU aborts
        ("device-state", r"get_pci_config_device: Bad config data[^\n]*"),
        ("device-state", r"VQ [0-9]{1,10} size 0x[0-9a-f]+ Guest index [^\n]*"),
        ("device-state", r"error while loading state for instance [^\n]*"),
        ("device-state", r"Failed to load [^\n]*"),
        # A limit of the sandbox, in QEMU's words, its libraries' or the kernel's.
        ("sandbox-memory", r"cannot set up guest memory '[^'\n]{0,200}': Cannot allocate memory"),
        ("sandbox-memory", r"failed to allocate [0-9]{1,20} bytes"),
        ("sandbox-memory", r"allocate [0-9]{1,20} bytes for [^\n]{1,100}: Cannot allocate memory"),
        ("sandbox-file", r"[^\n:]{1,200}: File too large"),
        ("sandbox-processes", r"[^\n: ]{0,50}thread[^\n:]{0,50}: Resource temporarily unavailable"),
        ("block-device", r"(?:Could not open|Failed to get \"write\" lock)[^\n]*"),
        ("block-device", r"Device '[^']*' is writable but does not support snapshots[^\n]*"),
    )
)
LIMITED = {"sandbox-memory": "memory", "sandbox-file": "file", "sandbox-processes": "processes"}
"""Classes that a limit of the sandbox is behind, and which (bootmatrix.model.Limits)."""
_KILLED = (137, -9)  # by SIGKILL, as a shell says it, and Python
_CONSEQUENCES = ("device-state", "block-device")
_MOST = 1 << 16
"""Characters that are read: far more than a QEMU says, and few enough to be read at once."""
# QEMU's error_report: program, where in the command line, severity if it is no error, text.
_HARMLESS = re.compile(r"^qemu[^:\n]*: (?:-[^\n]*?: )?(?:warning|info): [^\n]*$", re.MULTILINE)
_OTHER = re.compile(r"^qemu[^:\n]*: ([^\n]+)", re.MULTILINE)


_LIMITS = {
    "memory": ("{} MiB of memory", "4096 MiB of address space, or 2048 MiB of memory in Docker"),
    "file": ("{} MiB for a file", "256 MiB for a file"),
    "processes": ("{} processes and threads", "256 processes and threads"),
}


def limit_text(limits: Limits, name: str) -> str:
    """One of the limits of a sandbox, in words."""
    given = getattr(limits, name)
    text, default = _LIMITS[name]
    return text.format(given) if given else default


def classify(text: str, status: int | None = None) -> Refusal:
    """The first known cause in what QEMU wrote; kind ``other`` with its last complaint if none.

    ``status`` is the exit status of a QEMU that has ended, to be told if it said nothing.

    QEMU reports a size mismatch, and after it that a device's state could not be loaded: what it
    says of a device's state (_CONSEQUENCES) counts where it says nothing else, in the order of
    _CLASSES.
    """
    text = _HARMLESS.sub("", text[-_MOST:])
    found = [(last, place if last else there.start(), kind, there)
             for place, (kind, pattern) in enumerate(_CLASSES) if (there := pattern().search(text))
             for last in [kind in _CONSEQUENCES]]
    if found:
        _, _, kind, there = min(found, key=lambda one: one[:2])
        return Refusal(kind, there.group(0).strip())
    complaints = _OTHER.findall(text)
    if complaints:
        return Refusal("other", complaints[-1].strip())
    why = f", exit status {status}" if status else ""
    if status in _KILLED:
        why += ("; by SIGKILL, which a kernel sends where memory is used up: the sandbox's "
                "(limits: {memory: MIB}), or the machine's")
    return Refusal("other", "no reason given" + why)


def problem(moment: Moment) -> Problem | None:
    """A refusal that must come did not, or another came, or one that must not."""
    expected, seen = moment.expected.refusal, moment.seen.refusal
    if seen is None:
        return Verdict.ERROR, f"QEMU must refuse this ({expected}), but it went through"
    if expected == seen.kind:
        return None
    instead = f" (expected: {expected})" if expected else ""
    return Verdict.BLOCKED, f"{seen}{instead}"
