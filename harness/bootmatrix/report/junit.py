"""Records as JUnit XML, as pytest writes it for the same cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as Xml

from bootmatrix.cell import AXES
from bootmatrix.matrix import axes
from bootmatrix.records.model import Record
from bootmatrix.records.outcome import Outcome, outcome_of
from bootmatrix.records.words import declared, versions
from bootmatrix.report.failure import failure
from bootmatrix.report.markdown import reason

# XML 1.0, 2.2 Characters: these cannot stand in a document, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(records: Sequence[Record]) -> str:
    """One test suite; known failures and unsupported cells are skipped ones."""
    outcomes = [outcome_of(record) for record in records]
    suites = Xml.Element("testsuites")
    suite = Xml.SubElement(suites, "testsuite", {
        "name": "bootmatrix", "tests": str(len(records)),
        "failures": str(sum(one in (Outcome.FAILED, Outcome.FLAKY) for one in outcomes)),
        "errors": str(outcomes.count(Outcome.ERROR)),
        "skipped": str(sum(one in (Outcome.KNOWN, Outcome.UNSUPPORTED) for one in outcomes)),
        "time": f"{sum(float(record.get('seconds') or 0) for record in records):.3f}"})
    for record, outcome in zip(records, outcomes, strict=True):
        case = Xml.SubElement(suite, "testcase", {
            "classname": clean(record.get("matrix") or "matrix"),
            "name": clean(record["cell"]["id"]),
            "time": f"{float(record.get('seconds') or 0):.3f}"})
        properties = Xml.SubElement(case, "properties")
        for key in AXES:
            if key in record["cell"] and not axes.is_default(key, record["cell"].get(key)):
                Xml.SubElement(properties, "property",
                               {"name": key, "value": clean(record["cell"].get(key))})
        for name, value in versions(record):
            Xml.SubElement(properties, "property", {"name": name, "value": clean(value)})
        Xml.SubElement(properties, "property", {"name": "verdict", "value": record["verdict"]})
        if outcome in (Outcome.KNOWN, Outcome.UNSUPPORTED):
            why = declared(record) if outcome is Outcome.KNOWN else record["reason"]
            Xml.SubElement(case, "skipped", {"message": clean(why)})
        elif outcome.is_bad:
            tag = "error" if outcome is Outcome.ERROR else "failure"
            Xml.SubElement(case, tag, {"message": clean(reason(record))}).text = clean(
                failure(record, artifacts=str(record.get("artifacts") or "none")))
    Xml.indent(suites)
    return Xml.tostring(suites, encoding="unicode", xml_declaration=True)


def clean(text: Any) -> str:
    """Text as XML can hold it."""
    return _NOT_XML.sub("\ufffd", str(text))
