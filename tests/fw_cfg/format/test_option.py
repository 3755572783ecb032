"""QEMU's -fw_cfg option."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.errors import UserError
from bootmatrix.fw_cfg.format import option
from bootmatrix.fw_cfg.format.option import FwCfgFile

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=55)


def test_an_option() -> None:
    assert FwCfgFile("opt/org.example/x", string="a,b").argv == \
        ("-fw_cfg", "name=opt/org.example/x,string=a,,b")
    assert FwCfgFile("opt/" + "x" * 51, file="/f,g").argv == \
        ("-fw_cfg", "name=opt/" + "x" * 51 + ",file=/f,,g")


@pytest.mark.parametrize(("name", "file", "string", "said"), [
    ("opt/" + "x" * 52, None, "s", "has 56 characters (at most 55)"),
    ("", None, "s", "no name"),
    ("etc/e820", None, "s", "QEMU's to give"),
    ("opt/", None, "s", "QEMU's to give"),
    ("opt/org.qemu/x", None, "s", "reserved for QEMU"),
    ("opt/ä", None, "s", "not plain ASCII"),
    ("opt/a\tb", None, "s", "not plain ASCII"),
    ("opt/x", None, None, "one of file= and string="),
    ("opt/x", "f", "s", "one of file= and string="),
    ("opt/x", None, "", "one of file= and string="),
    ("opt/x", None, "a\0b", "NUL"),
])
def test_an_option_that_qemu_would_refuse(
    name: str, file: str | None, string: str | None, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        FwCfgFile(name, file, string)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_files_of_one_name() -> None:
    file = FwCfgFile("opt/x", string="1")
    with pytest.raises(UserError, match="given twice"):
        option.argv([file, FwCfgFile("opt/x", string="2")])
    assert option.argv([file]) == file.argv


@given(NAMES.map(lambda name: ("opt/" + name)[:55]), st.text(min_size=1).filter(
    lambda text: "\0" not in text))
def test_what_is_built_can_be_parsed(name: str, string: str) -> None:
    if name.startswith(option.QEMUS_OWN):
        return
    file = FwCfgFile(name, string=string)
    assert option.parse(file.argv[1]) == file
    if "=" not in name:  # QEMU, too, would take it for another option then
        assert option.parse(file.argv[1].removeprefix("name=")) == file


@pytest.mark.parametrize("text", ["", "opt/x", "opt/x,gen_id=5", "name=opt/x,string=a,string=b",
                                  "opt/x,string=a,b", "opt/x,file=a,string=b"])
def test_what_is_no_option(text: str) -> None:
    with pytest.raises(UserError):
        option.parse(text)


@given(st.text())
def test_any_text_as_an_option(text: str) -> None:
    try:
        option.parse(text)
    except UserError:
        return
