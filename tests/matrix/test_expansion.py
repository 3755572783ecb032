from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations, product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootmatrix.errors import UserError
from bootmatrix.matrix.expansion import Matrix, load, looks_like_matrix, newest_common
from bootmatrix.matrix.sources import parse
from bootmatrix.model import Accel, Arch, Disk, GuestKind, HostSpec, Nic, Verdict
from bootmatrix.policies import Policy
from bootmatrix.steps.library import LIBRARY, applies_to
from helpers.matrices import BASE, never

ROOT = Path(__file__).parents[2]
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    path = tmp_path / "m.yaml"

    def write_it(text: str) -> Path:
        path.write_text(text, encoding="utf-8")
        return path

    return write_it


def ids(matrix: Matrix) -> list[str]:
    return [cell.id for cell in matrix.cells(never)]


# ---- what a good file gives -------------------------------------------------------------


def test_defaults_are_all_hosts_and_all_policies(write: Write) -> None:
    matrix = load(write(BASE))
    cells = matrix.cells(never)
    assert len(cells) == 2 * 2 * 5
    assert {cell.policy for cell in cells} == set(Policy)
    assert {(cell.disk, cell.accel, cell.seconds) for cell in cells} == {
        (Disk.AHCI, Accel.TCG, 5.0)
    }
    assert {(cell.arch, cell.guest, cell.cpu, cell.smp, cell.nic) for cell in cells} == {
        (Arch.X86_64, GuestKind.PROBE, "", 1, Nic.NONE)
    }
    assert matrix.hosts == (HostSpec("a", "qa"), HostSpec("b", "qb", "seabios-1"))
    assert cells[0].scenario is LIBRARY["migrate-reset"]


def test_order_is_that_of_the_axes_whatever_order_the_file_has(write: Write) -> None:
    text = BASE + "  accel: [tcg, kvm]\n  policy: [reread, stock]\n  source: [b, a]\n"
    assert ids(load(write(text)))[:5] == [
        "b-to-a,pc-q35-5.2,reread,migrate-reset,ahci",
        "b-to-a,pc-q35-5.2,reread,migrate-reset,ahci,kvm",
        "b-to-a,pc-q35-5.2,stock,migrate-reset,ahci",
        "b-to-a,pc-q35-5.2,stock,migrate-reset,ahci,kvm",
        "b-to-b,pc-q35-5.2,reread,migrate-reset,ahci",
    ]


def test_scenarios_that_need_fewer_hosts_drop_them_and_repeat_nothing(write: Write) -> None:
    text = BASE.replace("migrate-reset", "[reset, chain, move]") + (
        "  host-3: [b, a]\n  policy: stock\n"
    )
    found = ids(load(write(text)))
    assert len(found) == len(set(found)) == 2 + 4 + 8
    # A dropped axis counts as having its first value, so these stand where that one does.
    assert found[:4] == [
        "a,pc-q35-5.2,stock,reset,ahci",
        "a-to-a-to-b,pc-q35-5.2,stock,chain,ahci",
        "a-to-a,pc-q35-5.2,stock,move,ahci",
        "a-to-a-to-a,pc-q35-5.2,stock,chain,ahci",
    ]


def test_exclude_globs_references_and_dropped_axes(write: Write) -> None:
    text = BASE.replace("migrate-reset", "[reset, migrate-reset]") + (
        "  policy: [stock, guest-owned]\n"
        "exclude:\n"
        '  - {destination: "=source"}\n'
        "  - {destination: '*', scenario: reset}\n"  # a reset has no destination: no effect
        "  - {source: [a, b], policy: 'guest-*', scenario: migrate-*}\n"
    )
    assert ids(load(write(text))) == [
        "a,pc-q35-5.2,stock,reset,ahci",
        "a,pc-q35-5.2,guest-owned,reset,ahci",
        "a-to-b,pc-q35-5.2,stock,migrate-reset,ahci",
        "b,pc-q35-5.2,stock,reset,ahci",
        "b-to-a,pc-q35-5.2,stock,migrate-reset,ahci",
        "b,pc-q35-5.2,guest-owned,reset,ahci",
    ]


