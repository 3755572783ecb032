"""Command lines as people paste them, to words."""

from __future__ import annotations

import pytest

from bootmatrix.arguments import NO_VALUE
from bootmatrix.vm.words import COMMENT, NoCommandLine, command_line, options, split


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


def test_a_variable_that_is_set_again_is_not_guessed() -> None:
    for again in ('OPTS="$OPTS -device usb-mouse"', 'OPTS+=" -usb"', "OPTS=(-usb)"):
        _, found = command_line(f'OPTS="-m 1"\n{again}\nqemu-system-x86_64 $OPTS -S\n')
        assert found == ["$OPTS", "-S"], again


@pytest.mark.parametrize("again", [
    'if [ "$1" = big ]; then MEM=1024; fi', "if x\nthen\n  MEM=1\nfi", "[ x ] || MEM=1", "read MEM",
    "for MEM in 1 2; do :; done", "(( MEM += 1 ))", ": ${MEM:=3}", "A=3; MEM=1", "unset MEM",
    "x && {\n  a\n  MEM=1\n}", "export A=1 MEM=2"])
def test_a_variable_that_something_else_may_set_is_not_guessed(again: str) -> None:
    assert command_line(f"MEM=512\n{again}\nkvm -m $MEM")[1] == ["-m", "$MEM"]


@pytest.mark.parametrize("script", [
    "[ x ] &&\n  MEM=1\nkvm -m $MEM", "if x; then\n  MEM=1\nfi\nkvm -m $MEM"])
def test_a_variable_that_may_not_be_set_is_not_guessed(script: str) -> None:
    assert command_line(script)[1] == ["-m", "$MEM"]


def test_what_only_looks_as_if_it_set_a_variable() -> None:
    script = 'file=a.img\nOPTS="-S -drive file=$file"\necho "file=b"\nkvm -drive file=$file $OPTS'
    assert command_line(script)[1] == ["-drive", "file=a.img", "-S", "-drive", "file=a.img"]


def test_other_qemus_in_a_text_are_told() -> None:
    _, found = command_line("if x; then\n  kvm -m 1\nelse\n  kvm -m 2\nfi\n")
    assert options(found, NO_VALUE) == [("m", "2"), (COMMENT, "kvm -m 1")]


@pytest.mark.parametrize("below", [
    "With the old qemu it works", "no difference with kvm", "-cpu host and -accel kvm -smp 2 hang"])
def test_prose_around_a_command_line_is_not_taken_for_one(below: str) -> None:
    text = f"It hangs in qemu 10:\n\nqemu-system-aarch64 -M virt\n\n{below}\n"
    program, found = command_line(text)
    assert program == "qemu-system-aarch64"
    assert options(found, NO_VALUE)[0] == ("M", "virt")
    told = [text for name, text in options(found, NO_VALUE)[1:] if name == COMMENT]
    assert told[0] == "It hangs in qemu 10:"


def test_the_user_that_ps_names_is_no_program() -> None:
    line = "qemu  4312  9.1 ?  Sl 1:00 /usr/bin/qemu-system-aarch64 -M virt"
    assert command_line(line) == ("/usr/bin/qemu-system-aarch64", ["-M", "virt"])


def test_a_comment_is_told_and_never_an_option() -> None:
    script = ("# kvm -no\nargs=(\n  -m 512 # (it's much)\n  # -smp 4\n  -device virtio-rng-pci\n)\n"
              'A=1 # one\nkvm "${args[@]}" -name "a # b" -append x#$A # -device e1000\n')
    assert options(command_line(script)[1], NO_VALUE) == [
        ("m", "512"), (COMMENT, "# (it's much)"), (COMMENT, "# -smp 4"),
        ("device", "virtio-rng-pci"), ("name", "a # b"), ("append", "x#1"),
        (COMMENT, "# -device e1000")]
    ((name, told),) = options(command_line("kvm \\\n # -smp 4 \\\n -m 3\n")[1], NO_VALUE)
    assert name == COMMENT
    assert "-smp 4" in told
    assert "the command ends there" in told


def test_what_looks_for_a_qemu_is_none() -> None:
    assert command_line("root 1 kvm -m 5\nroot 2 grep --color=auto kvm\nwhich qemu-kvm\n")[1] == [
        "-m", "5"]


def test_what_a_command_would_say_is_one_word() -> None:
    assert command_line("kvm -smp $(nproc --all) -m `a b` -name ${X:-a b}; ls")[1] == [
        "-smp", "$(nproc --all)", "-m", "`a b`", "-name", "${X:-a b}"]


def test_what_stands_behind_the_command_is_told_where_it_may_be_an_option() -> None:
    assert options(command_line("kvm -name 'a;' -append x; y -m 3 # z")[1], NO_VALUE) == [
        ("name", "a;"), ("append", "x"), (COMMENT, "; y -m 3 #")]


def test_every_option_without_a_value_is_known() -> None:
    """Of those of QEMU 5.2, 7.2, 10.0 and 11.1: asked with -version behind each."""
    for name in ("async-teardown", "perfmap", "jitdump", "enable-fips", "no-hpet"):
        assert options([f"-{name}", "-m", "1"], NO_VALUE) == [(name, ""), ("m", "1")]


@pytest.mark.parametrize("text", [
    "kvm " + "{ " * 4000 + "x" * 900_000 + "'", "kvm " + '{"a":[1, ' * 4000 + "'",
    "if " * 100_000 + "\nkvm '", '"\\' * 100_000 + "\nkvm '", " #" * 100_000 + "\nkvm '",
    "A=(\n" * 50_000 + "kvm '", "&& {" * 50_000 + "\nkvm '"],
    ids=["braces", "json", "if", "quotes", "comments", "arrays", "groups"])
def test_no_text_takes_long_to_be_refused(text: str) -> None:
    with pytest.raises(NoCommandLine, match=r"quotes do not end|more than"):
        command_line(text)


@pytest.mark.parametrize("text", [
    "\n" * 400_000 + "qemu-system-x86_64 -S", "a=(\n" * 100_000 + "qemu-system-x86_64 -S",
    "b=(" + " " * 500_000 + "\nqemu-system-x86_64 -S"], ids=["lines", "arrays", "blanks"])
def test_no_text_takes_long(text: str) -> None:
    assert command_line(text)[1] == ["-S"]


def test_no_text_becomes_longer_than_a_file() -> None:
    text = f"a={'x' * 300_000}\nqemu-system-x86_64 -name {'$a ' * 100_000}\n"
    with pytest.raises(NoCommandLine, match="too long a line"):
        command_line(text)


def test_lines_that_lost_their_backslashes() -> None:
    assert command_line("qemu-system-x86_64\n  -m 64\n  -smp 2\nbye\n")[1] == [
        "-m", "64", "-smp", "2"]


@pytest.mark.parametrize(("text", "says"), [
    ("", "no QEMU in it"), ("x qemu-img y", "no QEMU in it"),
    ("this is not qemu", "no QEMU in it"),
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
