"""The probe's lines: every value comes back, and nothing else passes for a line."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.model import ResetBy
from bootmatrix.witnesses.probe_line import ProbeLine, parse_line

GUEST_RESETS = [ResetBy.CF9, ResetBy.KEYBOARD, ResetBy.TRIPLE_FAULT]

numbers = st.integers(min_value=0, max_value=2**32 - 1)
strings = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"'))
identities = st.fixed_dictionaries(
    {"bios_vendor": strings, "bios_version": strings, "disk": strings}
)
machines: st.SearchStrategy[dict[str, Any]] = st.one_of(st.just({}), st.fixed_dictionaries({
    "fw_cfg": st.sampled_from(["", "QEMU"]),
    "features": numbers,
    "host": strings.map(lambda text: text[:63]),
    "acpi": numbers.map("{:08x}".format),
}))
uefis: st.SearchStrategy[dict[str, Any]] = st.one_of(st.just({}), st.fixed_dictionaries({
    "uefi": strings,
    "revision": numbers.map("{:08x}".format),
    "secure_boot": st.sampled_from("01"),
    "setup_mode": st.sampled_from("01"),
    "keys": numbers.map("{:08x}".format),
    "value": strings,
    "entry": strings,
}))
linuxes: st.SearchStrategy[dict[str, Any]] = st.one_of(st.just({}), st.fixed_dictionaries({
    "kernel": strings,
    "token": st.uuids().map(str),
    "uptime": numbers,
}))
statuses = st.sampled_from(["ok", "full", "out-of-resources", "write-protected"])
results = st.sampled_from(["ok", "no-image", "no-flash", "misfit", "refused", "mismatch"])
bare_lines = st.one_of(
    st.builds(lambda n, who, on, uefi, linux: ProbeLine("up", boot=n, **who, **on, **uefi,
                                                        **linux),
              numbers, identities, machines, uefis, linuxes),
    st.builds(lambda n, b, who, on, uefi: ProbeLine("here", boot=n, beat=b, **who, **on, **uefi),
              numbers, numbers, identities, machines, uefis),
    st.builds(ProbeLine, st.just("written"), value=strings, result=statuses),
    st.builds(ProbeLine, st.just("filled"), count=numbers, size=numbers, result=statuses),
    st.sampled_from([ProbeLine("suspend"), ProbeLine("shutdown")]),
    st.builds(ProbeLine, st.just("flashing"), at=numbers),
    st.builds(ProbeLine, st.just("flash"), size=numbers, written=numbers, result=results),
    st.builds(ProbeLine, st.just("beat"), boot=numbers, beat=numbers),
    st.builds(ProbeLine, st.just("reset"), by=st.sampled_from(GUEST_RESETS)),
)
nonces = st.one_of(st.none(), st.from_regex(r"[0-9]{1,16}", fullmatch=True))
lines = st.builds(
    lambda line, nonce: line if line.kind in ("up", "beat") else replace(line, nonce=nonce),
    bare_lines, nonces,
)  # fmt: skip


def printed(line: ProbeLine) -> str:
    """What the guest prints for these values, without the line end."""
    words = ["BOOTMATRIX", line.kind]
    for key in ("nonce", "boot", "beat", "by"):
        if (value := getattr(line, key)) is not None:
            words.append(f"{key}={value}")
    for key in ("bios_vendor", "bios_version", "disk"):
        if (value := getattr(line, key)) is not None:
            words.append(f'{key.replace("_", "-")}="{value}"')
    if line.acpi is not None:
        words.append(f'fw-cfg="{line.fw_cfg}" features={line.features} host="{line.host}"')
        words.append(f"acpi={line.acpi}")
    if line.uefi is not None:
        words.append(f'uefi="{line.uefi}" revision={line.revision} secure-boot={line.secure_boot}')
        words.append(f"setup-mode={line.setup_mode} keys={line.keys}")
    for key in ("value", "entry"):
        if (value := getattr(line, key)) is not None:
            words.append(f'{key}="{value}"')
    if line.kernel is not None:
        words.append(f'kernel="{line.kernel}" token="{line.token}" uptime={line.uptime}')
    for key in ("at", "count", "size", "written", "result"):
        if (value := getattr(line, key)) is not None:
            words.append(f"{key}={value}")
    return " ".join(words)


def test_up() -> None:
    text = 'BOOTMATRIX up boot=3 bios-vendor="SeaBIOS" bios-version="1.14.0-2" disk="A"\r\n'
    assert parse_line(text) == ProbeLine(
        "up", boot=3, bios_vendor="SeaBIOS", bios_version="1.14.0-2", disk="A"
    )


def test_here() -> None:
    text = 'BOOTMATRIX here boot=3 beat=17 bios-vendor="" bios-version="" disk="B"'
    assert parse_line(text) == ProbeLine(
        "here", boot=3, beat=17, bios_vendor="", bios_version="", disk="B"
    )


def test_here_with_fw_cfg_and_acpi() -> None:
    text = ('BOOTMATRIX here boot=3 beat=17 bios-vendor="a" bios-version="b" disk="A" '
            'fw-cfg="QEMU" features=3 host="11.1.3 debian-sid" acpi=0123cdef\r\n')
    assert parse_line(text) == ProbeLine(
        "here", boot=3, beat=17, bios_vendor="a", bios_version="b", disk="A",
        fw_cfg="QEMU", features=3, host="11.1.3 debian-sid", acpi="0123cdef",
    )


@pytest.mark.parametrize(("told", "machine"), [
    ("", None),  # a guest that was saved before it told of it
    (' machine=""', ""),
    (' machine="pc-q35-5.2"', "pc-q35-5.2"),
])
def test_up_with_the_machine(told: str, machine: str | None) -> None:
    read = parse_line('BOOTMATRIX up boot=1 bios-vendor="" bios-version="" disk="A" fw-cfg="QEMU" '
                      f'features=3 host="" acpi=0123cdef smbios=4567cdef{told} memory=32127 '
                      "cpus=1 cmos=1 program-sum=0123cdef\r\n")
    assert read is not None
    assert (read.smbios, read.machine, read.memory) == ("4567cdef", machine, 32127)


@pytest.mark.parametrize(("told", "secret", "pcrs"), [
    ("", None, {}),
    ('secret=sealed pcr0={0} pcr2={2} pcr4={4} pcr7={7} blobs=""', "sealed", {0, 2, 4, 7}),
    # they cannot be read
    ('secret=locked-out pcr0= pcr2= pcr4= pcr7= blobs=""', "locked-out", {}),
    ('secret=00000101 pcr0={0} pcr2={2} pcr4={4} pcr7={7} '
     'blobs=" 00820000+000e0000=0123abcd 00900000+00c00000=ffffffff"', "00000101", {0, 2, 4, 7}),
])
def test_up_with_a_tpm(told: str, secret: str | None, pcrs: set[int]) -> None:
    digests = {number: f"{number:064x}" for number in range(8)}
    head = ('BOOTMATRIX up boot=2 bios-vendor="" bios-version="" disk="A" '
            'fw-cfg="QEMU" features=3 host="" acpi=00000000 uefi="EDK II" revision=00010000 '
            'secure-boot=1 setup-mode=0 keys=0123cdef value="" entry=""')
    told = told.format(*digests.values())
    read = parse_line(f"{head} {told}\r\n" if told else f"{head}\r\n")
    assert read is not None
    assert read.secret == secret
    assert read.pcrs == {str(number): digests[number] for number in pcrs}


def test_up_of_an_efi_application_and_of_a_linux() -> None:
    head = ('BOOTMATRIX up boot=2 bios-vendor="" bios-version="" disk="A" '
            'fw-cfg="QEMU" features=3 host="" acpi=00000000')
    uefi = ('uefi="EDK II" revision=00010000 secure-boot=1 setup-mode=0 keys=0123cdef '
            'value="boot-1" entry="bootmatrix boot-1"')
    linux = 'kernel="6.1.0" token="0f-1" uptime=3'
    read = parse_line(f"{head} {uefi} {linux}\r\n")
    assert read is not None
    assert (read.uefi, read.revision, read.secure_boot, read.setup_mode, read.keys) == (
        "EDK II", "00010000", "1", "0", "0123cdef")
    assert (read.value, read.entry) == ("boot-1", "bootmatrix boot-1")
    assert (read.kernel, read.token, read.uptime) == ("6.1.0", "0f-1", 3)
    assert parse_line(f"{head} {uefi}") == replace(read, kernel=None, token=None, uptime=None)
    assert parse_line(f"{head} {linux} {uefi}") is None
    assert read.program is None
    told = parse_line(f'{head} {uefi} program="\\EFI\\GUEST\\OWN.EFI"')
    assert told is not None
    assert told.program == "\\EFI\\GUEST\\OWN.EFI"


@pytest.mark.parametrize(("text", "line"), [
    ('written value="boot-1" result=ok', ProbeLine("written", value="boot-1", result="ok")),
    ("filled count=225 size=230400 result=full",
     ProbeLine("filled", count=225, size=230400, result="full")),
    ("reset by=efi-warm", ProbeLine("reset", by=ResetBy.EFI_WARM)),
    ("suspend", ProbeLine("suspend")),
    ("shutdown", ProbeLine("shutdown")),
])
def test_what_only_uefi_and_linux_say(text: str, line: ProbeLine) -> None:
    assert parse_line(f"BOOTMATRIX {text}\r\n") == line


def test_flashing() -> None:
    assert parse_line("BOOTMATRIX flashing at=65536\r\n") == ProbeLine("flashing", at=65536)


def test_flash() -> None:
    assert parse_line("BOOTMATRIX flash size=262144 written=4096 result=refused\r\n") == (
        ProbeLine("flash", size=262144, written=4096, result="refused")
    )


def test_beat() -> None:
    assert parse_line("BOOTMATRIX beat boot=3 beat=17\r\n") == ProbeLine("beat", boot=3, beat=17)


@pytest.mark.parametrize("by", GUEST_RESETS)
def test_reset(by: ResetBy) -> None:
    assert parse_line(f"BOOTMATRIX reset by={by}\r\n") == ProbeLine("reset", by=by)


@pytest.mark.parametrize("text", [
    "",
    "SeaBIOS (version 1.14.0-2)",
    "BOOTMATRIX",
    "BOOTMATRIX up",
    "BOOTMATRIX failed reading-disk",
    "BOOTMATRIX beat boot=3",
    "BOOTMATRIX beat boot=3 beat=",
    "BOOTMATRIX beat boot=3 beat=" + "9" * 5000,
    "BOOTMATRIX beat boot=-3 beat=1",
    "BOOTMATRIX beat boot=\u0663 beat=1",
    "BOOTMATRIX  beat boot=3 beat=1",
    "BOOTMATRIX up boot=3 beat=1",
    "BOOTMATRIX reset by=monitor",
    "BOOTMATRIX flashing at=",
    "BOOTMATRIX flash size=1 written=1",
    "BOOTMATRIX flash size=1 written=1 result=good",
    "BOOTMATRIX reset by=cf9 boot=1",
    "BOOTMATRIX reset by=cf9 nonce=1",
    "BOOTMATRIX beat nonce=1 boot=3 beat=17",
    "BOOTMATRIX shutdown nonce=",
    "BOOTMATRIX shutdown nonce=1a",
    "BOOTMATRIX shutdown nonce=12345678901234567",
    "BOOTMATRIX shutdown now",
    'BOOTMATRIX written value="boot-1"',
    "BOOTMATRIX filled count=1 result=full",
    'BOOTMATRIX up boot=3 bios-vendor="a"b" bios-version="1" disk="A"',
    'BOOTMATRIX up boot=3 bios-vendor="a\x1b" bios-version="1" disk="A"',
    "xBOOTMATRIX beat boot=3 beat=1",
    "BOOTMATRIX beat boot=3 beat=1\r\nBOOTMATRIX beat boot=3 beat=2\r\n",
])
def test_other_text_is_no_line(text: str) -> None:
    assert parse_line(text) is None


@given(lines)
def test_every_value_comes_back(line: ProbeLine) -> None:
    assert parse_line(printed(line)) == line
    assert parse_line(printed(line) + "\r\n") == line


@pytest.mark.parametrize("tail", [
    'fw-cfg="QEMU" features=3 host="h"',
    'fw-cfg="QEMU" features=3 host="h" acpi=0123cde',
    'fw-cfg="QEMU" features=3 host="h" acpi=0123CDEF',
    'fw-cfg="qemu" features=3 host="h" acpi=0123cdef',
    'fw-cfg="QEMU" features= host="h" acpi=0123cdef',
    f'fw-cfg="QEMU" features=3 host="{"h" * 64}" acpi=0123cdef',
])
def test_fw_cfg_and_acpi_are_told_in_full_or_not_at_all(tail: str) -> None:
    head = 'BOOTMATRIX up boot=3 bios-vendor="" bios-version="" disk="A"'
    assert parse_line(head) is not None
    assert parse_line(f"{head} {tail}") is None


@given(lines, st.data())
def test_a_torn_line_is_no_line(line: ProbeLine, data: st.DataObject) -> None:
    """Of a line cut short little passes: last words that lost letters, a line without its tail."""
    text = printed(line)
    torn = parse_line(text[: data.draw(st.integers(0, len(text) - 1))])
    if torn is None:
        return
    for key, value in asdict(torn).items():
        if value is None:
            continue
        if key in ("beat", "at", "uptime", "result", "nonce"):
            assert str(getattr(line, key)).startswith(str(value))
        else:
            assert getattr(line, key) == value


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    parse_line(text)
    assert parse_line("BOOTMATRIX up " + text) is None or text.startswith("boot=")