def test_include_adds_after_exclude_and_takes_missing_axes_from_the_axes(write: Write) -> None:
    text = BASE + (
        "  policy: [stock, reread]\n"
        "exclude: [{source: '*', destination: '*'}]\n"
        "include:\n"
        "  - {source: a, destination: b, machine: pc-i440fx-5.2, scenario: ping-pong}\n"
        "  - {source: a, destination: b, machine: pc-i440fx-5.2, policy: reread,"
        " scenario: ping-pong}\n"  # there already
        "  - {source: a, destination: b, host-3: a, scenario: chain, policy: stock, disk: ide}\n"
    )
    assert ids(load(write(text))) == [
        "a-to-b,pc-i440fx-5.2,stock,ping-pong,ahci",
        "a-to-b,pc-i440fx-5.2,reread,ping-pong,ahci",
        "a-to-b-to-a,pc-q35-5.2,stock,chain,ide",
    ]


def test_policies_without_an_nvram_have_no_nvram_cells(write: Write) -> None:
    text = BASE.replace("migrate-reset", "[nvram-upgrade-reset, reset]") + "  source: a\n"
    cells = load(write(text)).cells(never)
    assert len(cells) == 2 * 2 + 5
    assert all(applies_to(cell.scenario, cell.policy) for cell in cells)


def test_a_users_own_scenario(write: Write) -> None:
    text = BASE.replace("migrate-reset", "mine") + (
        "  policy: stock\nscenarios:\n  mine: [start, {migrate: {channel: tcp}}, reset]\n"
    )
    matrix = load(write(text))
    assert [scenario.name for scenario in matrix.scenarios] == ["mine"]
    assert ids(matrix)[0] == "a-to-a,pc-q35-5.2,stock,mine,ahci"


@pytest.mark.parametrize(("axis", "machines"), [
    ("", ["pc-q35-7.2"]), ("  machine: own\n", ["pc-q35-7.2"]),
    ("  machine: [own, pc-q35-5.2]\n", ["pc-q35-7.2", "pc-q35-5.2"]),
], ids=["nothing", "own", "both"])
def test_a_guests_own_machine_is_another_one_only_where_the_axis_says_so(
    write: Write, axis: str, machines: list[str]
) -> None:
    text = BASE.replace("  machine: pc-q35-5.2\n", axis) + (
        "  guest: mine\n  source: a\n  destination: b\n  policy: stock\n"
        "guests: {mine: {machine: pc-q35-7.2, arguments: []}}\n")
    assert [cell.machine for cell in load(write(text)).cells(never)] == machines


def test_a_guest_that_is_included_keeps_its_own_machine(write: Write) -> None:
    text = BASE + (
        "  source: a\n  destination: b\n  policy: stock\ninclude: [{guest: mine}]\n"
        "guests: {mine: {machine: pc-q35-7.2, arguments: []}}\n")
    assert [(str(cell.guest), cell.machine) for cell in load(write(text)).cells(never)] == [
        ("probe", "pc-q35-5.2"), ("mine", "pc-q35-7.2")]


def test_known_timeout_and_used_hosts(write: Write) -> None:
    text = BASE + (
        "  source: b\n  destination: b\n"
        "boot-timeout: 2\n"
        "debug-log: off\n"
        "known:\n"
        "  - when: {machine: 'pc-*', source.qemu: ['10.*', \"7.10\"]}\n"
        "    verdict: [silent, no-boot]\n"
        "    reason: because\n"
        "    link: somewhere\n"
    )
    matrix = load(write(text))
    (entry,) = matrix.known
    assert entry.when == (("machine", ("pc-*",)), ("source.qemu", ("10.*", "7.10")))
    assert entry.verdict == (Verdict.SILENT, Verdict.NO_BOOT)
    assert (entry.reason, entry.link) == ("because", "somewhere")
    assert {(cell.seconds, cell.debug_log) for cell in matrix.cells(never)} == {(2.0, False)}
    assert matrix.qemu_names() == ("qb",)


def test_newest_common_compares_versions_as_numbers() -> None:
    old = ["pc-q35-7.2", "pc-q35-9.2", "pc-q35-10.0", "q35", "pc-i440fx-10.0"]
    new = ["pc-q35-10.0.1", "pc-q35-10.0", "pc-q35-9.2", "pc-q35-x"]
    assert newest_common("pc-q35", [old, new]) == "pc-q35-10.0"
    assert newest_common("pc-q35", [old, ["pc-q35-2.0"]]) is None
    assert newest_common("pc-q35", [["pc-q35-2.0"]]) == "pc-q35-2.0"
    assert newest_common("pc", [["pc-q35-2.0", "pc-1.3"]]) == "pc-1.3"


