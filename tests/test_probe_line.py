"""The probe's lines: every value comes back, and nothing else passes for a line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model import ResetBy
from harness.probe_line import ProbeLine, parse_line

GUEST_RESETS = [ResetBy.CF9, ResetBy.KEYBOARD, ResetBy.TRIPLE_FAULT]

numbers = st.integers(min_value=0, max_value=2**32 - 1)
strings = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"'))
identities = st.fixed_dictionaries(
    {"bios_vendor": strings, "bios_version": strings, "disk": strings}
)
lines = st.one_of(
    st.builds(lambda n, who: ProbeLine("up", boot=n, **who), numbers, identities),
    st.builds(lambda n, b, who: ProbeLine("here", boot=n, beat=b, **who), numbers, numbers,
              identities),
    st.builds(ProbeLine, st.just("beat"), boot=numbers, beat=numbers),
    st.builds(ProbeLine, st.just("reset"), by=st.sampled_from(GUEST_RESETS)),
)


def printed(line: ProbeLine) -> str:
    """What the guest prints for these values, without the line end."""
    words = ["BOOTMATRIX", line.kind]
    for key in ("boot", "beat", "by"):
        if (value := getattr(line, key)) is not None:
            words.append(f"{key}={value}")
    for key in ("bios_vendor", "bios_version", "disk"):
        if (value := getattr(line, key)) is not None:
            words.append(f'{key.replace("_", "-")}="{value}"')
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
    "BOOTMATRIX reset by=cf9 boot=1",
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


@given(lines, st.data())
def test_a_torn_line_is_no_line(line: ProbeLine, data: st.DataObject) -> None:
    """Of a line cut short nothing passes, but a beat whose number lost its last digits."""
    text = printed(line)
    torn = parse_line(text[: data.draw(st.integers(0, len(text) - 1))])
    if torn is not None:
        assert (torn.kind, torn.boot) == ("beat", line.boot)
        assert str(line.beat).startswith(str(torn.beat))


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    parse_line(text)
    assert parse_line("BOOTMATRIX up " + text) is None or text.startswith("boot=")
