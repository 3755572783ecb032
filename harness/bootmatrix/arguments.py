"""What QEMU is told of a machine, as users write it: types with options, -smp, -m, lists of words.

Nothing here knows which options there are: QEMU does. What the harness needs of them is read as
QEMU reads it, and what is the harness's own to say is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

MOST_WORDS, LONGEST_WORD = 1024, 4096
"""Words of one list of arguments, and characters of each; a large libvirt domain has 300."""

# The harness's own, without which no guest can be watched, or told apart from another.
_OWN_MACHINE = {
    "accel": "the axis accel", "graphics": "the console that is read", "pflash0": "the firmware",
    "pflash1": "the firmware", "firmware": "the firmware", "kernel": "the guest",
    "initrd": "the guest", "append": "the guest", "dtb": "the guest", "type": "the axis machine",
}
_OWN_OPTIONS = {
    "accel": "the axis accel", "enable-kvm": "the axis accel", "bios": "the host's firmware",
    "pflash": "the host's firmware", "S": "the monitor", "monitor": "the monitor",
    "qmp": "the monitor", "qmp-pretty": "the monitor", "incoming": "the scenario",
    "loadvm": "the scenario", "daemonize": "the process", "pidfile": "the process",
    "runas": "the process", "run-with": "the process", "chroot": "the process",
    "sandbox": "the process", "D": "the log", "trace": "the log", "gdb": "the gdb stub",
    "s": "the gdb stub", "kernel": "the axis guest", "initrd": "the axis guest",
    "append": "the axis guest", "serial": "the console that is read",
    "nographic": "the console that is read", "display": "the console that is read",
    "nodefaults": "given anyway", "no-user-config": "given anyway", "no-reboot": "the scenario",
    "no-shutdown": "the scenario", "qtest": "the monitor", "preconfig": "the monitor",
    "h": "nothing to run", "help": "nothing to run", "version": "nothing to run",
    "dump-vmstate": "nothing to run",
}  # fmt: skip
_NUMBER = re.compile(r"0[xX]([0-9a-fA-F]{1,15})|0([0-7]{1,20})|([1-9][0-9]{0,17}|0)")
_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{0,18}))?([bBkKmMgGtTpPeE])?")
_FACTOR = {letter: 1 << 10 * power for power, letter in enumerate("bkmgtpe")}
_LARGEST_SIZE = 1 << 63


@dataclass(frozen=True)
class ArgumentSet:
    """Words for QEMU's command line, by the name that their user gives them; "": none."""

    name: str = ""
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def machine_type(machine: str) -> str:
    """The type alone of a machine that is written with its options."""
    return machine.partition(",")[0]


def machine_options(machine: str) -> str:
    """The options alone, with the comma before them; "": none."""
    _, comma, options = machine.partition(",")
    return comma + options


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """``a=1,b,c=x`` as QEMU splits it (two commas are one): ("a", "1"), ("b", ""), ("c", "x")."""
    for part in re.split(r",(?!,)", text.replace(",,", "\0")):
        key, equals, value = part.replace("\0", ",").partition("=")
        if key or equals:
            yield key, value


def keys(text: str) -> Mapping[str, str]:
    """The last value of each key."""
    return dict(pairs(text))


def cpus(smp: int | str) -> int | None:
    """How many CPUs a guest begins with; None where QEMUs read it differently."""
    if isinstance(smp, int):
        return smp
    first, _, rest = smp.partition(",")
    given = {**({"cpus": first} if "=" not in first else keys(first)), **keys(rest)}
    numbers = {key: int(value) for key, value in given.items()
               if value.isascii() and value.isdecimal()}
    if "cpus" in numbers:
        return numbers["cpus"]
    if "maxcpus" in numbers:  # before 6.2 all that the topology has, since then all there may be
        return None
    product = 1
    for key in ("drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads"):
        product *= numbers.get(key, 1)
    return product