def test_newest_common_per_cell_and_asked_once(write: Write) -> None:
    machines = {
        "qa": ["pc-q35-5.2", "pc-i440fx-5.2", "pc-i440fx-5.1"],
        "qb": ["pc-q35-10.0", "pc-q35-5.2", "pc-i440fx-5.1"],
    }
    asked = []

    def machines_of(host: HostSpec) -> Sequence[str]:
        asked.append(str(host.qemu))
        return machines[str(host.qemu)]

    text = BASE.replace(
        "machine: pc-q35-5.2", "machine: [newest-common, newest-common:pc-i440fx, pc-q35-5.2]"
    ) + "  policy: stock\nexclude: [{source: b, machine: pc-i440fx-5.1}]\n"
    found = [cell.id for cell in load(write(text)).cells(machines_of)]
    assert found == [
        "a-to-a,pc-q35-5.2,stock,migrate-reset,ahci",  # named and newest: one cell
        "a-to-a,pc-i440fx-5.2,stock,migrate-reset,ahci",
        "a-to-b,pc-q35-5.2,stock,migrate-reset,ahci",
        "a-to-b,pc-i440fx-5.1,stock,migrate-reset,ahci",
        "b-to-a,pc-q35-5.2,stock,migrate-reset,ahci",
        "b-to-b,pc-q35-10.0,stock,migrate-reset,ahci",
        "b-to-b,pc-q35-5.2,stock,migrate-reset,ahci",
    ]
    assert sorted(asked) == ["qa", "qb"]


BOARDS = BASE.replace("machine: pc-q35-5.2", "machine: newest-common") + (
    "  source: a\n  policy: stock\n  disk: virtio\n"
)
MACHINES = {
    Arch.X86_64: ["pc-q35-5.2", "pc-i440fx-5.2", "microvm", "isapc"],
    Arch.AARCH64: ["virt-5.2", "virt-7.2", "xlnx-versal-virt"],
    Arch.RISCV64: ["virt", "spike"],
}


def test_guests_and_cpus_are_axes_after_the_others(write: Write) -> None:
    text = BASE + (
        "  source: a\n  destination: b\n  policy: stock\n  guest: [probe, linux]\n"
        '  cpu: ["", max]\n  smp: [1, 2]\n  nic: [none, e1000]\n'
        "exclude:\n"
        "  - {guest: linux*, nic: none}\n"
        '  - {smp: 2, cpu: ""}\n'
        "  - {smp: [1], cpu: '?*', guest: probe}\n"
    )
    plain = "a-to-b,pc-q35-5.2,stock,migrate-reset,ahci"
    assert ids(load(write(text))) == [
        plain,
        f"{plain},nic-e1000",
        f"{plain},cpu-max,smp-2",
        f"{plain},cpu-max,smp-2,nic-e1000",
        f"{plain},linux,nic-e1000",
        f"{plain},linux,cpu-max,nic-e1000",
        f"{plain},linux,cpu-max,smp-2,nic-e1000",
    ]
    last = load(write(text)).cells(never)[-1]
    assert (last.guest, last.cpu, last.smp, last.nic) == (GuestKind.LINUX, "max", 2, Nic.E1000)


def test_an_architecture_is_that_of_the_cells_hosts(write: Write) -> None:
    text = BASE + (
        "  source: a\n  policy: stock\n"
        "include:\n  - {arch: [aarch64, x86_64], machine: virt-7.2, destination: b, disk: virtio}\n"
        'known: [{when: {arch: aarch64, smp: 1, cpu: ""}, verdict: silent, reason: r}]\n'
    )
    matrix = load(write(text))
    cells = matrix.cells(never)
    assert [cell.arch for cell in cells] == [Arch.X86_64, Arch.X86_64, Arch.AARCH64, Arch.X86_64]
    assert all({host.arch for host in cell.hosts} == {cell.arch} for cell in cells)
    assert cells[2].id == "a-to-b,virt-7.2,stock,migrate-reset,virtio,aarch64"
    assert matrix.used_hosts == (
        HostSpec("a", "qa"), HostSpec("a", "qa", arch=Arch.AARCH64),
        HostSpec("b", "qb", "seabios-1"), HostSpec("b", "qb", "seabios-1", Arch.AARCH64),
    )  # fmt: skip
    assert matrix.qemu_names() == ("qa", "qb")
    assert matrix.known[0].when == (("arch", ("aarch64",)), ("smp", ("1",)), ("cpu", ("",)))


