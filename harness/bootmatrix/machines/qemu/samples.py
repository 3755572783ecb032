"""Where a CPU was, again and again: its registers as QEMU prints them, and one line for all. Pure.

What QEMU prints is QEMU's: lines are made of numbers that were found in it, of nothing else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Of x86: "EIP=0000e05b EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1", or RIP and RFL.
_X86 = re.compile(
    r"\b[ER]IP=([0-9a-f]{8,16}) [ER]FL=([0-9a-f]{8,16}) [^\n]{0,100}\bHLT=([01])")
# "CS =f000 ffff0000 0000ffff 00009b00": selector and base, of 16 digits in long mode.
_CODE = re.compile(r"^CS =([0-9a-f]{4}) ([0-9a-f]{8,16})", re.MULTILINE)
_CR0 = re.compile(r"\bCR0=([0-9a-f]{8})")
# aarch64's " PC=0000000040201234", riscv64's " pc       0000000080000a1c", ppc64's
# "NIP 0000000000000100   LR ...", sparc64's "pc: 000001fff0000020  npc: ...", s390x's
# "PSW=mask 0000000180000000 addr 0000000007e01234 cc 00".
_OTHER = re.compile(
    r"^ ?PC=([0-9a-f]{8,16})\b|^ pc +([0-9a-f]{8,16})\b|^NIP ([0-9a-f]{16})\b|"
    r"^pc: ([0-9a-f]{16})\b|^PSW=mask [0-9a-f]{16} addr ([0-9a-f]{16})\b", re.MULTILINE)
_INTERRUPTS = 1 << 9  # IF in EFLAGS
_PROTECTED = 1  # PE in CR0

LOOP_BYTES = 1024
"""Addresses that are no farther apart are called a loop."""
FEW = 10
"""So many samples say enough."""

Naming = Callable[[int], str]
"""What symbols say of an address, "" for nothing."""


@dataclass(frozen=True)
class Sample:
    """A CPU at one moment: the linear ``address`` of its next instruction, as people write it.

    ``halted`` and ``interrupts``, whether it takes any, are None where QEMU does not say so.
    """

    address: int
    shown: str
    halted: bool | None = None
    interrupts: bool | None = None


def sample(registers: str) -> Sample | None:
    """The CPU of a machine that does not rest, or else its first, in what QEMU prints of them."""
    found = [one for part in registers.split("CPU#") if (one := _of_one(part)) is not None]
    return next((one for one in found if not one.halted), found[0] if found else None)


def _of_one(registers: str) -> Sample | None:
    x86, code, cr0 = (one.search(registers) for one in (_X86, _CODE, _CR0))
    if x86 and code and cr0:
        pointer, flags, selector, base, control = (
            int(text, 16) for text in (*x86.group(1, 2), *code.groups(), cr0[1]))
        width = len(x86[1])
        address = (base + pointer) % (1 << 4 * width)
        real = not control & _PROTECTED and base == selector << 4
        shown = f"{selector:04X}:{pointer:04X}" if real else f"{address:#010x}"
        return Sample(address, shown, x86[3] == "1", bool(flags & _INTERRUPTS))
    if other := _OTHER.search(registers):
        address = int(next(filter(None, other.groups())), 16)
        return Sample(address, f"{address:#010x}")
    return None


def most_frequent(samples: Sequence[Sample]) -> Sample:
    """The sample whose address is the most frequent; there must be some."""
    counts = Counter(one.address for one in samples)
    return max(samples, key=lambda one: counts[one.address])


def sentence(samples: Sequence[Sample], naming: Naming) -> str:
    """What a CPU does, in some words: halted, looping, or neither; few samples are said to be."""
    if not samples:
        return "the registers cannot be read"
    few = f", in {len(samples)} samples" if 1 < len(samples) < FEW else ""
    return _doing(samples, naming) + few


def _doing(samples: Sequence[Sample], naming: Naming) -> str:
    often, halted = most_frequent(samples), [one for one in samples if one.halted]
    if len(halted) == len(samples):
        if any(one.interrupts for one in samples):
            return f"halted until an interrupt comes, at {_at(often, naming)}"
        return f"halted with interrupts off at {_at(often, naming)}"
    lowest = min(samples, key=lambda one: one.address)
    highest = max(samples, key=lambda one: one.address)
    if halted:
        return f"halted now and then, at {_at(halted[0], naming)}"
    if lowest.address == highest.address:
        return f"stays at {_at(often, naming)}"
    if highest.address - lowest.address <= LOOP_BYTES:
        name = naming(often.address)
        return f"loops in {lowest.shown}-{highest.shown}" + (f" ({name})" if name else "")
    places = len({one.address for one in samples})
    return f"runs at {places} places, most often at {_at(often, naming)}"


def _at(one: Sample, naming: Naming) -> str:
    name = naming(one.address)
    return f"{one.shown} ({name})" if name else one.shown


# ---- what it has accessed ---------------------------------------------------------------------

# "memory_region_ops_read cpu 0 mr 0x55df addr 0x608 value 0xa5 size 4 name 'acpi-tmr'"; the name
# is there since QEMU 6.
_ACCESS = re.compile(
    r"memory_region_ops_(read|write) cpu -?\d+ mr 0x[0-9a-f]+ addr (0x[0-9a-f]{1,16}) "
    r"value 0x[0-9a-f]{1,16} size \d(?: name '([\w.,:+ -]{1,40})')?", re.ASCII)
_PORTS = 0x10000  # of x86: no device's memory lies so low
_DONE = {"read": "read", "write": "written"}


def accesses(trace: str, ports: bool) -> list[tuple[str, int]]:
    """What was read and written, and how often, the most frequent first.

    ``ports``: addresses that a port can have are ports.
    """
    counts = Counter(
        f"{name + ' ' if name else ''}{'port ' * (ports and int(address, 16) < _PORTS)}{address} "
        + _DONE[kind]
        for kind, address, name in _ACCESS.findall(trace))
    return counts.most_common()
