"""docs/detection.md: which of the planted faults were found, by which verdict, and why not."""

from __future__ import annotations

from collections.abc import Mapping

from .faults import BY_NUMBER, CHANGED_AFTERWARDS, CONTROLS, Fault
from .trial import ENOUGH, Found

_HEAD = """\
# How much does it find?

Faults planted in the sources of Debian's QEMU {version} and SeaBIOS {seabios}, one at a time, and \
run through \
[benchmarks/detection/matrix.yaml](../benchmarks/detection/matrix.yaml): migrations and resets \
between that QEMU and bookworm's, in both directions. This page is made by

    make detection

It fetches the sources by apt, builds QEMU once (ten to twenty minutes of two processors, where \
nothing else runs) and SeaBIOS for each of its faults, and runs the matrix for each fault, two \
cells side by side. Nothing of QEMU or SeaBIOS is in this repository: \
[faults.py](../benchmarks/detection/faults.py) has the few lines that are put in, and where.

- Once {enough} cells have a finding, no further one is begun: the cells of a fault that is \
everywhere are few.
- What none of them finds is run through \
[slow.yaml](../benchmarks/detection/slow.yaml), too: variables under UEFI, and Linux that is \
suspended. What must not be found, and the controls, are run through every cell of both.

A fault is *found* where a cell has a finding. Its *class* is right where most of the findings \
have a verdict that faults.py names for it; the *cause* is named where a reason of that class, or \
the black box's line beside it, says what went wrong, by a pattern of faults.py. Verdicts and \
patterns were written down before the first run, {but}.

{measured}
"""

# To be written anew with the page: nothing here knows it.
_MEASURED = ("This page is of November 2026, each fault run once, on two processors at a load of "
             "4 to 25.")


def page(results: Mapping[int, Found], version: str, seabios: str) -> str:
    """The page, in Markdown."""
    controls = [results[fault.number] for fault in CONTROLS if fault.number in results]
    untried = [fault for fault in BY_NUMBER.values()
               if fault not in CONTROLS and fault.number not in results]
    tried = [BY_NUMBER[number] for number in sorted(results) if BY_NUMBER[number] not in CONTROLS]
    seen = [fault for fault in tried if fault.verdicts]
    found = [fault for fault in seen if results[fault.number].findings]
    right = [fault for fault in found if results[fault.number].of_class(fault)]
    named = [fault for fault in right if results[fault.number].names_the_cause(fault)]
    quiet = [fault for fault in tried if not fault.verdicts]
    false = [fault for fault in quiet if results[fault.number].findings]
    lines = [_HEAD.format(version=version, seabios=seabios, but=CHANGED_AFTERWARDS, enough=ENOUGH,
                          measured=_MEASURED)]
    lines += [f"- {BY_NUMBER[control.number].title}: {control.findings} of "
              f"{control.cells} cells have a finding." for control in controls]
    lines += [
        f"- Of {len(seen)} faults that a guest or its user could notice, {len(found)} are found; "
        f"{len(right)} in their class, and of {len(named)} a reason names the cause.",
        f"- Of {len(quiet)} that nobody here could notice, with a finding: {len(false)}.",
        f"- Of the {len(BY_NUMBER) - len(CONTROLS)} faults in faults.py, not run for this page: "
        f"{len(untried)}{': ' * bool(untried)}{', '.join(str(one.number) for one in untried)}.",
        "",
        "| | fault | found | class | cause | verdicts | the reason |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_row(fault, results[fault.number]) for fault in tried]
    gaps = [fault for fault in seen if not results[fault.number].findings]
    if gaps:
        lines += ["", "## Not found", ""]
        lines += [f"- **{fault.title}**: {fault.gap or 'a gap that is not closed yet.'}"
                  for fault in gaps]
    return "\n".join(lines) + "\n"


def _row(fault: Fault, found: Found) -> str:
    if not fault.verdicts:
        said = ["must not", "", ""] if not found.findings else ["**falsely**", "", ""]
    elif not found.findings:
        said = ["**no**", "", ""]
    else:
        said = [f"{found.findings} of {found.cells} cells",
                _yes(found.of_class(fault)), _yes(found.names_the_cause(fault))]
    verdicts = ", ".join(f"`{name}` {count}" for name, count in found.verdicts.items())
    reason = next(iter(found.reasons.values()), "").replace("|", "\\|").replace("\n", " ")
    return " | ".join([f"| {fault.number}", fault.title, *said, verdicts, reason[:160]]) + " |"


def _yes(so: bool) -> str:
    return "yes" if so else "**no**"
