"""Every class of difference, planted; and baselines: kept, damaged, foreign."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.fw_cfg.contract import (
    ChangeKind,
    Difference,
    Impact,
    Item,
    Offer,
    compare,
    worst,
)
from helpers.offers import ALLOCATE, ASKED, BOOT_WAIT, E820, FIXED, LOADER, OLD, ROM, SMI, TABLES

HARMLESS, CONTENT, BREAKS = Impact.HARMLESS, Impact.CONTENT, Impact.BREAKS


def with_item(item: Item) -> Offer:
    """The old offer with another item of the same name, or one more."""
    rest = [i for i in OLD.items if (i.key if i.fixed else i.name) !=
            (item.key if item.fixed else item.name)]
    return replace(OLD, items=(*rest, item))


def without(item: Item) -> Offer:
    return replace(OLD, items=tuple(i for i in OLD.items if i != item))


def data(item: Item, raw: bytes) -> Offer:
    return with_item(replace(item, data=raw))


def only(new: Offer) -> Difference:
    found = compare(OLD, new)
    assert len(found) == 1, found
    return found[0]


def test_the_same() -> None:
    assert compare(OLD, OLD) == ()
    assert worst(()) is None


ONE_DIFFERENCE = [
    # files
    (with_item(Item(0x40, "etc/new", b"x")), ChangeKind.APPEARED, HARMLESS),
    (without(E820), ChangeKind.VANISHED, BREAKS),
    (without(ROM), ChangeKind.VANISHED, CONTENT),
    (with_item(replace(E820, key=0x26)), ChangeKind.MOVED_KEY, HARMLESS),
    (data(BOOT_WAIT, b"\0" * 4), ChangeKind.CHANGED, CONTENT),
    (data(BOOT_WAIT, b"\xff" * 2), ChangeKind.RESIZED, BREAKS),
    (data(BOOT_WAIT, b"\xff" * 8), ChangeKind.RESIZED, BREAKS),
    (data(E820, b""), ChangeKind.EMPTIED, BREAKS),
    (data(E820, E820.data * 2), ChangeKind.RESIZED, CONTENT),
    (data(E820, E820.data + b"x"), ChangeKind.MALFORMED, BREAKS),
    (data(TABLES, b"rubbish"), ChangeKind.MALFORMED, BREAKS),
    (with_item(replace(ASKED, writable=False)), ChangeKind.NOW_READ_ONLY, BREAKS),
    (with_item(replace(E820, writable=True)), ChangeKind.NOW_WRITABLE, HARMLESS),
    (data(SMI, struct.pack("<Q", 7)), ChangeKind.FEATURES_GAINED, HARMLESS),
    (data(SMI, struct.pack("<Q", 1)), ChangeKind.FEATURES_LOST, BREAKS),
    # fixed keys
    (data(FIXED[0], b"KVM!"), ChangeKind.CHANGED, BREAKS),
    (data(FIXED[1], b"\1\0\0\0"), ChangeKind.FEATURES_LOST, BREAKS),
    (data(FIXED[1], b"\7\0\0\0"), ChangeKind.FEATURES_GAINED, HARMLESS),
    (data(FIXED[2], b"\2\0"), ChangeKind.CHANGED, CONTENT),
    (data(FIXED[2], b"\0\0"), ChangeKind.VANISHED, BREAKS),
    (data(FIXED[3], b"\1\0"), ChangeKind.CHANGED, CONTENT),
    (without(FIXED[4]), ChangeKind.VANISHED, BREAKS),
    (data(FIXED[5], b"x"), ChangeKind.APPEARED, HARMLESS),
]


@pytest.mark.parametrize(("new", "change", "impact"), ONE_DIFFERENCE)
def test_one_difference(new: Offer, change: ChangeKind, impact: Impact) -> None:
    found = only(new)
    assert (found.change, found.impact) == (change, impact)


def test_a_renamed_file() -> None:
    renamed = replace(OLD, items=tuple(
        replace(item, name="etc/e820-new") if item == E820 else item for item in OLD.items))
    gone, new = compare(OLD, renamed)
    assert (gone.change, gone.impact, gone.details) == \
        (ChangeKind.RENAMED, BREAKS, ("now etc/e820-new",))
    assert new.change is ChangeKind.APPEARED


def test_a_fixed_key_that_moved() -> None:
    moved = replace(OLD, items=tuple(
        replace(item, data=b"\1\0\0\0") if item.key == 0x8007 else item
        for item in OLD.items if item.key != 0x8002))
    gone = next(d for d in compare(OLD, moved) if d.item == "irq0_override")
    assert (gone.change, gone.impact) == (ChangeKind.MOVED_FIXED_KEY, BREAKS)
    assert gone.details == ("from 0x8002 to 0x8007",)


def test_both_features_lost_and_gained() -> None:
    found = compare(OLD, data(SMI, struct.pack("<Q", 5)))
    assert [(d.change, d.details) for d in found] == [
        (ChangeKind.FEATURES_LOST, ("cpu-hotplug",)),
        (ChangeKind.FEATURES_GAINED, ("cpu-hot-unplug",))]
    assert worst(found) is BREAKS


def test_a_script_that_works_on_what_is_not_there() -> None:
    more = struct.pack("<I56sIB", 1, b"etc/gone", 16, 2).ljust(128, b"\0")
    changed, missing = compare(OLD, data(LOADER, ALLOCATE + more))
    assert changed.impact is CONTENT
    assert missing.impact is BREAKS
    assert missing.details == ("it works on etc/gone, which is not there",)


def test_details_name_the_table_and_the_field() -> None:
    raw = bytearray(TABLES.data)
    raw[8] = 2
    assert only(data(TABLES, bytes(raw))).details == ("SSDT, revision: 1 to 2",)
    smbios = struct.pack("<BBHB", 99, 5, 1, 1) + b"one\0\0"
    before = with_item(Item(0x50, "etc/smbios/smbios-tables", smbios))
    after = with_item(Item(0x50, "etc/smbios/smbios-tables", smbios.replace(b"one", b"two")))
    assert compare(before, after)[0].details == ("type 99, string 1: one to two",)


def test_offsets_alone_are_told_as_that() -> None:
    moved = ALLOCATE + struct.pack("<I56sIII", 3, b"etc/acpi/tables", 9, 0, 36).ljust(128, b"\0")
    again = ALLOCATE + struct.pack("<I56sIII", 3, b"etc/acpi/tables", 9, 8, 36).ljust(128, b"\0")
    found, = compare(data(LOADER, moved), data(LOADER, again))
    assert found.details == ("only offsets, which another table's length has moved",)


def test_what_is_not_decoded_says_how_much_differs() -> None:
    assert only(data(ROM, b"rim")).details == ("1 byte differs, the first at 0x1",)


ANY_ITEMS = st.lists(st.builds(
    Item, st.integers(0, 0x8010), st.sampled_from([item.name for item in OLD.items]) | st.text(),
    st.binary(max_size=60), st.booleans()), max_size=8)


@given(ANY_ITEMS, ANY_ITEMS)
def test_any_two_offers_can_be_compared(one: list[Item], other: list[Item]) -> None:
    old, new = (replace(OLD, items=tuple(items)) for items in (one, other))
    for difference in compare(old, new):
        assert isinstance(difference.impact, Impact)
    assert compare(old, replace(old)) == () or len({i.name for i in one if not i.fixed}) < len(
        [i for i in one if not i.fixed]) or len({i.key for i in one}) < len(one)


def test_the_documented_classes_are_those_that_are_given() -> None:
    page = (Path(__file__).parents[2] / "docs" / "fw_cfg.md").read_text()
    rows = re.findall(r"^\| `([a-z -]+)` \| ((?:harmless|content|breaks)[a-z ]*) \|", page, re.M)
    documented = {change: set(classes.split(" or ")) for change, classes in rows}
    given: dict[str, set[str]] = {change.value: set() for change in ChangeKind}
    for _, change, impact in ONE_DIFFERENCE:
        given[change.value].add(impact.value)
    # Two more, which have tests of their own; and the exceptions that the text names.
    given["renamed"].add("breaks")
    given["moved fixed key"].add("breaks")
    given["changed"].discard("breaks")
    assert documented == given


# ---- baselines --------------------------------------------------------------------------------


def one_line(error: Exception) -> None:
    assert "\n" not in str(error)


def test_bytes_that_differ_are_counted_at_once() -> None:
    """An initrd has as many as hundreds of millions."""
    raw = bytearray(32 << 20)
    raw[7] = raw[-1] = 1
    old, new = (data(replace(E820, name="etc/raw"), content)
                for content in (bytes(32 << 20), bytes(raw)))
    found = compare(old, new)
    assert [one.details for one in found] == [("2 bytes differ, the first at 0x7",)]


def test_features_that_are_malformed_on_both_sides_are_no_fault_of_ours() -> None:
    old, new = data(SMI, b"\x01" * 9), data(SMI, b"\x02" * 9)
    assert [one.change for one in compare(old, new)] == [ChangeKind.CHANGED]
