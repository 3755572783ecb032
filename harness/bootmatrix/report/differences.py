"""A run beside another as text, Markdown, JSON, HTML and JUnit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree as Xml

from bootmatrix.report.compare import Comparison
from bootmatrix.report.junit import clean
from bootmatrix.report.markdown import MOST_FINDINGS, code, escaped


def text(compared: Comparison) -> str:
    """One line for each difference, and one that sums up."""
    return "\n".join([*compared.lines, *compared.notes, compared.summary])


def markdown(compared: Comparison) -> str:
    """For merge requests and job summaries: what is worse is shown, all else folded up."""
    lines = [f"### {'✗' if compared.worse else '✓'} {escaped(compared.summary)}", ""]
    worse = [finding for finding in compared.findings if finding.worse]
    other = [finding for finding in compared.findings if not finding.worse]
    if worse:
        lines += [*_rows(worse), ""]
    if other:
        lines += [f"<details><summary>what is no worse: {len(other)}</summary>", "",
                  *_rows(other), "", "</details>", ""]
    return "\n".join([*lines, *(f"- {escaped(note)}" for note in compared.notes)])


def _rows(findings: list[Any]) -> list[str]:
    lines = ["| | cell | |", "| --- | --- | --- |"]
    lines += [f"| {finding.word} | {code(finding.cell)} | {escaped(finding.text)} |"
              for finding in findings[:MOST_FINDINGS]]
    if len(findings) > MOST_FINDINGS:
        lines.append(f"| | ... and {len(findings) - MOST_FINDINGS} more | |")
    return lines


def as_json(compared: Comparison) -> str:
    """One object; docs/release-gate.md has its keys."""
    return json.dumps({
        "worse": compared.worse, "summary": compared.summary, "cells": compared.number,
        "same": compared.same, "counts": compared.counts,
        "findings": [{"kind": finding.word, "worse": finding.worse, "cell": finding.cell,
                      "text": finding.text} for finding in compared.findings],
        "other_builds": compared.builds, "expected_not_seen": compared.unseen,
    }, indent=1)  # fmt: skip


def html(compared: Comparison) -> str:
    """One page that loads nothing."""
    from bootmatrix.report.page import template

    return str(template("gate.html").render(compared=compared))


def junit(compared: Comparison) -> str:
    """A test case for each cell, of the baseline's that are gone as well; what is worse fails."""
    worse = {finding.cell: finding for finding in compared.findings if finding.worse}
    cells = dict.fromkeys([*compared.cells, *worse])
    suites = Xml.Element("testsuites")
    suite = Xml.SubElement(suites, "testsuite", {
        "name": "bootmatrix gate", "tests": str(len(cells)), "failures": str(len(worse)),
        "errors": "0", "skipped": "0"})
    for cell in cells:
        case = Xml.SubElement(suite, "testcase", {"classname": "gate", "name": clean(cell)})
        if (finding := worse.get(cell)) is not None:
            message = clean(f"{finding.word}: {finding.text}")
            Xml.SubElement(case, "failure", {"message": message}).text = message
    Xml.SubElement(suite, "system-out").text = clean("\n".join(
        [*compared.notes, compared.summary]))
    Xml.indent(suites)
    return Xml.tostring(suites, encoding="unicode", xml_declaration=True)


FORMATS: Mapping[str, Callable[[Comparison], str]] = MappingProxyType({
    "text": text, "markdown": markdown, "json": as_json, "html": html, "junit": junit,
})
"""By the name that ``--format`` takes."""
