"""The cell beside a failed one that passed, and what failed cells have in common."""

from __future__ import annotations

import copy
from typing import Any

from bootmatrix.report.causes import MOST_VALUES, causes, neighbours
from helpers.records import HOSTS, POLICIES, all_pairs, record, refusing

FAILS = {"verdict": "silent", "reason": "nothing came"}


def cell(hosts: str = "bookworm sid", verdict: str = "pass", known: str | None = None,
         **axes: Any) -> Any:
    """A record whose id has all axes."""
    one = record(hosts, verdict=verdict, known=known, reason="nothing came", **axes)
    one["cell"]["id"] = ",".join((hosts, *map(str, axes.values())))
    return one


def beside(*cells: Any) -> list[str]:
    return [str(near) for near in neighbours(cells).values()]


def told(cells: list[Any]) -> list[str]:
    return [str(cause) for cause in causes(cells)]


def test_the_cell_that_passes_differs_on_one_axis_alone() -> None:
    bad = cell(verdict="silent", disk="ahci")
    good = cell(disk="virtio")
    found = neighbours([bad, good])
    assert list(found) == [bad["cell"]["id"]]
    assert found[bad["cell"]["id"]].cell == good["cell"]["id"]
    assert beside(bad, good) == ["passes with disk virtio"]
    assert beside(bad, cell("trixie sid", disk="virtio")) == []
    assert beside(bad, cell("trixie sid", disk="ahci")) == ["passes from trixie"]
    assert beside(bad, cell("bookworm trixie", disk="ahci")) == ["passes to trixie"]
    three = cell("bookworm sid trixie", "silent")
    assert beside(three, cell("bookworm sid bullseye")) == ["passes with host-3 bullseye"]
    assert beside(three, cell("bookworm sid")) == []


def test_the_most_telling_axis_comes_first() -> None:
    """What the guest is made of, then the hosts, then what is done."""
    bad = cell(verdict="silent", disk="ahci", smp=1)
    others = [cell(disk="ahci", smp=1, policy="stock"), cell("bookworm trixie", disk="ahci", smp=1),
              cell("trixie sid", disk="ahci", smp=1), cell(disk="ahci", smp=2),
              cell(disk="ide", smp=1)]
    for words in ("disk ide", "smp 2"):
        assert beside(bad, *others) == [f"passes with {words}"]
        others.pop()
    for words in ("from trixie", "to trixie", "with policy stock"):
        assert beside(bad, *others) == [f"passes {words}"]
        others.pop()
    assert beside(bad) == []


def test_of_several_values_the_nearest_is_named() -> None:
    """Hosts stand in the order of their QEMUs: the last that is good, before the first that is not.
    """
    bad = cell("bullseye sid", "silent")
    assert beside(cell("bullseye bookworm"), bad, cell("bullseye trixie")) == ["passes to trixie"]
    bad = cell(verdict="silent", machine="pc-q35-11.0")
    others = [cell(machine=f"pc-q35-{version}") for version in ("5.2", "10.1", "9.2")]
    assert beside(bad, *others) == ["passes with machine pc-q35-10.1"]


def test_a_record_that_is_older_than_an_axis_has_its_default() -> None:
    assert beside(cell(verdict="silent", cpu="max"), cell()) == ["passes with cpu default"]
    assert beside(cell(verdict="silent"), cell(nic="virtio")) == ["passes with nic virtio"]


def test_which_cells_have_failed_and_which_are_good() -> None:
    good = cell(disk="virtio")
    for verdict, known, has in (("silent", "an old bug", True), ("error", None, False),
                                ("error", "it breaks", False), ("unsupported", None, False),
                                ("unsupported", "none", False), ("pass", None, False)):
        assert bool(beside(cell(verdict=verdict, known=known, disk="ahci"), good)) is has, verdict
    flaky = cell(verdict="silent", disk="ahci") | {"flaky": {"pass": 2, "silent": 1}}
    assert beside(flaky, good) == ["passes with disk virtio"]
    bad = cell(verdict="silent", disk="ahci")
    assert beside(bad, good | {"known": "was broken"}) == ["passes with disk virtio"]
    assert beside(bad, good | {"matrix": "matrices/other.yaml"}) == []
    assert beside(bad, refusing(good)) == [], "where nothing migrated, nothing is good"


