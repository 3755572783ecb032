"""Matrix files as cells: ids, selection, mistakes."""

from __future__ import annotations

import re
import time

import pytest

from helpers.planting import I440FX_STOCK, MATRIX, Q35_STOCK, plant
from helpers.sessions import M, ran


def test_cells_are_items_with_their_ids(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    result = pytester.runpytest("--collect-only", "-q", M)
    assert f"{M}::{Q35_STOCK}" in result.outlines
    result.stdout.fnmatch_lines(["6 tests collected*"])
    assert ran(pytester.path) == []
    # Below matrices/ the file need not be named, elsewhere it must be.
    pytester.runpytest("--collect-only", "-q").stdout.fnmatch_lines(["6 tests collected*"])
    (pytester.path / "matrices").rename(pytester.path / "other")
    pytester.runpytest("--collect-only", "-q").stdout.fnmatch_lines(["no tests collected*"])
    result = pytester.runpytest("--collect-only", "-q", "other/m.yaml")
    result.stdout.fnmatch_lines(["6 tests collected*"])


def test_one_cell_by_nodeid_and_by_option(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    pytester.runpytest(f"{M}::{I440FX_STOCK}").assert_outcomes(passed=1)
    pytester.runpytest(M, "--bootmatrix-cell", Q35_STOCK).assert_outcomes(xfailed=1)
    assert ran(pytester.path) == [I440FX_STOCK, Q35_STOCK]


@pytest.mark.parametrize(("arguments", "count"), [
    (("-k", "q35 and guest-owned"), 1),
    (("-k", "not stock"), 4),
    (("-m", "machine(name='pc-q35-5.2')"), 3),
    (("-m", "policy(name='stock') and destination(name='sid')"), 2),
    (("-m", "host(qemu='debian-bullseye') and disk(name='ahci')"), 6),
    (("-m", "source(name='sid') or scenario(name='cold-boot')"), 0),
    (("-m", "arch(name='x86_64') and guest(name='probe') and smp(name='1')"), 6),
    (("-m", "cpu(name='') and nic(name='none')"), 6),
    (("-m", "guest(name='linux')"), 0),
])
def test_selection(pytester: pytest.Pytester, arguments: tuple[str, str], count: int) -> None:
    plant(pytester.path)
    result = pytester.runpytest(M, "--collect-only", "-q", "--strict-markers", *arguments)
    assert sum(line.startswith(f"{M}::") for line in result.outlines) == count


@pytest.mark.parametrize(("broken", "message"), [
    (MATRIX.replace("policy: [stock", "policy: [stck"), f"{M}:*:*stck*"),
    (MATRIX.replace("[pc-i440fx-5.2, ", "[[pc"), f"{M}:*"),
    (MATRIX.replace("debian-sid", "debian-potato"), f"{M}: no QEMU build is called*"),
])
def test_a_mistake_in_a_matrix_is_one_line(
    pytester: pytest.Pytester, broken: str, message: str
) -> None:
    plant(pytester.path, matrix=broken)
    result = pytester.runpytest(M)
    assert result.ret not in (0, pytest.ExitCode.NO_TESTS_COLLECTED)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])
    assert "Traceback" not in result.stdout.str()
    assert "fault" not in result.stdout.str()
    assert ".py:" not in result.stdout.str()
    assert ran(pytester.path) == []


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "1"), marks=pytest.mark.thorough)])
def test_a_mistake_in_a_matrix_that_was_not_named_stops_nobody_else(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    plant(pytester.path)
    (pytester.path / "matrices" / "bad.yaml").write_text(
        MATRIX.replace("policy: [stock", "policy: [stck"))
    pytester.runpytest("-k", "q35 and stock", *workers).assert_outcomes(xfailed=1)
    result = pytester.runpytest("-k", "bad or (q35 and stock)", *workers)
    result.assert_outcomes(xfailed=1, failed=1)
    result.stdout.fnmatch_lines(["matrices/bad.yaml:*:*stck*", "*FAILED matrices/bad.yaml::*"])
    assert "not run" not in result.stdout.str()


def test_what_only_collects_builds_no_image(pytester: pytest.Pytester) -> None:
    plant(pytester.path, unbuilt="debian-sid is not built", matrix=NEWEST)
    found = pytester.runpytest("--collect-only", "-q")
    assert found.ret == 0
    assert "matrices/m.yaml::unreadable" in found.outlines
    named = pytester.runpytest("--collect-only", M)
    assert named.ret == pytest.ExitCode.INTERRUPTED
    named.stdout.fnmatch_lines(["debian-sid is not built"])
    assert "build" not in (pytester.path / "rig.log").read_text()
    run = pytester.runpytest("-k", "stock")
    assert "debian-sid: building" in run.outlines
    run.assert_outcomes(xfailed=1)


NEWEST = MATRIX.replace("[pc-i440fx-5.2, pc-q35-5.2]", "newest-common")


@pytest.mark.parametrize("words", [
    ["-k", "plain"], ["-k", "plain and 5.2"], ["-k", "not guest and not stock and not machine"],
    ["-m", "machine(name='pc-i440fx-5.2')"], ["-m", "plain"], ["--deselect", M],
    ["--bootmatrix-cell", Q35_STOCK.replace("q35-5.2", "q35")],
], ids=str)
@pytest.mark.parametrize("workers", [
    (), pytest.param(("-n", "1"), marks=pytest.mark.thorough)], ids=["", "workers"])
def test_of_a_matrix_that_is_not_selected_nothing_is_built_or_asked(
    pytester: pytest.Pytester, words: list[str], workers: tuple[str, ...]
) -> None:
    plant(pytester.path, unbuilt="debian-sid is not built", matrix=NEWEST)
    (pytester.path / "test_plain.py").write_text("def test_plain():\n    pass\n")
    result = pytester.runpytest("-p", "no:cacheprovider", *words, *workers)
    assert "building" not in result.stdout.str()
    assert not re.search(r"-\d+(/\d+ tests collected| selected)", result.stdout.str())
    log = pytester.path / "rig.log"
    assert not log.exists() or "build" not in log.read_text()


@pytest.mark.parametrize("words", [
    ["-k", "5.2 and stock"], ["-k", "pc-q35-5 and stock and not 9.9"], ["-k", "stock and not 9"],
    ["-m", "machine(name='pc-q35-5.2') and policy(name='stock')"],
    ["--bootmatrix-cell", Q35_STOCK],
], ids=str)
def test_one_that_may_be_selected_is_asked_and_what_is_built_is_told(
    pytester: pytest.Pytester, words: list[str]
) -> None:
    plant(pytester.path, unbuilt="debian-sid is not built", matrix=NEWEST)
    result = pytester.runpytest("-p", "no:cacheprovider", *words)
    result.assert_outcomes(xfailed=1, deselected=0 if "cell" in words[0] else 2)
    assert "debian-sid: building" in result.outlines


def test_a_worker_tells_what_it_builds(pytester: pytest.Pytester) -> None:
    plant(pytester.path, unbuilt="debian-sid is not built", matrix=NEWEST)
    result = pytester.runpytest_subprocess("-p", "bootmatrix", "-k", "stock", "-n", "1")
    result.assert_outcomes(xfailed=1)
    assert "debian-sid: building" in result.errlines


def test_fixtures_are_shown_without_a_build(pytester: pytest.Pytester) -> None:
    plant(pytester.path, unbuilt="debian-sid is not built", matrix=NEWEST)
    pytester.runpytest("--fixtures").stdout.fnmatch_lines(["*bootmatrix_store*"])
    log = pytester.path / "rig.log"
    assert not log.exists() or "build" not in log.read_text()


def test_ten_thousand_cells_are_collected_in_three_seconds(pytester: pytest.Pytester) -> None:
    hosts = [f"h{number}" for number in range(26)]
    plant(pytester.path, matrix="\n".join((
        "schema: 1",
        "hosts:", *(f"  {host}: {{qemu: debian-sid}}" for host in hosts),
        "axes:",
        f"  source: [{', '.join(hosts)}]",
        f"  destination: [{', '.join(hosts)}]",
        "  machine: [pc-i440fx-5.2, pc-q35-5.2]",
        "  policy: [stock, guest-owned, guest-owned-versioned, machine-owned, reread]",
        "  scenario: [migrate-reset, migrate-restart]",
        "  disk: ahci", "")))
    begun = time.process_time()
    result = pytester.runpytest(M, "--collect-only", "-qq")
    spent = time.process_time() - begun
    assert len(result.outlines) >= 1
    result.stdout.fnmatch_lines([f"{M}: 13520"])
    assert spent < 3 * 1.352


def test_an_entry_that_matches_no_cell_is_warned_of(pytester: pytest.Pytester) -> None:
    plant(pytester.path, matrix=MATRIX + "exclude:\n  - {disk: floppy}\n")
    told = f"*{M}:*: exclude*matches no cell*"
    for arguments in ((), ("-n", "2")):
        result = pytester.runpytest(M, "-W", "default", *arguments)
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines([told])
    result = pytester.runpytest(M, "-W", "error::bootmatrix.plugin.collection.IdleEntry")
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines([told])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(("option", "told"), [
    ("--bootmatrix-firmware=f=/nosuch", "--bootmatrix-firmware f=...: no host has it"),
    ("--bootmatrix-qemu=q=/nosuch", "--bootmatrix-qemu q=...: no host has it"),
    ("--bootmatrix-shard=3/2", "no part of a whole: '3/2'"),
    ("--bootmatrix-shard-times=nosuch", "nosuch: cannot be read"),
    ("-k" + "not " * 5000 + "q35", "an expression is too deep"),
], ids=["firmware", "qemu", "shard", "times", "deep"])
@pytest.mark.parametrize("workers", [
    (), pytest.param(("-n", "2"), marks=pytest.mark.thorough)], ids=["", "workers"])
def test_what_is_given_wrong_is_a_line_with_workers_too(
    pytester: pytest.Pytester, option: str, told: str, workers: tuple[str, ...]
) -> None:
    plant(pytester.path)
    given = [option, "--bootmatrix-shard=1/2"] if "times" in option else [option]
    result = pytester.runpytest(M, *workers, *given)
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.TESTS_FAILED)
    said = result.stdout.str() + result.stderr.str()
    assert told in said
    assert "INTERNALERROR" not in said
    assert "go on:" not in said
    assert ran(pytester.path) == []
    assert not (pytester.path / "runs").exists()


@pytest.mark.parametrize(("right", "wrong"), [("hosts:", "host:"), ("axes:", "axis:")])
def test_a_mistyped_section_is_told(pytester: pytest.Pytester, right: str, wrong: str) -> None:
    plant(pytester.path, matrix=MATRIX.replace(right, wrong, 1))
    for arguments in ((M,), ("matrices",)):
        result = pytester.runpytest(*arguments)
        assert result.ret != pytest.ExitCode.OK
        result.stdout.fnmatch_lines([f"*{M}:*{wrong[:-1]}*no such field*"])
