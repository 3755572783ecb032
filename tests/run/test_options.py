"""The options of a run: each is one row, which the command and pytest have alike."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bootmatrix.cli.options import add
from bootmatrix.records.model import OPTIONS
from bootmatrix.run.options import REUSED, RUN, SELECTION

EVERY = {option.flag: option for option in (*SELECTION, *RUN)}


def words(*given: str) -> list[str]:
    """What pytest is given for arguments of the command."""
    parser = argparse.ArgumentParser()
    add(parser, EVERY.values())
    options = parser.parse_args(given)
    return [word for option in EVERY.values()
            for word in option.words(getattr(options, option.name))]


def test_no_option_that_is_not_given_is_handed_on() -> None:
    assert words("-n", "2") == ["-n", "2"]
    assert words() == []


@pytest.mark.parametrize(("given", "expected"), [
    (["-k", "q35 and not stock"], ["-k", "q35 and not stock"]),
    (["-k=@x"], ["-k@x"]),  # which apart would be a file of options
    (["-k", "@", "-m=-x"], ["-k@", "-m-x"]),
    (["-x", "--lf", "--share"], ["-x", "--lf", "--bootmatrix-share"]),
    (["--strict-known"], ["--strict-known"]),
    (["--cell", "a,b", "--cell", "c"], ["--bootmatrix-cell=a,b", "--bootmatrix-cell=c"]),
    (["--qemu", "head=-x"], ["--bootmatrix-qemu=head=-x"]),
    (["--repeat", "1"], []),
    (["--repeat", "3", "--json", "a b.jsonl"],
     ["--bootmatrix-repeat=3", "--bootmatrix-records=a b.jsonl"]),
    (["--junit-xml", "j.xml", "--run-dir", "out"],
     ["--junit-xml=j.xml", "--bootmatrix-run-dir=out"]),
])
def test_an_option_as_pytest_is_given_it(given: list[str], expected: list[str]) -> None:
    assert words(*given) == expected


def test_pytest_takes_what_it_is_given(pytestconfig: pytest.Config) -> None:
    for option in EVERY.values():
        if option.ours:
            name = option.pytest.lstrip("-").replace("-", "_")
            default = option.how.get("default", False if "action" in option.how else None)
            assert pytestconfig.getoption(name, "there is none") == default


def test_ours_collide_with_no_other_plugins() -> None:
    ours = [option.pytest for option in EVERY.values() if option.ours]
    assert {flag for flag in ours if not flag.startswith("--bootmatrix-")} == {"--strict-known"}
    assert len(set(ours)) == len(ours)


@pytest.mark.parametrize(("flag", "text"), [
    ("--repeat", "0"), ("--repeat", "1001"), ("--repeat", "x"), ("-n", "many"), ("-n", "-1"),
    ("-n", "257"), ("-n", "9" * 5000), ("--repeat", "9" * 5000),
    ("--engine", "podman"),
])
def test_what_is_no_value(flag: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        words(flag, text)
    assert ended.value.code == 2
    assert flag in capsys.readouterr().err


def test_paths_are_paths() -> None:
    parser = argparse.ArgumentParser()
    add(parser, RUN)
    assert parser.parse_args(["--resume", "out"]).resume == Path("out")


def test_a_record_takes_what_a_cell_needs_again() -> None:
    assert [option.flag for option in REUSED] == list(OPTIONS)