def number(text: str) -> int | None:
    """A number as QEMU reads it: 12, 0xc, 014. None: it is none."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    return int(found[1], 16) if found[1] else int(found[2], 8) if found[2] else int(found[3])


def size(text: str, unit: int = 1) -> int | None:
    """Bytes of a size as QEMU reads it: 1536M, 1.5G, 0x600; None: it is none.

    ``unit`` is what one counts that ends in a digit, and a part of that is no size. Where that is
    not a byte QEMU 10.0 has nothing that begins with 0x.
    """
    if text[:2] in ("0x", "0X"):
        bytes_ = number(text) if unit == 1 else None
    else:
        match = _SIZE.fullmatch(text)
        if match is None or (match[2] and (match[3] or "b") in "bB"):
            return None
        factor = _FACTOR[match[3].lower()] if match[3] else unit
        part = match[2] or ""
        bytes_ = int(match[1]) * factor + int(part or "0") * factor // 10 ** len(part)
    return bytes_ if bytes_ is not None and bytes_ < _LARGEST_SIZE else None


def mib(memory: int | str) -> int | None:
    """MiB of what ``-m`` is given; None: nothing is, or not in whole MiB."""
    if isinstance(memory, int):
        return memory
    first = memory.partition(",")[0]
    text = first if "=" not in first else keys(memory).get("size", "")
    found = size(text, 1 << 20)
    return None if found is None or found % (1 << 20) else found >> 20


def last(words: Sequence[str], option: str) -> str | None:
    """What an option is given the last time that it stands among words."""
    found = [value for name, value in pairwise(words)
             if name in (f"-{option}", f"--{option}")]
    return found[-1] if found else None


def complaint(words: Iterable[str]) -> str | None:
    """What is wrong with a list of words for QEMU, in a sentence; None: nothing that shows."""
    listed = list(words)
    if len(listed) > MOST_WORDS:
        return f"more than {MOST_WORDS} words"
    for at, word in enumerate(listed):
        if len(word) > LONGEST_WORD or not word.isprintable():
            return (f"{word[:40]!r}... is longer than {LONGEST_WORD} characters"
                    if len(word) > LONGEST_WORD else f"{word[:40]!r} has what cannot be printed")
        if not word.startswith("-") or (at and takes_value(listed[at - 1])):
            continue
        name = word.lstrip("-")
        if " " in word:
            return f"{word!r} is one word; an option and its value are two"
        if name in _OWN_OPTIONS:
            return f"-{name} is not to be given here: {_OWN_OPTIONS[name]} says it"
        if name in ("machine", "M") and (
                wrong := machine_complaint("," + "".join(listed[at + 1:at + 2]))) is not None:
            return wrong
    return None


def machine_complaint(machine: str) -> str | None:
    """What is wrong with the options of a machine; None: nothing that shows."""
    for key, _ in pairs(machine_options(machine).removeprefix(",")):
        if key in _OWN_MACHINE:
            return f"{key}= is not to be given here: {_OWN_MACHINE[key]} says it"
    return None


def takes_value(option: str) -> bool:
    """Whether the word behind an option is its value."""
    return option.startswith("-") and option.lstrip("-") not in NO_VALUE


NO_VALUE = frozenset((
    "h", "help", "version", "snapshot", "no-acpi", "no-hpet", "usb", "nographic", "full-screen",
    "no-fd-bootchk", "enable-kvm", "S", "s", "daemonize", "no-reboot", "no-shutdown", "nodefaults",
    "no-user-config", "nodefconfig", "win2k-hack", "rtc-td-hack", "localtime", "sdl", "curses",
    "portrait", "show-cursor", "singlestep", "mem-prealloc", "enable-sync-profile", "no-quit",
    "alt-grab", "ctrl-grab", "no-frame", "only-migratable", "preconfig", "xen-attach", "no-kvm",
    "no-kvm-irqchip", "no-kvm-pit", "no-kvm-pit-reinjection", "tdf", "old-param",
    "semihosting", "enable-fips", "xen-domid-restrict", "xen-create", "async-teardown", "perfmap",
    "jitdump", "audio-help", "enable-hax", "virtfs_synth",
))
"""Options of QEMU's that have no value, from 2.0 to 11.1."""


def devices(words: Sequence[str]) -> tuple[str, ...]:
    """A set of devices as words: what is not an option or the value of one is a ``-device``'s."""
    found: list[str] = []
    value = False
    for word in words:
        if value:
            found.append(word)
            value = False
        elif word.startswith("-"):
            found.append(word)
            value = takes_value(word)
        else:
            found += ["-device", word]
    return tuple(found)
