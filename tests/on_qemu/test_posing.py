"""Guests that talk: what is said of a boot counts only if it could not have been said before it."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine
from bootmatrix.firmware.identity import banner_version
from bootmatrix.lab import Lab
from bootmatrix.machines import console
from bootmatrix.machines.console import Console
from bootmatrix.model import Disk, Verdict
from bootmatrix.policies import Policy
from bootmatrix.records.model import Record
from bootmatrix.steps.base import Scenario
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.start import Start
from helpers.cells import HOSTS, cell
from helpers.hostile import (
    IDLE,
    SAY,
    RunnerWith,
    banner_in_assembly,
    hostile_probe,
    printed_by,
    probe,
)

# The line of the boot to come, under the name of bullseye's firmware: all that a guest can know.
CLAIM = """\
claim:
    mov si, text_hostile
    call put_string
    inc word [boot]
    print text_up
    call put_boot
    call put_identity
    dec word [boot]
    ret
"""
COUNT = "count_boot:\n"
RESET = ".reset_cf9:\n"
ALL_THE_TIME = (IDLE, f"    call claim\n{IDLE}")
AT_ITS_RESET = (RESET, f"{RESET}    call claim\n")
NO_RESET = ("    port_write 0xCF9, 0x06\n", "")
DATA = "text_end                db"


@pytest.fixture
def runner(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[RunnerWith]:
    with RunnerWith(Builds(store), bubblewrap, tmp_path) as runner:
        yield runner


def claims(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    data = (DATA, banner_in_assembly() + DATA)
    return probe(tmp_path, (COUNT, CLAIM + COUNT), data, *changes)


def the_log(tmp_path: Path, record: Record, process: str) -> bytes:
    return (tmp_path / record["artifacts"] / process / "console.log").read_bytes()


# ---- before a reset ------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "scenario", "when"), [
    ("stock", "migrate-reset", ALL_THE_TIME),
    ("guest-owned", "migrate-reset-by-cf9", AT_ITS_RESET),
])
def test_a_guest_that_claims_the_boot_to_come(
    runner: RunnerWith, tmp_path: Path, policy: str, scenario: str, when: tuple[str, str]
) -> None:
    """SeaBIOS 1.14.0 on q35 says nothing after a reset, whatever its guest has said."""
    runner.boots(claims(tmp_path, when))
    record = runner.run(cell("bullseye sid", policy, scenario, "pc-q35-5.2", "ahci", seconds=1.0))
    assert record["verdict"] == Verdict.SILENT, record["reason"]
    assert record["boots"][-1]["banners"] == []
    assert b"up boot=2" in the_log(tmp_path, record, "2-destination")


@pytest.mark.parametrize("scenario", ["migrate-reset", "migrate-reset-by-cf9"])
def test_a_claim_does_not_hide_what_ran(
    runner: RunnerWith, tmp_path: Path, scenario: str
) -> None:
    runner.boots(claims(tmp_path, ALL_THE_TIME))
    record = runner.run(cell("bullseye sid", "machine-owned", scenario))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert record["boots"][-1]["banners"] == [printed_by("sid")]


def test_a_guest_that_only_says_that_it_resets(runner: RunnerWith, tmp_path: Path) -> None:
    """As where a QEMU does nothing when it is asked: it goes on, and says so."""
    runner.boots(claims(tmp_path, AT_ITS_RESET, NO_RESET))
    record = runner.run(cell("sid", "stock", "reset-by-cf9", seconds=1.0))
    assert record["verdict"] == Verdict.NOT_RESET
    assert re.fullmatch(
        r"reset: the machine was not reset within \d+ s after the guest was told to do so by cf9; "
        r"the guest goes on, and answers as boot 1", record["reason"])
    assert record["black_box"] == "still running the guest: the reset never happened"
    assert b"reset by=cf9" in the_log(tmp_path, record, "1-source")


def test_a_reset_that_nobody_asked_for(lab: Lab) -> None:
    guest = lab.guest("debian-bullseye", "debian-sid", machine="pc-i440fx-5.2")
    assert guest.start().up
    guest.vm.reset(Deadline.after(60))
    assert guest.vm.console.wait_for_boot(Deadline.after(60)).up is not None
    moved = guest.migrate("debian-sid")
    assert not moved.up
    assert moved.observed.went_round


@pytest.mark.thorough
def test_a_boot_that_is_claimed_and_then_migrated(runner: RunnerWith, tmp_path: Path) -> None:
    """Reset, moved while the firmware runs, up on the other side: one boot, and one banner."""
    runner.boots(claims(tmp_path, ALL_THE_TIME))
    steps = (Start(0), Reset(),
             Migrate(1, during_post=True))
    for machine, disk, verdict in (("pc-i440fx-5.2", Disk.IDE, Verdict.PASS),
                                   ("pc-q35-5.2", Disk.AHCI, Verdict.SILENT)):
        record = runner.run(Cell(
            (HOSTS["bullseye"], HOSTS["sid"]), machine, Policy.STOCK, Scenario("post", steps),
            disk, seconds=1.0, patience=1.0))  # fmt: skip
        assert record["verdict"] == verdict, record["reason"]


# ---- before a question --------------------------------------------------------------------------


DEAF = ("    je .here\n", "    je .forget\n")
HERE = "    print text_here\n{}    call put_boot\n    call put_beat\n    call put_identity\n"
GUESS = "    mov si, text_hostile\n    call put_string\n"


@pytest.mark.parametrize("nonce", ["", GUESS], ids=["none", "guess"])
def test_an_answer_that_comes_before_the_question(
    runner: RunnerWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nonce: str
) -> None:
    monkeypatch.setattr("bootmatrix.run.guest.ANSWER_SECONDS", 2.0)
    data = "text_hostile db ' nonce=0123456789012345', 0\n"
    runner.boots(probe(
        tmp_path, DEAF, ("\nmain_loop:\n", "\nmain_loop:\n" + HERE.format(nonce)),
        ("text_end                db", f"{data}text_end                db")))  # fmt: skip
    record = runner.run(cell("bullseye sid", "stock", seconds=1.0))
    assert record["verdict"] == Verdict.NO_BOOT, record["reason"]
    assert record["reason"].startswith("migrate: the guest no longer answers on the destination")
    assert b"here" in the_log(tmp_path, record, "2-destination")


@pytest.mark.parametrize("nonce", [
    pytest.param("", marks=pytest.mark.thorough), GUESS], ids=["none", "guess"])
def test_a_flash_that_is_programmed_before_it_is_asked_for(
    runner: RunnerWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nonce: str
) -> None:
    monkeypatch.setattr("bootmatrix.run.guest.GUEST_SECONDS", 2.0)
    done = f"    print text_flash\n{nonce}    mov si, text_done\n    call put_string\n"
    data = ("text_hostile db ' nonce=0123456789012345', 0\n"
            "text_done db ' size=262144 written=262144 result=ok', 13, 10, 0\n")
    runner.boots(probe(
        tmp_path, ("    je .flash\n", "    je .forget\n"),
        ("\nmain_loop:\n", "\nmain_loop:\n" + done),
        ("text_end                db", f"{data}text_end                db")))  # fmt: skip
    record = runner.run(cell("bullseye sid", "guest-owned", "guest-flash-reset", seconds=1.0))
    assert record["verdict"] == Verdict.NO_BOOT, record["reason"]
    assert record["reason"].startswith("guest-flash: cut off after 0 bytes or more")


# ---- what a console makes of it -----------------------------------------------------------------


UP = b'BOOTMATRIX up boot=%d bios-vendor="" bios-version="" disk="A"\r\n'
BANNER = b"SeaBIOS (version %s)\r\n"


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[socket.socket, Console]]:
    ours, theirs = socket.socketpair()
    with theirs, Console(ours, tmp_path / "console.log") as reader:
        yield theirs, reader


Ends = tuple[socket.socket, Console]


@pytest.mark.parametrize("before", [
    b"",
    BANNER % b"6.6.6",
    BANNER % b"6.6.6" + UP % 2,
    UP % 2 + BANNER % b"6.6.6",
    (BANNER % b"6.6.6" + UP % 2) * 500,
    b"SeaBIOS (version 6.6.6",
    b'BOOTMATRIX up boot=2 bios-vendor="" bios-version="" disk="A"',
    b"\x1b[",
], ids=range(8))
@pytest.mark.parametrize("read", [False, True])
def test_what_is_skipped_is_of_no_boot(ends: Ends, before: bytes, read: bool) -> None:
    theirs, reader = ends
    theirs.sendall(BANNER % b"1.14.0" + UP % 1 + before)
    if read:  # the last boot was watched, and more was read than its line
        assert reader.wait_for_boot(Deadline.after(60)).banners == ("1.14.0",)
    assert reader.skip()
    assert reader.wait_for_boot(Deadline.after(0)).up is None
    theirs.sendall(b")\r\n" + BANNER % b"1.17.0" + UP % 3)
    seen = reader.wait_for_boot(Deadline.after(60))
    assert seen.banners == ("1.17.0",)
    assert seen.up is not None
    assert seen.up.boot == 3
    assert before in reader.log.read_bytes()


def test_a_console_that_has_ended_says_so(ends: Ends) -> None:
    theirs, reader = ends
    theirs.sendall(b"last words\r\n")
    assert reader.skip()
    theirs.close()
    assert not reader.skip()
    assert reader.wait_for_boot(Deadline.after(60)).ended


def test_a_firmware_without_a_banner_spoke_or_did_not(ends: Ends) -> None:
    theirs, reader = ends
    theirs.sendall(b"of before\r\n")
    reader.skip()
    assert not reader.wait_for_boot(Deadline.after(0)).spoke
    theirs.sendall(b"BdsDxe: loading Boot0001\r\n")
    assert reader.wait_for_boot(Deadline.after(0)).spoke


def answering(sock: socket.socket, answer: Callable[[bytes], bytes]) -> threading.Thread:
    """Someone who answers one command, of which it is given the nonce."""

    def run() -> None:
        typed = b""
        while not typed or chr(typed[-1]) in "#0123456789":
            typed += sock.recv(64)
        sock.sendall(answer(typed[1:-1]))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


HERE_LINE = b'BOOTMATRIX here%s boot=1 beat=2 bios-vendor="" bios-version="" disk="A"\r\n'


@pytest.mark.parametrize(("answer", "heard"), [
    (lambda nonce: HERE_LINE % b" nonce=%s" % nonce, True),
    (lambda nonce: HERE_LINE % b"", False),
    (lambda nonce: HERE_LINE % b" nonce=0000000000000000", False),
    (lambda nonce: HERE_LINE % b" nonce=%s" % nonce[:-1], False),
    (lambda nonce: HERE_LINE % b" nonce=%s" % nonce[1:], False),
    (lambda nonce: b"BOOTMATRIX flash nonce=%s size=1 written=1 result=ok\r\n" % nonce, False),
    (lambda nonce: HERE_LINE % b"" + HERE_LINE % b" nonce=%s" % nonce, True),
])
def test_an_answer_repeats_the_nonce(
    ends: Ends, answer: Callable[[bytes], bytes], heard: bool
) -> None:
    theirs, reader = ends
    theirs.sendall(HERE_LINE % b"" + HERE_LINE % b" nonce=1234567890123456")  # before it is asked
    guest = answering(theirs, answer)
    line = reader.ask(Deadline.after(60 if heard else 0.3))
    guest.join()
    assert (line is not None) is heard


def test_no_two_questions_are_alike(ends: Ends) -> None:
    theirs, reader = ends
    nonces: list[bytes] = []
    for _ in range(2):
        guest = answering(theirs, lambda nonce: nonces.append(nonce) or b"")  # type: ignore[func-returns-value]
        assert reader.ask(Deadline.after(0.05)) is None
        guest.join()
        old = HERE_LINE % b" nonce=%s" % nonces[0]
        theirs.sendall(old)
    assert nonces[0] != nonces[1]
    assert {len(nonce) for nonce in nonces} == {console._NONCE_DIGITS}


def test_progress_that_nobody_asked_for_is_none(ends: Ends) -> None:
    theirs, reader = ends
    told: list[int] = []
    guest = answering(theirs, lambda nonce: (
        b"BOOTMATRIX flashing at=4096\r\nBOOTMATRIX flashing nonce=%s at=65536\r\n"
        b"BOOTMATRIX flash nonce=%s size=1 written=1 result=ok\r\n" % (nonce, nonce)))
    assert reader.tell(b"f", "flash", Deadline.after(60), told.append) is not None
    guest.join()
    assert told == [65536]


# ---- guests that pose as firmware, or as another boot --------------------------------------


@pytest.mark.parametrize("policy", ["stock", "machine-owned"])
@pytest.mark.parametrize("where", [
    pytest.param("after up", marks=pytest.mark.thorough), "all the time"])
def test_a_banner_printed_by_a_guest_that_is_up_changes_nothing(
    runner: RunnerWith, tmp_path: Path, where: str, policy: str
) -> None:
    # "1.15.0": nobody's. It is still printed in the moment in which the reset happens.
    runner.boots(hostile_probe(tmp_path, SAY, banner_in_assembly("SeaBIOS (version 1.15.0)"),
                               where=where))
    record = runner.run(cell("bullseye sid", policy))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert b"1.15.0" in the_log(tmp_path, record, "2-destination" if where == "all the time"
                                else "1-source")


def test_a_banner_printed_before_its_line_is_a_conflict(
    runner: RunnerWith, tmp_path: Path
) -> None:
    runner.boots(hostile_probe(tmp_path, SAY, banner_in_assembly(), where="before up"))
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record["verdict"] == Verdict.WITNESS_CONFLICT
    assert record["reason"] == (
        "boot 1 (start on source): the banners of one boot differ: "
        f"{printed_by('sid')}, {printed_by('bullseye')}")


@pytest.mark.parametrize("smbios", [True, False])
def test_posing_as_the_old_firmware_after_the_new_one_ran(
    runner: RunnerWith, tmp_path: Path, smbios: bool
) -> None:
    """Banner and SMBIOS forged alike; the banner of the firmware itself, and its bytes, remain."""
    old = printed_by("bullseye")
    forge = "    mov si, text_hostile_version\n    mov di, bios_version\n" \
            f"    mov cx, {len(old) + 1}\n    rep movsb\n" if smbios else ""
    runner.boots(hostile_probe(
        tmp_path, SAY + forge, banner_in_assembly() + f"text_hostile_version db '{old}', 0\n",
        where="before up"))
    record = runner.run(cell("bullseye sid", "machine-owned", "move"))
    assert record["verdict"] != Verdict.PASS
    # Bullseye's own banner is what the guest forges: it says it again where that one ran.
    assert record["verdict"] == Verdict.WITNESS_CONFLICT
    assert record["reason"] == (
        "boot 1 (start on source): the firmware's banner came 2 times, and the machine began once")


def test_a_guest_that_says_it_is_up_before_the_reset(runner: RunnerWith, tmp_path: Path) -> None:
    """The line of a boot that has not begun is none of that boot's."""
    again = "    print text_up\n    call put_boot\n    call put_identity\n"
    runner.boots(hostile_probe(tmp_path, again, "", where="all the time"))
    record = runner.run(cell("bullseye sid", "machine-owned"))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert [boot["counter"] for boot in record["boots"]] == [1, 2]


def test_a_banner_that_the_reset_cut_off_does_not_hide_the_real_one() -> None:
    assert banner_version("SeaBIOS (version 6.6SeaBIOS (version 1.17.0)\r\n") == "1.17.0"


