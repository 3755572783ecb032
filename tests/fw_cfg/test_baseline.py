"""A recorded offer: it comes back as it was, or is refused with its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootmatrix.errors import UserError
from bootmatrix.fw_cfg import baseline
from bootmatrix.fw_cfg.contract import (
    Setup,
)
from helpers.offers import E820, OLD

TEXT = baseline.dumps(OLD)


def test_a_baseline_comes_back_as_it_was() -> None:
    own = Setup(256, (), "256,slots=2,maxmem=1G", "qemu64,-svm", "2,maxcpus=4", ("-device", "x"))
    for setup, schema in ((Setup(256, ("vmcoreinfo",)), 1), (own, 2)):
        offer = replace(OLD, setup=setup)
        text = baseline.dumps(offer)
        assert f'"schema": {schema}' in text
        assert baseline.loads(text, Path("b")) == offer


@pytest.mark.parametrize(("text", "said"), [
    ("", "not a fw_cfg baseline: it is not JSON"),
    ("[" * 100_000, "not a fw_cfg baseline"),
    ("[]", "its format is not"),
    ('{"schema": 1}', "its format is not"),
    ("[" + "1" * 5000 + "]", "a number in it is too long"),
    (TEXT.replace('"schema": 1', '"schema": 3'), "a baseline of schema 3"),
    (TEXT.replace('"devices"', '"words": ["-monitor", "stdio"], "devices"'), "damaged: machine"),
    (TEXT.replace('"devices"', '"words": [1], "devices"'), "damaged: machine"),
    (TEXT.replace('"devices"', '"smp": [], "devices"'), "damaged: machine"),
    (TEXT[: len(TEXT) // 2], "truncated or damaged"),
    (TEXT.replace('"machine": "pc-q35-5.2", ', ""), "damaged: machine"),
    (TEXT.replace('"memory_mib": 128', '"memory_mib": "128"'), "damaged: machine"),
    (TEXT.replace('"devices": []', '"devices": [1]'), "damaged: machine"),
    (TEXT.replace('"name": "etc/e820"', '"nom": "etc/e820"'), "no readable item"),
    (TEXT.replace('"size": 20', '"size": 19'), "not those that were recorded"),
    (TEXT.replace('"size": 20', '"size": -1'), "no readable item"),
    (TEXT.replace('"key": "0x0025"', '"key": 37'), "no readable item"),
    (TEXT.replace(E820.sha256, "0" * 64), "the bytes of etc/e820 are not those"),
])
def test_what_is_no_baseline(text: str, said: str) -> None:
    assert text != TEXT
    with pytest.raises(UserError) as caught:
        baseline.loads(text, Path("b.json"))
    assert str(caught.value).startswith("b.json:")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_baseline_unpacks_to_is_bounded_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    total = sum(len(item.data) for item in OLD.items)
    monkeypatch.setattr(baseline, "LARGEST_UNPACKED", total)
    baseline.loads(TEXT, Path("b.json"))
    monkeypatch.setattr(baseline, "LARGEST_UNPACKED", total - 1)
    last = len(OLD.items) + 1
    with pytest.raises(UserError, match=rf"^b.json:{last}: its items have more than"):
        baseline.loads(TEXT, Path("b.json"))


def test_a_truncated_baseline_says_where() -> None:
    with pytest.raises(UserError, match=r"^b.json:\d+:\d+: truncated"):
        baseline.loads(TEXT[:-300], Path("b.json"))


def test_a_damaged_item_is_named_by_its_line() -> None:
    line = next(n for n, text in enumerate(TEXT.splitlines(), 1) if "etc/e820" in text)
    with pytest.raises(UserError, match=f"^b.json:{line}: damaged"):
        baseline.loads(TEXT.replace(E820.sha256, "0" * 64), Path("b.json"))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(TEXT) - 1), st.characters(max_codepoint=0x7E))
def test_any_one_damaged_character(place: int, character: str) -> None:
    """It is refused, or it is one of those that say nothing of an item's bytes."""
    said, offer = "", OLD
    try:
        offer = baseline.loads(TEXT[:place] + character + TEXT[place + 1:], Path("b"))
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    assert [item.data for item in offer.items] == [item.data for item in OLD.items]


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) |
                    st.dictionaries(st.text(), inner), max_leaves=5))
def test_any_json_as_items(items: object) -> None:
    head = json.loads(TEXT) | {"items": [items]}
    with pytest.raises(UserError):
        baseline.loads(json.dumps(head), Path("b"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        baseline.load(tmp_path / "none")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="it is not text"):
        baseline.load(binary)
