"""What QEMU prints of its CPUs, read and told in a line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bootmatrix.machines.qemu.samples import Sample, accesses, sample, sentence


def x86(
    pointer: str, cs: str = "0000 00000000", flags: str = "00000002", halted: int = 0,
    cr0: str = "00000010",
) -> str:
    """As QEMU 5.2 to 11.1 print it, shortened."""
    letter = "R" if len(pointer) == 16 else "E"
    return (f"\nCPU#0\n{letter}AX=00000000 {letter}DX=00000663\n"
            f"{letter}IP={pointer} {letter}FL={flags} [-------] CPL=0 II=0 A20=1 SMM=0 "
            f"HLT={halted}\nES =0000 00000000 0000ffff 00009300\nCS ={cs} 0000ffff 00009b00\n"
            f"CR0={cr0} CR2=00000000 CR3=00000000 CR4=00000000\n")


@pytest.mark.parametrize(("registers", "address", "shown"), [
    (x86("0000e05b", "f000 000f0000"), 0xFE05B, "F000:E05B"),
    (x86("0000fff0", "f000 ffff0000"), 0xFFFFFFF0, "0xfffffff0"),  # no far jump yet
    (x86("000ec4e2", "0008 00000000", cr0="00000011"), 0xEC4E2, "0x000ec4e2"),
    (x86("000000000047219a", "0010 0000000000000000", cr0="80000011"), 0x47219A, "0x0047219a"),
    (x86("00000010", "ffff 000ffff0"), 0x100000, "FFFF:0010"),
    ("CPU#0\n PC=00000000469efa04 X00=0000000047946118\n", 0x469EFA04, "0x469efa04"),
    ("CPU#0\n priv          S\n pc            000000008f7377e0\n sstatus 8\n",
     0x8F7377E0, "0x8f7377e0"),
    ("CPU#0\nNIP 0000000000000100   LR 0000000000000000 CTR 0\n", 0x100, "0x00000100"),
    ("CPU#0\npc: 000001fff0000020  npc: 000001fff0000024\n", 0x1FFF0000020, "0x1fff0000020"),
    ("CPU#0\nPSW=mask 0302000180000000 addr 0000000007e004f0 cc 00\n", 0x7E004F0, "0x07e004f0"),
    ("CPU#0\n PC=000000000eee6ae0  FCSR0 0x00000000\n", 0xEEE6AE0, "0x0eee6ae0"),
], ids=["real mode", "reset vector", "protected mode", "long mode", "above 1 MiB", "aarch64",
        "riscv64", "ppc64", "sparc64", "s390x", "loongarch64"])  # fmt: skip
def test_where_a_cpu_is(registers: str, address: int, shown: str) -> None:
    one = sample(registers)
    assert one is not None
    assert (one.address, one.shown) == (address, shown)


def test_whether_it_is_halted_and_takes_interrupts() -> None:
    found = [sample(x86("00007c02", flags=flags, halted=halted))
             for flags, halted in (("00000202", 1), ("00000002", 1), ("00000046", 0))]
    assert [(one and one.halted, one and one.interrupts) for one in found] == [
        (True, True), (True, False), (False, False)]


def test_of_several_cpus_it_is_the_one_that_does_something() -> None:
    halted, busy = x86("00001111", halted=1), x86("00002222").replace("CPU#0", "CPU#1")
    assert sample(halted + busy) == sample(busy)
    assert sample(halted + busy.replace("HLT=0", "HLT=1")) == sample(halted)


@pytest.mark.parametrize("registers", ["", "EIP=zz", "unknown command: 'info registers'\n",
                                       "EIP=00007c00 EFL=00000002 HLT=0\n", "\x1b[2J"])
def test_what_is_no_register_is_no_sample(registers: str) -> None:
    assert sample(registers) is None


def at(*addresses: int, halted: bool | None = False, interrupts: bool = False) -> list[Sample]:
    return [Sample(address, f"{address:#x}", halted, interrupts) for address in addresses]


def many(*samples: list[Sample]) -> Iterator[Sample]:
    for some in samples:
        yield from 5 * some


@pytest.mark.parametrize(("samples", "told"), [
    ([], "the registers cannot be read"),
    (many(at(0xFE05B, 0xFE05B, halted=True)), "halted with interrupts off at 0xfe05b"),
    (many(at(0x7C02, 0x7C02, halted=True, interrupts=True)),
     "halted until an interrupt comes, at 0x7c02"),
    (many(at(0x10, 0x10, 0x18)), "loops in 0x10-0x18"),
    (many(at(0x10, 0x10)), "stays at 0x10"),
    (many(at(0x10, 0x411, 0x411)), "runs at 2 places, most often at 0x411"),
    (many(at(0x10, 0x410, 0x410)), "loops in 0x10-0x410"),
    (many(at(0x10), at(0x20, halted=True)), "halted now and then, at 0x20"),
    (at(0x10, 0x18, 0x18), "loops in 0x10-0x18, in 3 samples"),
    (at(0xFE05B, halted=True), "halted with interrupts off at 0xfe05b"),
    (many(at(0x10, 0x10, halted=None)), "stays at 0x10"),
])  # fmt: skip
def test_what_it_does_in_a_line(samples: list[Sample], told: str) -> None:
    assert sentence(list(samples), lambda address: "") == told


def test_symbols_are_named() -> None:
    def naming(address: int) -> str:
        return f"handle_post+{address - 0x10:#x}" if address >= 0x10 else ""

    assert sentence(at(0x18, halted=True), naming) == (
        "halted with interrupts off at 0x18 (handle_post+0x8)")
    assert sentence(at(*10 * [0x10, 0x18, 0x18]), naming) == "loops in 0x10-0x18 (handle_post+0x8)"
    assert sentence(at(0x8), naming) == "stays at 0x8"


TRACE = """\
6@1795675842.835141:memory_region_ops_write cpu 0 mr 0x562f addr 0xb2 value 0x20 size 1
memory_region_ops_read cpu 0 mr 0x55df addr 0xfebff110 value 0x0 size 4 name 'ahci'
memory_region_ops_read cpu 0 mr 0x55df addr 0xfebff110 value 0x0 size 4 name 'ahci'
memory_region_ops_read cpu 0 mr 0x55df addr 0x608 value 0xa5964b size 4 name 'acpi-tmr'
memory_region_ops_read cpu 0 mr 0x55df addr 0x608 val"""


def test_what_is_accessed_by_its_name_and_how_often() -> None:
    assert accesses(TRACE, ports=True) == [
        ("ahci 0xfebff110 read", 2), ("port 0xb2 written", 1), ("acpi-tmr port 0x608 read", 1)]
    assert ("0xb2 written", 1) in accesses(TRACE, ports=False)


def test_no_name_of_a_device_steers_a_terminal() -> None:
    hostile = TRACE.replace("'ahci'", "'\x1b]0;owned\x07'").replace("'acpi-tmr'", "'x'::error::'")
    assert all(what.isascii() and what.isprintable() for what, _ in accesses(hostile, ports=True))
    assert not any("owned" in what for what, _ in accesses(hostile, ports=True))