def test_what_all_have_in_common_and_no_passed_cell() -> None:
    cells = [cell(f"{a} {b}", verdict="silent" if (a, disk) == ("bookworm", "ahci") else "pass",
                  disk=disk, policy=policy)
             for a in HOSTS for b in HOSTS if a != b for disk in ("ahci", "virtio")
             for policy in POLICIES[:2]]
    assert told(cells) == ["in all 6 failed (silent) and in no passed cell: "
                           "source.firmware seabios-1.16.2-1 and disk ahci"]
    assert causes(cells) == causes(copy.deepcopy(cells))
    (cause,) = causes(cells)
    assert set(cause.cells) == {one["cell"]["id"] for one in cells if one["verdict"] == "silent"}
    for one in cells:
        if one["verdict"] == "silent":
            one["known"] = "an old bug"
    assert told(cells) == [], "the matrix says it"


def test_one_value_is_enough_where_it_is() -> None:
    cells = [one | (FAILS if one["cell"]["destination"]["host"] == "sid" else {})
             for one in all_pairs()]
    assert told(cells) == ["in all 30 failed (silent) and in no passed cell: "
                           "destination.firmware seabios-1.17.0-1"]


def test_hosts_that_share_a_firmware_are_named_by_it() -> None:
    cells = all_pairs()
    for one in cells:
        for role in ("source", "destination"):
            if one["cell"][role]["host"] == "trixie":
                one["cell"][role]["firmware"] = "seabios-1.17.0-1"
    bad = [one | (FAILS if one["cell"]["source"]["host"] in ("trixie", "sid") else {})
           for one in cells]
    assert told(bad) == ["in all 60 failed (silent) and in no passed cell: "
                         "source.firmware seabios-1.17.0-1"]


def test_two_causes_are_two_lines_and_chance_is_none() -> None:
    def ended(one: Any) -> dict[str, str]:
        values = one["cell"]
        if values["source"]["host"] == "sid" or (
                values["policy"] == "stock" and values["machine"] == "pc-q35-5.2"):
            return FAILS
        return {}

    assert told([one | ended(one) for one in all_pairs()]) == [
        "in 30 of 39 failed (silent) and in no passed cell: source.firmware seabios-1.17.0-1",
        "in 9 of 39 failed (silent) and in no passed cell: machine pc-q35-5.2 and policy stock"]
    # Some of many, with what no more than two of them share.
    assert told([one | (FAILS if number % 7 == 0 else {})
                 for number, one in enumerate(all_pairs())]) == []


def test_verdicts_and_matrices_are_told_apart() -> None:
    cells = all_pairs()
    for one in cells:
        if one["cell"]["policy"] == "stock":
            one |= {"verdict": "no-boot"}
        elif one["cell"]["destination"]["host"] == "sid":
            one |= FAILS
    assert told(cells) == [
        "in all 24 failed (no-boot) and in no passed cell: policy stock",
        "in all 24 failed (silent) and in no passed cell: destination.firmware seabios-1.17.0-1"]
    other = [one | {"matrix": "matrices/other.yaml"} for one in all_pairs()]
    assert told([*cells, *other])[0].startswith("m.yaml: in all 24 failed (no-boot) ")


def test_a_key_that_looks_like_a_role_is_none_without_those_before_it() -> None:
    """Found by the long version of the fuzz."""
    strange = record(verdict="silent")
    strange["cell"]["host-4"] = 0.5
    assert neighbours([strange, record("bullseye sid trixie"), record("bookworm sid")])
    assert not list(causes([strange, record("bullseye sid trixie")]))


def test_nothing_is_said_where_nothing_can_be() -> None:
    bad = [one | FAILS for one in all_pairs()]
    assert told(bad) == []
    assert told(all_pairs()) == told([]) == []
    assert told([*all_pairs()[1:], bad[0]]) == [], "one cell alone has nothing in common"


def test_values_without_end_are_not_all_tried() -> None:
    cells = [cell(verdict="silent" if number % 2 else "pass", machine=f"pc-{number // 4}",
                  cpu=f"c{number // 4}") for number in range(8 * MOST_VALUES)]
    assert told(cells) == []