def test_newest_common_is_that_of_the_architectures_build(write: Write) -> None:
    asked = []

    def machines_of(host: HostSpec) -> Sequence[str]:
        asked.append((str(host.qemu), host.arch.value))
        return MACHINES[host.arch]

    cells = load(write(BOARDS + "  arch: [x86_64, aarch64]\n")).cells(machines_of)
    assert {cell.machine: cell.arch for cell in cells} == {
        "pc-q35-5.2": Arch.X86_64, "virt-7.2": Arch.AARCH64}
    assert sorted(asked) == [
        ("qa", "aarch64"), ("qa", "x86_64"), ("qb", "aarch64"), ("qb", "x86_64")]
    text = BOARDS.replace("newest-common", "newest-common:virt") + "  arch: aarch64\n"
    assert {cell.machine for cell in load(write(text)).cells(machines_of)} == {"virt-7.2"}


@pytest.mark.parametrize(
    ("machine", "arch", "words"),
    [
        ("newest-common", "riscv64", "riscv64's virt has no versions (name it: virt)"),
        ("newest-common:virt", "riscv64", "riscv64's virt has no versions"),
        ("newest-common:microvm", "x86_64", "x86_64's microvm has no versions"),
        ("newest-common:pc-q35", "aarch64", "a and a have no versioned pc-q35 machine type"),
    ],
)
def test_boards_without_versions_have_no_newest(
    write: Write, machine: str, arch: str, words: str
) -> None:
    path = write(BOARDS.replace("newest-common", machine) + f"  arch: {arch}\n")
    with pytest.raises(UserError) as caught:
        load(path).cells(lambda host: MACHINES[host.arch])
    assert str(caught.value).startswith(f"{path}:6:12: axes.machine: ")
    assert words in str(caught.value)


def test_given_hosts_are_found_on_every_architecture(write: Write) -> None:
    text = BASE.replace("pc-q35-5.2", "[pc-q35-5.2, virt-7.2]") + (
        "  policy: stock\n  arch: [x86_64, aarch64]\n"
        "exclude:\n  - {arch: x86_64, machine: virt-*}\n  - {arch: aarch64, machine: pc-*}\n"
    )
    cells = load(write(text), parse([], [], ["b"])).cells(never)
    assert {(cell.arch, *(host.name for host in cell.hosts)) for cell in cells} == {
        (arch, *pair)
        for arch in (Arch.X86_64, Arch.AARCH64)
        for pair in (("a", "b"), ("b", "a"), ("b", "b"))
    }


def test_excluded_hosts_need_no_common_machine(write: Write) -> None:
    text = BASE.replace("pc-q35-5.2", "newest-common") + "  policy: stock\n"
    machines = {"qa": ["pc-q35-1.0"], "qb": ["pc-q35-2.0"]}
    with pytest.raises(UserError, match=r":6:12: .*a and b have no versioned pc-q35"):
        load(write(text)).cells(lambda host: machines[str(host.qemu)])
    apart = text + 'exclude: [{source: a, destination: b}, {source: b, destination: "a*"}]\n'
    assert len(load(write(apart)).cells(lambda host: machines[str(host.qemu)])) == 2


def test_sampling_keeps_the_order_and_covers(write: Write) -> None:
    text = BASE.replace("pc-q35-5.2", "[m1, m2, m3]") + "  disk: [ahci, ide, virtio, floppy]\n"
    every = ids(load(write(text)))
    some = ids(load(write(text + "sample: pairwise\n")))
    assert [each for each in every if each in some] == some
    assert len(some) < len(every) / 5

    def pairs(names: list[str]) -> set[tuple[str, str]]:
        return {pair for name in names for pair in combinations(values(name), 2)}

    def values(name: str) -> list[str]:
        hosts, machine, policy, _, disk = name.split(",")
        source, destination = hosts.split("-to-")
        return [f"s:{source}", f"d:{destination}", machine, policy, disk]

    assert pairs(some) == pairs(every)
    assert len(ids(load(write(text + "sample: 7\n")))) == 7
    assert ids(load(write(text + "sample: 240\n"))) == every
    more = ids(load(write(text + "sample: 100\n")))
    assert len(more) == 100
    assert set(some) <= set(more)


