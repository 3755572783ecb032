"""Which program was started, planted and judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.boards import Loader
from bootmatrix.firmware.identity import KnownFirmware, sha256
from bootmatrix.model import PROGRAMS, BootBy, FirmwareBuild, Verdict
from bootmatrix.policies import Policy
from bootmatrix.policies.base import HostFacts
from bootmatrix.steps.base import Step
from bootmatrix.steps.plan import plan
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.start import Start
from bootmatrix.steps.write_boot_entry import WriteBootEntry
from bootmatrix.verdict import Judgement, judge
from bootmatrix.witnesses.boot_entry import booted_by
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from helpers.judging import rows_of

OVMF = FirmwareBuild("ovmf", sha256(b"ovmf"), 1 << 20, Path("ovmf"), prints="2025.02-8")
DEFAULT, OWN, ONCE = "\\EFI\\BOOT\\BOOTX64.EFI", "\\EFI\\GUEST\\OWN.EFI", "\\EFI\\GUEST\\NEXT.EFI"
UP = ProbeLine(
    "up", 1, None, "EDK II", OVMF.prints, "A", uefi="Debian", revision="00010000",
    secure_boot="0", setup_mode="1", keys="00000000", value="", entry="", program=DEFAULT,
)  # fmt: skip
START, RESET = Start(0), Reset()


def judged(by: BootBy, *programs: str | None, loader: Loader = Loader.FLASH) -> Judgement:
    """A guest that writes an entry at its first boot, then is reset, and starts these programs."""
    entry = WriteBootEntry(by)
    told = replace(UP, kind="here", beat=1)
    wrote = ProbeLine("written", value="", result="ok")
    seen = []
    for n, program in enumerate(programs, 1):
        boot = BootObserved(0, (), replace(UP, boot=n, program=program), OVMF.sha256, 2.0, 9.0,
                            spoke=True, nameless=True, resets=int(n > 1))
        step: Step = START if n == 1 else RESET
        seen.append(StepObserved(step, 2.0, 0, boot=boot))
        if n == 1:
            seen.append(StepObserved(entry, 0.1, 0, answer=told, wrote=wrote))
    host = HostFacts("11.1", "", "ovmf", loader=loader)
    planned = plan(Policy.STOCK, [host], "pc-q35-5.2", [each.step for each in seen])
    return judge(planned, seen, KnownFirmware([OVMF]))


@pytest.mark.parametrize(("by", "programs"), [
    (BootBy.ORDER, (DEFAULT, OWN, OWN)), (BootBy.NEXT, (DEFAULT, ONCE, DEFAULT)),
    (BootBy.ORDER, (None, None)),  # who tells nothing of it tells nothing wrong
])
def test_an_entry_that_is_used(by: BootBy, programs: tuple[str | None, ...]) -> None:
    judgement = judged(by, *programs)
    assert judgement.verdict is Verdict.PASS, judgement.reason


@pytest.mark.parametrize(("by", "programs", "told"), [
    (BootBy.ORDER, (OWN,), "boot 1 (start on source): the firmware has started "
     "\\EFI\\GUEST\\OWN.EFI, expected its own default"),
    (BootBy.ORDER, (DEFAULT, DEFAULT), "boot 2 (reset on source): the firmware has started "
     "\\EFI\\BOOT\\BOOTX64.EFI, expected the guest's entry in BootOrder"),
    (BootBy.NEXT, (DEFAULT, DEFAULT), "boot 2 (reset on source): the firmware has started "
     "\\EFI\\BOOT\\BOOTX64.EFI, expected the guest's entry in BootNext"),
    (BootBy.NEXT, (DEFAULT, ONCE, ONCE), "boot 3 (reset on source): the firmware has started "
     "\\EFI\\GUEST\\NEXT.EFI, expected its own default"),  # it is for one boot
    (BootBy.ORDER, (DEFAULT, ""), "boot 2 (reset on source): the firmware has started no file, "
     "expected the guest's entry in BootOrder"),
], ids=["unasked", "not used", "next not used", "twice", "none"])
def test_another_program_than_the_entries_say(
    by: BootBy, programs: tuple[str, ...], told: str
) -> None:
    judgement = judged(by, *programs)
    assert (judgement.verdict, judgement.reason) == (Verdict.WRONG_PROGRAM, told)


def test_without_a_store_nothing_is_expected() -> None:
    judgement = judged(BootBy.ORDER, DEFAULT, DEFAULT, loader=Loader.ROM)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    assert "program" not in rows_of(judgement)[0]


@pytest.mark.parametrize(("path", "by"), [
    (DEFAULT, BootBy.DEFAULT), ("\\EFI\\BOOT\\BOOTAA64.EFI", BootBy.DEFAULT),
    ("/efi\\boot\\bootriscv64.efi", BootBy.DEFAULT),
    *(("\\" + path.replace("/", "\\"), by) for by, path in PROGRAMS.items()),
    ("", None), ("\\EFI\\debian\\shimx64.efi", None),
])
def test_what_names_a_file(path: str, by: BootBy | None) -> None:
    assert booted_by(path) is by


def test_what_is_in_the_record() -> None:
    rows = rows_of(judged(BootBy.ORDER, DEFAULT, "\\SHELL.EFI"))
    assert [row["program"] for row in rows] == [
        {"path": DEFAULT, "booted_by": "default", "expected": "default"},
        {"path": "\\SHELL.EFI", "booted_by": None, "expected": "boot-order"},
    ]
    program = rows[0]["program"]
    assert {type(value) for value in program.values()} == {str}, "plain data, for xdist"
    assert "program" not in rows_of(judged(BootBy.ORDER, None))[0]
