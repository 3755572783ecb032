"""The filter of system calls, run as the kernel would run it (linux/filter.h)."""

from __future__ import annotations

import errno
import struct

import pytest

from bootmatrix.engines.seccomp import bpf

X86_64, ALLOWED = 0xC000003E, 0x7FFF0000


def answer(number: int, *arguments: int, arch: int = X86_64, memfd: bool = False) -> int:
    """What the filter says to a system call."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    program = list(struct.iter_unpack("=HBBI", bpf(memfd=memfd)))
    assert len(program) < 4096, "the kernel takes no more"
    register, at = 0, 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            (register,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:  # BPF_RET | BPF_K
            return int(value)
        else:
            holds = {0x15: register == value, 0x35: register >= value,
                     0x45: bool(register & value)}[code]
            at += if_true if holds else if_false


def refused(with_error: int) -> int:
    return 0x00050000 | with_error


@pytest.mark.parametrize(("number", "arguments"), [
    (0, ()), (59, ()), (56, (0x11,)), (16, (0, 0x5401)), (41, (1,)), (41, (2,)), (41, (16,)),
    (135, (0,)), (135, (0xFFFFFFFF,)), (72, (0, 1)), (462, ()),
])
def test_what_programs_do_is_allowed(number: int, arguments: tuple[int, ...]) -> None:
    assert answer(number, *arguments) == ALLOWED


@pytest.mark.parametrize(("number", "arguments", "error"), [
    (101, (), errno.EPERM), (165, (), errno.EPERM), (319, (), errno.EPERM), (321, (), errno.EPERM),
    (56, (0x10000000,), errno.EPERM), (56, (0x00020000,), errno.EPERM),  # new namespaces
    (16, (0, 0x5412), errno.EPERM), (16, (0, 0x541C), errno.EPERM),  # typing into a terminal
    (72, (0, 1024), errno.EPERM),  # a lease
    (41, (40,), errno.EAFNOSUPPORT), (41, (17,), errno.EAFNOSUPPORT),
    (135, (0x0040000,), errno.EPERM),
    (435, (), errno.ENOSYS), (463, (), errno.ENOSYS), (9999, (), errno.ENOSYS),
])
def test_what_is_refused_or_not_there(
    number: int, arguments: tuple[int, ...], error: int
) -> None:
    assert answer(number, *arguments) == refused(error)


def test_files_in_memory_where_a_guest_has_its_own_there() -> None:
    assert answer(319, memfd=True) == ALLOWED
    assert answer(447, memfd=True) == answer(318 + 129) == refused(errno.EPERM)


def test_another_architecture_has_no_calls() -> None:
    assert answer(0, arch=0x40000003) == refused(errno.ENOSYS)
    assert answer(0x40000000) == refused(errno.ENOSYS), "x32"


def test_files_in_memory_where_they_are_granted() -> None:
    assert answer(319, memfd=True) == ALLOWED
    assert answer(447, memfd=True) == refused(errno.EPERM), "secret ones never"
    assert answer(323, memfd=True) == refused(errno.EPERM), "nor userfaultfd"