def test_sampling_is_not_confused_by_cells_that_stand_there_twice(write: Write) -> None:
    text = BASE + (
        "  policy: stock\n  disk: ide\n"
        "include:\n"
        "  - {source: a, destination: a}\n"  # there already
        "  - {source: a, destination: a, disk: floppy}\n"
        "sample: pairwise\n"
    )
    assert ids(load(write(text)))[-1] == "a-to-a,pc-q35-5.2,stock,migrate-reset,floppy"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scenarios=st.lists(st.sampled_from(sorted(LIBRARY)), min_size=1, max_size=4, unique=True),
    policies=st.lists(st.sampled_from(list(Policy)), min_size=1, max_size=5, unique=True),
    source=st.lists(st.sampled_from("ab"), min_size=1, max_size=2, unique=True),
)
def test_cells_are_the_distinct_possible_ones(
    write: Write, scenarios: list[str], policies: list[Policy], source: list[str]
) -> None:
    text = BASE.replace("migrate-reset", json.dumps(scenarios)) + (
        f"  policy: {json.dumps(policies)}\n  source: {json.dumps(source)}\n  host-3: a\n"
    )
    expected = {
        ("-to-".join((s, d, "a")[: LIBRARY[name].hosts_needed]), policy.value, name)
        for s, d, policy, name in product(source, "ab", policies, scenarios)
        if applies_to(LIBRARY[name], policy)
    }
    if not expected:
        with pytest.raises(UserError, match="no cell remains"):
            load(write(text))
        return
    found = []
    for name in ids(load(write(text))):
        hosts, _, policy, scenario, _ = name.split(",")
        found.append((hosts, policy, scenario))
    assert len(found) == len(expected)
    assert set(found) == expected


def test_ten_thousand_cells_are_quick(write: Write) -> None:
    hosts = ", ".join(f"h{number}: {{qemu: q{number}}}" for number in range(16))
    text = (
        f"schema: 1\nhosts: {{{hosts}}}\n"
        "axes: {machine: [m1, m2], scenario: [migrate-reset, ping-pong], disk: [ahci, ide]}\n"
        'exclude: [{destination: "=source"}]\n'
    )
    begin = time.process_time()
    assert len(load(write(text)).cells(never)) == 16 * 15 * 2 * 5 * 2 * 2
    plain = time.process_time()
    assert load(write(text + "sample: pairwise\n")).cells(never)
    sampled = time.process_time()
    # Of the processor, which a busy machine changes little. Measured: 0.15 s and 0.3 s.
    assert plain - begin < 1.5
    assert sampled - plain < 3


# ---- mistakes ---------------------------------------------------------------------------


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(UserError, match="not UTF-8"):
        load(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BASE, True),
        ('"hosts" : {}\naxes: {}\n', True),
        ("axes: {}\n", False),
        ("on:\n  hosts: x\n  axes: y\n", False),
        ("hosts: [1\naxes:\n", True),  # broken, but meant: load says what is wrong
        ("\x00\xff", False),
    ],
)
def test_looks_like_matrix(write: Write, text: str, expected: bool) -> None:
    assert looks_like_matrix(write(text)) is expected


def test_looks_like_matrix_without_a_file(tmp_path: Path) -> None:
    assert not looks_like_matrix(tmp_path / "none.yaml")
    assert not looks_like_matrix(tmp_path)


# ---- what is shipped --------------------------------------------------------------------


def test_quickstart_asks_the_question_of_four_qemus() -> None:
    matrix = load(ROOT / "matrices" / "quickstart.yaml")
    cells = matrix.cells(never)
    assert len(cells) == 120
    assert {cell.policy for cell in cells} == set(Policy)
    assert {cell.machine for cell in cells} == {"pc-i440fx-5.2", "pc-q35-5.2"}
    assert len({tuple(host.name for host in cell.hosts) for cell in cells}) == 12
    assert len(matrix.qemu_names()) == 4
    assert all(entry.reason for entry in matrix.known)


