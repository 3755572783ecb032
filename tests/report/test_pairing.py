"""Which cell, host and firmware is which of another run's."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bootmatrix.report.compare import baseline, compare
from bootmatrix.report.pairing import Expectations, ExpectedChange, are_two_runs, pairs
from helpers.records import HOSTS, POLICIES, all_pairs, record

UPGRADE = "seabios-1.16.2-1=seabios-1.16.3-9"


def with_host(records: list[Any], name: str, **values: Any) -> list[Any]:
    """The same run on another host of a name: its builds, its own firmware, and its ids."""
    made = copy.deepcopy(records)
    firmware = HOSTS[name][1]
    new = values.get("firmware", firmware)
    for one in made:
        cell = one["cell"]
        for role in ("source", "destination"):
            if cell[role]["host"] == name:
                cell[role] |= values
        cell["id"] = cell["id"].replace(name, values.get("host", name))
        one["reason"] = one["reason"].replace(firmware, new)
        for boot in one["boots"]:
            for witness in ("expected", "console", "rom"):
                if boot[witness] == firmware:
                    boot[witness] = new
    return made


def expect(*texts: str) -> list[ExpectedChange]:
    return [ExpectedChange.parse(text) for text in texts]


@pytest.mark.parametrize("text", ["seabios", "=b", "a=", "a=b=c"])
def test_an_expectation_has_two_sides(text: str) -> None:
    with pytest.raises(ValueError, match="is not OLD=NEW"):
        ExpectedChange.parse(text)


@pytest.mark.parametrize("text", [
    UPGRADE, "seabios-1.16.2=seabios-1.16.3", "seabios-1.16.*=seabios-1.16.3-*"])
def test_a_firmware_upgrade_that_is_expected_is_not_worse(text: str) -> None:
    new = with_host(all_pairs(), "bookworm", firmware="seabios-1.16.3-9")
    assert compare(all_pairs(), new).worse
    result = compare(baseline(all_pairs()), new, expected=expect(text))
    assert not result.lines
    assert not result.worse
    assert result.same == len(new)
    assert result.notes == [
        "other build: bookworm: QEMU 7.2.22 (debian-bookworm), seabios-1.16.2-1; now "
        "bookworm: QEMU 7.2.22 (debian-bookworm), seabios-1.16.3-9 (expected): 60 cells"]


def test_a_machine_type_that_is_expected_is_not_another_cell() -> None:
    """As what `newest-common` means moves on with the QEMUs."""
    old = [record("bookworm sid", machine="pc-q35-7.2", policy=policy) for policy in POLICIES]
    new = [record("bookworm sid", machine="pc-q35-10.0", policy=policy) for policy in POLICIES]
    assert compare(old, new).worse, "they are gone"
    result = compare(old, new, expected=expect("pc-q35-7.2=pc-q35-*"))
    assert (result.worse, result.same, result.lines) == (False, len(new), [])
    assert result.notes == [
        f"other build: machine pc-q35-7.2; now pc-q35-10.0 (expected): {len(new)} cells"]
    bad = [record("bookworm sid", "stock", "silent", machine="pc-q35-10.0"), *new[1:]]
    assert compare(old, bad, expected=expect("pc-q35-7.2=pc-q35-*")).worse
    still = compare(old, old, expected=expect("pc-q35-7.2=pc-q35-*"))
    assert still.unseen, "no machine type has changed"
    moved = [record("bookworm trixie", machine="pc-q35-10.0", policy=policy)
             for policy in POLICIES]
    both = compare(old, moved, expected=expect("pc-q35-7.2=pc-q35-10.0", "sid=trixie",
                                               "debian-sid=debian-trixie"))
    assert both.same == len(new)


def test_what_is_still_different_is_named() -> None:
    new = with_host(all_pairs(), "bookworm", firmware="seabios-1.16.3-9")
    other = next(one for one in new if one["cell"]["id"].startswith("trixie-to-sid"))
    other["boots"][0]["rom"] = "seabios-9.9"
    result = compare(all_pairs(), new, expected=expect(UPGRADE))
    assert result.worse
    assert [finding.cell for finding in result.findings] == [other["cell"]["id"]]


def test_what_is_expected_and_does_not_come_is_told() -> None:
    result = compare(all_pairs(), all_pairs(), expected=expect(UPGRADE, "7.2*=10.*"))
    assert not result.worse
    assert result.notes == [f"expected, and not seen: {wish}" for wish in (UPGRADE, "7.2*=10.*")]
    downgrade = with_host(all_pairs(), "bookworm", firmware="seabios-1.0")
    assert compare(all_pairs(), downgrade, expected=expect(UPGRADE)).worse


@pytest.mark.parametrize("text", ["7.2.22=7.2.*", "debian-bookworm=bookworm-security"])
def test_an_expected_qemu_brings_its_firmware(text: str) -> None:
    new = with_host(all_pairs(), "bookworm", firmware="seabios-1.16.3-9", qemu="7.2.30",
                    build="bookworm-security")
    assert compare(all_pairs(), new).worse  # under the same name, and nobody spoke of it
    result = compare(all_pairs(), new, expected=expect(text, UPGRADE))
    assert not result.worse
    assert not result.unseen
    assert not compare(all_pairs(), new, expected=expect(text)).worse


def test_a_known_failure_s_reason_is_read_with_the_new_names() -> None:
    def failing(records: list[Any], reason: str) -> list[Any]:
        return [one | {"verdict": "silent", "known": "declared", "reason": reason}
                if one["cell"]["id"].startswith("bookworm-to-sid") else one for one in records]

    old = failing(all_pairs(), "boot 2: expected seabios-1.16.2-1, QEMU 7.2.22.")
    new = with_host(old, "bookworm", firmware="seabios-1.16.3-9", qemu="7.2.30")
    new = failing(new, "boot 2: expected seabios-1.16.3-9, QEMU 7.2.30.")
    assert not compare(old, new, expected=expect("7.2.22=7.2.30")).worse
    changed = failing(new, "boot 2: expected seabios-1.16.3-9, QEMU 7.2.31.")
    assert compare(old, changed, expected=expect("7.2.22=7.2.30")).worse


def renamed(records: list[Any], names: dict[str, str]) -> list[Any]:
    for old, new in names.items():
        records = with_host(records, old, host=new, firmware=f"seabios-{new}", qemu=f"{new}.0",
                            build=f"build-{new}")
    return records


def test_one_host_of_another_name_is_compared_by_its_role() -> None:
    result = compare(baseline(all_pairs()), renamed(all_pairs(), {"bookworm": "forky"}))
    assert not result.lines
    assert not result.worse
    assert result.notes == [
        "other build: bookworm: QEMU 7.2.22 (debian-bookworm), seabios-1.16.2-1; now forky: QEMU "
        "forky.0 (build-forky), seabios-forky (compared by role): 60 cells"]


def test_firmware_by_role_is_that_of_the_host_with_the_role() -> None:
    new = renamed(all_pairs(), {"bookworm": "forky"})
    cell = next(one for one in new if one["cell"]["id"].startswith("forky-to-sid"))
    cell["boots"][0] |= {"console": "seabios-1.17.0-1", "rom": "seabios-1.17.0-1"}  # it is sid's
    result = compare(all_pairs(), new)
    assert [finding.word for finding in result.findings] == ["other firmware"]


def test_two_hosts_of_other_names_that_have_a_role_each() -> None:
    old = [record("bullseye sid", policy) for policy in ("stock", "reread")]
    new = renamed(old, {"bullseye": "base", "sid": "head"})
    assert not compare(old, new).lines
    back = [*old, *(record("sid bullseye", policy) for policy in ("stock", "reread"))]
    both = renamed(back, {"bullseye": "base", "sid": "head"})
    kinds = {finding.word for finding in compare(back, both).findings}
    assert kinds == {"gone", "new cell"}  # either could be either
    named = expect("bullseye=base")
    assert not compare(back, both, expected=named).lines  # and then only one is left


def test_hosts_of_the_same_builds_under_other_names() -> None:
    old = all_pairs()
    new = with_host(with_host(old, "bookworm", host="b"), "sid", host="s")
    found = {pair.new["cell"]["id"]: pair.old["cell"]["id"]
             for pair in pairs(old, new, Expectations()) if pair.new and pair.old}
    assert len(found) == len(old)
    assert found["b-to-s,pc-q35-5.2,stock,migrate-reset"] == (
        "bookworm-to-sid,pc-q35-5.2,stock,migrate-reset")


def machine(records: list[Any], old: str, new: str) -> list[Any]:
    made = copy.deepcopy(records)
    for one in made:
        for name in ("machine", "id"):
            one["cell"][name] = one["cell"][name].replace(old, new)
    return made


def test_which_files_are_two_runs() -> None:
    every = all_pairs()
    q35 = [one for one in every if one["cell"]["machine"] == "pc-q35-5.2"]
    newer = machine(q35, "5.2", "10.0")
    assert not are_two_runs(every, every), "repeats"
    assert not are_two_runs(every[::2], every[1::2]), "shards, one of each board"
    assert not are_two_runs(every[:60], every[60:]), "parts with other hosts in them"
    assert are_two_runs(q35, newer)
    assert are_two_runs(q35, with_host(newer, "sid", qemu="12.0.0"))
    assert are_two_runs(q35, with_host(q35, "sid", qemu="12.0.0")[-7:])
    assert not are_two_runs([one | {"shard": "1/2"} for one in q35],
                            [one | {"shard": "2/2"} for one in newer])
    assert not are_two_runs(q35, newer[:7]), "some cells of a matrix with both"
    renamed = q35
    for name in HOSTS:
        renamed = with_host(renamed, name, host=f"new-{name[:4]}")
    assert are_two_runs(q35, machine(renamed, "5.2", "10.0"))


def test_by_board_the_other_version_is_the_same_cell() -> None:
    old = all_pairs()
    result = compare(old, machine(old, "pc-q35-5.2", "pc-q35-10.0"), by_board=True)
    assert not result.lines
    assert result.builds == [
        "machine pc-q35-5.2; now pc-q35-10.0 (compared by board): 60 cells"]
    assert {were["cell"]["machine"] for name, were in result.were.items() if "10.0" in name} == {
        "pc-q35-5.2"}
    # A version that is there before and now is itself.
    both = old + machine(old[::2], "pc-q35-5.2", "pc-q35-7.2")
    result = compare(both, old + machine(old[::2], "pc-q35-5.2", "pc-q35-10.0"), by_board=True)
    assert result.builds == [
        "machine pc-q35-7.2; now pc-q35-10.0 (compared by board): 60 cells"]
