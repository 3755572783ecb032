"""What users write for QEMU is read as QEMU reads it, and what is the harness's own refused."""

from __future__ import annotations

import pytest

from bootmatrix import arguments
from bootmatrix.arguments import (
    ArgumentSet,
    complaint,
    cpus,
    devices,
    keys,
    last,
    mib,
    number,
    pairs,
    size,
)


def test_a_machine_is_a_type_and_options() -> None:
    assert arguments.machine_type("pc-q35-10.0,acpi=off,smm=on") == "pc-q35-10.0"
    assert arguments.machine_options("pc-q35-10.0,acpi=off,smm=on") == ",acpi=off,smm=on"
    assert arguments.machine_options("pc") == ""
    assert str(ArgumentSet("numa", ("-numa", "node"))) == "numa"


def test_keys_and_values_are_split_as_qemu_does() -> None:
    assert list(pairs("a=1,b,c=x,,y")) == [("a", "1"), ("b", ""), ("c", "x,y")]
    assert keys("a=1,a=2") == {"a": "2"}


@pytest.mark.parametrize(("smp", "count"), [
    (2, 2), ("4,maxcpus=64", 4), ("cpus=3", 3), ("sockets=2,cores=2,threads=2", 8),
    ("maxcpus=8,sockets=2", None),
])
def test_how_many_cpus_a_guest_begins_with(smp: int | str, count: int | None) -> None:
    assert cpus(smp) == count


@pytest.mark.parametrize(("memory", "size"), [
    (512, 512), ("1G,slots=2,maxmem=4G", 1024), ("size=64M", 64), ("512", 512), ("", None),
    ("size=1k", None),
])
def test_how_much_memory_it_has(memory: int | str, size: int | None) -> None:
    assert mib(memory) == size


def test_an_option_counts_as_it_stands_last() -> None:
    words = ["-smp", "2", "-m", "64", "--smp", "4,maxcpus=8"]
    assert last(words, "smp") == "4,maxcpus=8"
    assert last(words, "cpu") is None


@pytest.mark.parametrize(("words", "says"), [
    (["-object", "rng-builtin,id=r", "-machine", "acpi=off"], None),
    (["-device", "-monitor"], None),  # a value, whatever it looks like
    (["-monitor", "stdio"], "-monitor is not to be given here: the monitor says it"),
    (["-M", "pc,accel=kvm"], "accel= is not to be given here"),
    (["-device virtio-rng-pci"], "is one word; an option and its value are two"),
    (["x" * 5000], "longer than"),
    (["-device", "a\nb"], "cannot be printed"),
    (["x"] * 2000, "more than 1024 words"),
])
def test_what_is_wrong_with_a_list(words: list[str], says: str | None) -> None:
    found = complaint(words)
    assert found == says if says is None else says in (found or "")


def test_a_set_of_devices_has_options_beside_them() -> None:
    assert devices(["qemu-xhci", "-object", "rng-builtin,id=r", "-usb", "virtio-rng-pci,rng=r"]) \
        == ("-device", "qemu-xhci", "-object", "rng-builtin,id=r", "-usb", "-device",
            "virtio-rng-pci,rng=r")


@pytest.mark.parametrize(("text", "unit", "bytes_"), [
    ("1.5G", 1, 3 << 29), ("512", 1 << 20, 1 << 29), ("512B", 1 << 20, 512), ("0x600", 1, 1536),
    ("2t", 1, 2 << 40), ("0.5k", 1, 512), ("1e", 1, 1 << 60), ("1.5", 1 << 20, None),
    ("1.5B", 1, None), ("512MB", 1, None), ("0x200", 1 << 20, None), ("-1", 1, None),
    ("8E", 1, None), ("", 1, None), ("9" * 5000, 1, None), ("1e3", 1, None), ("\u0661", 1, None),
])
def test_sizes_are_read_as_qemu_reads_them(text: str, unit: int, bytes_: int | None) -> None:
    """Those of -m were asked of 10.0."""
    assert size(text, unit) == bytes_


@pytest.mark.parametrize(("text", "found"), [
    ("12", 12), ("0xc", 12), ("014", 12), ("0", 0), ("08", None), ("x", None), ("-1", None),
    ("9" * 5000, None), ("\u0661", None), ("", None),
])
def test_numbers_are_read_as_qemu_reads_them(text: str, found: int | None) -> None:
    assert number(text) == found
