"""Command lines as people paste them, to words."""

from __future__ import annotations

import pytest

from bootmatrix.arguments import NO_VALUE
from bootmatrix.vm.words import NoCommandLine, command_line, options, split


def test_a_log_of_libvirts_has_each_start_and_the_last_one_counts() -> None:
    log = ("2026-01-01: starting up libvirt version: 1\nHOME=/x \\\n"
           "/usr/bin/qemu-system-x86_64 \\\n"
           "-name a \\\n-m 1\n2026: shutting down\n"
           "2026-01-02: starting up libvirt version: 1\nHOME=/x \\\n"
           "/usr/bin/qemu-system-x86_64 \\\n"
           "-name 'b c' \\\n-m 2\nchar device redirected to /dev/pts/1\n")
    assert command_line(log) == ("/usr/bin/qemu-system-x86_64", ["-name", "b c", "-m", "2"])


def test_what_ps_says_has_lost_its_quotes_but_json_is_a_word() -> None:
    line = 'root 1 ? Sl 0:01 /usr/bin/kvm -device {"driver":"VGA","id":"a b"} -name My VM -S'
    assert command_line(line)[1] == ["-device", '{"driver":"VGA","id":"a b"}', "-name", "My", "VM",
                                     "-S"]


def test_a_script_has_variables_arrays_and_more_behind_the_command() -> None:
    script = ('#!/bin/sh\nDISK="a b.img"\nargs=(\n -m 64\n -smp 2\n)\n# qemu-system-x86_64 -no\n'
              'sudo qemu-system-x86_64 "${args[@]}" -hda "$DISK" -cdrom $OTHER >log 2>&1 &\n')
    assert command_line(script)[1] == ["-m", "64", "-smp", "2", "-hda", "a b.img", "-cdrom",
                                       "$OTHER", ">log"]


def test_lines_that_lost_their_backslashes() -> None:
    assert command_line("qemu-system-x86_64\n  -m 64\n  -smp 2\nbye\n")[1] == [
        "-m", "64", "-smp", "2"]


@pytest.mark.parametrize(("text", "says"), [
    ("", "no QEMU in it"), ("x qemu-img y", "no QEMU in it"),
    ("qemu-system-x86_64 -name 'a", "its quotes do not end"),
    ("kvm " + "a " * 5000, "more than 4096 words"), ("kvm " + "a" * 40000, "more than 32768"),
])
def test_what_is_no_command_line(text: str, says: str) -> None:
    with pytest.raises(NoCommandLine, match=says):
        command_line(text)


def test_json_that_is_none_is_a_word_as_others() -> None:
    assert split("{a} b") == ["{a}", "b"]
    assert len(split("[" * 100 + "{" * 3000)) == 1


def test_options_have_values_or_not() -> None:
    assert options(["-S", "-m", "64", "stray", "--usb", "-name"], NO_VALUE) == [
        ("S", ""), ("m", "64"), ("", "stray"), ("usb", ""), ("name", "")]
