"""A comparison in each form in which it is told."""

from __future__ import annotations

import json
from xml.etree import ElementTree as Xml

import pytest

from bootmatrix.report.compare import Comparison, compare
from bootmatrix.report.differences import FORMATS
from bootmatrix.report.pairing import ExpectedChange
from helpers.records import all_pairs, changed

BAD = {"verdict": "silent", "reason": "boot 2: nothing <b>came</b> | \x1b"}


@pytest.fixture
def compared() -> Comparison:
    """One new failure, one cell that is new, one wish that did not come true."""
    return compare(changed(7, **BAD)[:7] + all_pairs()[7:-1], changed(7, **BAD),
                   expected=[ExpectedChange("a", "b")])


def test_text_has_a_line_each_and_ends_with_the_sum(compared: Comparison) -> None:
    lines = FORMATS["text"](compared).splitlines()
    assert lines[0].startswith("new failure ")
    assert lines[1].startswith("new cell ")
    assert lines[2] == "expected, and not seen: a=b"
    assert lines[3] == compared.summary
    assert lines[3].startswith("worse than the baseline: 120 cells: 1 new failure, 1 new cell, 118")


def test_json(compared: Comparison) -> None:
    found = json.loads(FORMATS["json"](compared))
    assert list(found) == ["worse", "summary", "cells", "same", "counts", "findings",
                           "other_builds", "expected_not_seen"]
    assert found["worse"] is True
    assert found["counts"] == {"new failure": 1, "new cell": 1}
    assert [(one["kind"], one["worse"]) for one in found["findings"]] == [
        ("new failure", True), ("new cell", False)]
    assert found["expected_not_seen"] == ["a=b"]
    gone = compare(all_pairs(), all_pairs()[:-3])
    assert json.loads(FORMATS["json"](gone))["cells"] == len(all_pairs())
    assert f": {len(all_pairs())} cells: 3 gone, " in gone.summary


def test_junit_fails_what_is_worse(compared: Comparison) -> None:
    suite = Xml.fromstring(FORMATS["junit"](compared)).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("120", "1")
    failure, = suite.findall("testcase/failure")
    assert failure.get("message", "").startswith("new failure: silent: ")
    assert "expected, and not seen" in (suite.findtext("system-out") or "")
    gone = Xml.fromstring(FORMATS["junit"](compare(all_pairs(), all_pairs()[1:])))
    assert gone.find("testsuite").get("tests") == "120"  # type: ignore[union-attr]


def test_markdown_and_html_escape(compared: Comparison) -> None:
    for name in ("markdown", "html"):
        told = FORMATS[name](compared)
        assert "<b>" not in told
        assert "new failure" in told
        assert "✗" in told
        assert "a=b" in told
    assert "<details>" in FORMATS["markdown"](compared)
    assert "src=" not in FORMATS["html"](compared)


def test_many_are_cut_in_markdown() -> None:
    told = FORMATS["markdown"](compare(all_pairs(), [one | BAD for one in all_pairs()]))
    assert "... and 90 more" in told
