"""benchmarks/detection: what is planted, and what is said of it; no QEMU is built for that."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks.detection import source, trial
from benchmarks.detection.faults import BY_NUMBER, QEMU, SEABIOS, Fault, Plant
from benchmarks.detection.page import page
from benchmarks.detection.trial import Found, read, summed_up, write

from bootmatrix.errors import ImageError
from helpers.records import record

TEXT = '#include "qemu/osdep.h"\nint before(void)\n{\n    go();\n}\nint it(void)\n{\n    go();\n}\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("hw/core/loader.c", "a.c", "include/a.h"):
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(TEXT)
    return tmp_path / "tree"


def planted(tree: Path, where: str, *, line: str = "go();") -> str:
    fault = Fault(7, "", (Plant("a.c", "int it(void)", line, "    if (PLANTED(N))", where),))
    return source.planted([fault], tree, tree.parent / "untouched",
                          behind='#include "qemu/osdep.h"\n')["a.c"]


@pytest.mark.parametrize(("where", "lines"), [
    ("after", ["{", "    go();", "    if (PLANTED(7))", "}"]),
    ("before", ["{", "    if (PLANTED(7))", "    go();", "}"]),
    ("instead", ["{", "    if (PLANTED(7))", "}"]),
])
def test_lines_are_put_where_they_belong(tree: Path, where: str, lines: list[str]) -> None:
    text = planted(tree, where).splitlines()
    assert text[:2] == ['#include "qemu/osdep.h"', '#include "bootmatrix-planted.h"']
    assert text[text.index("int it(void)") + 1:] == lines
    assert text[2:6] == TEXT.splitlines()[1:5], "what stands before is as it was"


def test_planting_twice_is_planting_once(tree: Path) -> None:
    text = planted(tree, "after")
    (tree / "a.c").write_text(text)
    assert planted(tree, "after") == text


def test_a_place_that_is_not_in_the_source(tree: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.c: 'gone\(\);' is not there"):
        planted(tree, "after", line="gone();")


def test_which_fault_a_binary_has_is_in_its_bytes(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF" + source.MARK + b"00\0rest")
    for number in (0, 7, 30):
        made = source.chosen(program, BY_NUMBER[number], tmp_path / "planted")
        assert made.read_bytes() == b"\x7fELF" + source.MARK + b"%02d\0rest" % number
        assert made.stat().st_mode & 0o111
    program.write_bytes(b"\x7fELF" + 2 * (source.MARK + b"00\0"))
    with pytest.raises(ImageError, match="is not there once"):
        source.chosen(program, BY_NUMBER[1], tmp_path / "planted")


def test_each_fault_has_a_number_of_its_own_and_says_what_is_to_come_of_it() -> None:
    assert len(BY_NUMBER) == len(QEMU) + len(SEABIOS) + 2, "with the controls"
    for fault in (*QEMU, *SEABIOS):
        assert fault.plants
        assert 0 < fault.number < 100, "two digits in the binary"
        assert bool(fault.verdicts) == bool(fault.cause), fault.title
        assert all("PLANTED(N)" in "".join(plant.code for plant in fault.plants)
                   for plant in fault.plants)


def found(number: int, **verdicts: int) -> Found:
    names = {name.replace("_", "-"): count for name, count in verdicts.items()}
    return Found(number, 60, names, dict.fromkeys(names, "the reset did not happen"))


def test_a_finding_is_right_by_its_class_and_by_its_reason() -> None:
    ignored = BY_NUMBER[1]  # not-reset
    assert found(1, not_reset=3, silent=2).of_class(ignored)
    assert not found(1, not_reset=2, silent=3).of_class(ignored)
    assert found(1, not_reset=1).names_the_cause(ignored)
    assert not found(1, silent=1).names_the_cause(ignored), "said of another class"


def test_the_page_counts(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    for one in (found(0), found(1, not_reset=3), found(2, silent=3), found(3), found(11, late=1)):
        write(results, one)
    text = page({one.number: one for one in read(results)}, "10.0", "1.16.3")
    assert "- The same QEMU without a fault: 0 of 60 cells have a finding." in text
    assert ("- Of 3 faults that a guest or its user could notice, 2 are found; 1 in their class, "
            "and of 1 a reason names the cause.") in text
    assert "- Of 1 that nobody here could notice, with a finding: 1." in text
    faults = len(QEMU) + len(SEABIOS)
    assert (f"- Of the {faults} faults in faults.py, not run for this page: "
            f"{faults - 4}: 4, 5") in text
    assert f"| 1 | {BY_NUMBER[1].title} | 3 of 60 cells | yes | yes |" in text
    assert "| 11 | the files of fw_cfg are in reverse order | **falsely** |" in text
    assert f"- **{BY_NUMBER[3].title}**: a gap that is not closed yet." in text


def test_what_a_run_comes_to(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    with file.open("w") as records:
        for verdict in ("pass", "unsupported", "silent", "silent", "late"):
            records.write(json.dumps(record(verdict=verdict, reason=f"it was {verdict}")) + "\n")
    told = summed_up(BY_NUMBER[3], [file])
    assert (told.cells, told.verdicts) == (4, {"silent": 2, "late": 1})
    assert told.reasons == {"silent": "it was silent", "late": "it was late"}
    assert summed_up(BY_NUMBER[3], [file, file]).cells == 8


@pytest.mark.parametrize(("number", "finds", "matrices"), [
    (3, "silent", ["matrix"]),
    (3, "pass", ["matrix", "slow"]),  # what the first does not find
    (0, "pass", ["matrix", "slow"]),
    (11, "silent", ["matrix", "slow"]),  # of what must not be found every cell is run
])
def test_which_matrices_a_fault_is_run_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, finds: str, matrices: list[str]
) -> None:
    asked: list[list[str]] = []

    def bootmatrix(command: list[str], **_: object) -> SimpleNamespace:
        asked.append(command)
        file = Path(command[command.index("--json") + 1])
        file.write_text(json.dumps(record(verdict=finds)) + "\n")
        return SimpleNamespace(returncode=int(finds != "pass"))

    monkeypatch.setattr("subprocess.run", bootmatrix)
    told = trial.run(BY_NUMBER[number], ["--qemu", "planted=x"], tmp_path / "work")
    assert told.cells == len(matrices)
    assert [Path(command[2]).stem for command in asked] == matrices
    for command in asked:
        assert ("--maxfail" in command) == bool(BY_NUMBER[number].verdicts)