def test_contract_matrix_has_every_firmware_on_every_qemu() -> None:
    matrix = load(ROOT / "matrices" / "contract.yaml")
    cells = matrix.cells(never)
    pairs = {(cell.hosts[0].qemu, cell.hosts[0].firmware) for cell in cells}
    firmwares = Counter(qemu for qemu, _ in pairs)  # sid's own has no version in its name
    assert list(firmwares.values()) == [4, 4, 4, 4]
    assert len(cells) == 16 * 2 * 3
    assert {cell.scenario.name for cell in cells} == {"reset"}


def test_library_matrix_has_its_scenarios_under_every_policy_they_apply_to() -> None:
    matrix = load(ROOT / "matrices" / "library.yaml")
    found = {(cell.scenario.name, cell.policy) for cell in matrix.cells(never)}
    everything = {scenario.name: scenario for scenario in (*LIBRARY.values(), *matrix.scenarios)}
    assert matrix.scenarios
    assert found == {
        (name, policy)
        for name, _ in found
        for policy in Policy
        if applies_to(everything[name], policy)
    }


def test_the_matrices_for_each_guest_have_every_scenario() -> None:
    """What needs variables, an operating system or a board is in the matrices of those."""
    found = {
        cell.scenario.name
        for name in ("library", "uefi", "linux", "boards")
        for cell in load(ROOT / "matrices" / f"{name}.yaml").cells(never)
    }
    assert found >= LIBRARY.keys()


def test_the_manual_shows_a_file_that_loads_and_every_scenario(write: Write) -> None:
    manual = (ROOT / "docs" / "matrix-file.md").read_text(encoding="utf-8")
    example = manual.split("```yaml\n")[1].split("```")[0]
    assert load(write(example)).cells(never)
    for scenario in LIBRARY.values():
        assert f"| `{scenario.name}` | {scenario.summary} |" in manual


# ---- entries that match nothing -----------------------------------------------------------------

IDLE = """\
schema: 1
hosts:
  a: {qemu: qa}
  b: {qemu: qb}
axes:
  machine: [pc-q35-5.2, pc-q35-7.2]
  scenario: migrate-reset
  policy: [stock, reread]
exclude:
  - {source: =destination}
  - {machine: pc-q35-9.9}
  - {source: a, destination: a}
include:
  - {source: a, destination: b, machine: pc-q35-5.2}
  - {source: a, destination: b, machine: pc-i440fx-5.2}
known:
  - when: {machine: "pc-q35-*", source.qemu: "9.*"}
    verdict: silent
    reason: only running tells
  - when: {machine: pc-q35-9.9}
    verdict: silent
    reason: no such machine
  - when: {host-3.firmware: "seabios-*"}
    verdict: silent
    reason: no third host
"""


def test_entries_that_match_nothing_are_named_with_their_place(write: Write) -> None:
    matrix = load(write(IDLE))
    told = [(error.line, str(error).rpartition("m.yaml")[2].split(": ", 1)[1])
            for error in matrix.idle(never)]
    assert told == [
        (11, "exclude[1]: matches no cell"), (14, "include[0]: adds no cell"),
        (20, "known[1]: this entry matches no cell"), (23, "known[2]: this entry matches no cell")]
    ran = [{"machine": "pc-q35-5.2", "source": {"qemu": "5.2.0"}}]
    assert [error.line for error in matrix.idle_known(ran)] == [17]
    assert not matrix.idle_known([*ran, {"machine": "pc-q35-5.2", "source": {"qemu": "9.0"}}])


def test_with_hosts_of_the_command_line_nothing_is_said_of_them(write: Write) -> None:
    assert load(write(IDLE), parse([], [], ["qa"])).idle(never) == []


@pytest.mark.parametrize("path", sorted((ROOT / "matrices").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_shipped_matrices_have_none(path: Path) -> None:
    common = [f"{family}-5.2" for family in ("pc-q35", "pc-i440fx", "virt")]
    assert [str(error) for error in load(path).idle(lambda host: common)] == []
