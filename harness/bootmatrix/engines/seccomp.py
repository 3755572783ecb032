"""The system calls that programs in a bubblewrap cannot make, as a filter for the kernel.

It has the effect of Docker's default profile for a container without capabilities: no new
namespaces, mounts, modules, keys, tracing; of sockets only those that QEMU uses. Beyond that it
refuses what would outlive its process: System V objects and message queues; and, where they are not
granted, files in memory, which no limit of a process's counts; and leases on files, for which
whoever opens them waits. A call that is newer than this list is not there. Formats: Linux's
linux/filter.h, linux/seccomp.h, linux/audit.h.
"""

from __future__ import annotations

import errno
import struct

_ARCH_X86_64 = 0xC000003E
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

_NEWER = 463  # mseal, of Linux 6.10, is 462
_CLONE, _CLONE3, _IOCTL, _SOCKET, _PERSONALITY, _FCNTL = 56, 435, 16, 41, 135, 72

_FORBIDDEN = {
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "pidfd_getfd": 438, "process_madvise": 440, "process_mrelease": 448,
    "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "mount_setattr": 442, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "init_module": 175, "finit_module": 313, "delete_module": 176, "create_module": 174,
    "query_module": 178, "get_kernel_syms": 177, "kexec_load": 246, "kexec_file_load": 320,
    "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163, "quotactl": 179,
    "quotactl_fd": 443, "nfsservctl": 180, "syslog": 103, "vhangup": 153, "uselib": 134,
    "_sysctl": 156, "sysfs": 139, "ustat": 136, "lookup_dcookie": 212, "iopl": 172, "ioperm": 173,
    "modify_ldt": 154, "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305,
    "adjtimex": 159, "sethostname": 170, "setdomainname": 171,
    "add_key": 248, "request_key": 249, "keyctl": 250,
    "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "fanotify_init": 300,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "migrate_pages": 256,
    "move_pages": 279, "set_mempolicy_home_node": 450,
    "shmget": 29, "shmat": 30, "shmctl": 31, "shmdt": 67, "semget": 64, "semop": 65, "semctl": 66,
    "semtimedop": 220, "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71,
    "mq_open": 240, "mq_unlink": 241, "memfd_create": 319, "memfd_secret": 447,
}  # fmt: skip
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW* of linux/sched.h
_FAMILIES = (1, 2, 10, 16)  # unix, inet, inet6, netlink
_TYPE_INTO_TERMINAL = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_SET_LEASE = 1024
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)  # the usual, and a question


def bpf(*, memfd: bool = False) -> bytes:
    """The filter, as an array of ``struct sock_filter``; bubblewrap takes it by --seccomp.

    With ``memfd`` files in memory can be made, as some guests have theirs in.
    """
    forbidden = {number for name, number in _FORBIDDEN.items()
                 if not (memfd and name == "memfd_create")}
    refuse, absent = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    return b"".join((
        _op(_LOAD, _ARCH), *_unless(_EQUAL, _ARCH_X86_64, absent),
        _op(_LOAD, _NUMBER), *_if(_AT_LEAST, _NEWER, absent),
        # Its flags are in memory, where a filter cannot look; without it libraries take clone.
        *_if(_EQUAL, _CLONE3, absent),
        *(op for number in sorted(forbidden) for op in _if(_EQUAL, number, refuse)),
        *_argument(_CLONE, 0, *_if(_ANY_BIT, _NEW_NAMESPACES, refuse)),
        *_argument(_IOCTL, 1, *(op for request in _TYPE_INTO_TERMINAL
                                for op in _if(_EQUAL, request, refuse))),
        *_argument(_FCNTL, 1, *_if(_EQUAL, _SET_LEASE, refuse)),
        *_argument(_SOCKET, 0, *_only(_FAMILIES, _ERRNO | errno.EAFNOSUPPORT)),
        *_argument(_PERSONALITY, 0, *_only(_PERSONALITIES, refuse)),
        _op(_RETURN, _ALLOW),
    ))  # fmt: skip


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _if(test: int, value: int, answer: int) -> tuple[bytes, ...]:
    return _op(test, value, 0, 1), _op(_RETURN, answer)


def _unless(test: int, value: int, answer: int) -> tuple[bytes, ...]:
    return _op(test, value, 1, 0), _op(_RETURN, answer)


def _only(values: tuple[int, ...], answer: int) -> tuple[bytes, ...]:
    allowed = (op for value in values for op in _if(_EQUAL, value, _ALLOW))
    return *allowed, _op(_RETURN, answer)


def _argument(number: int, index: int, *tests: bytes) -> tuple[bytes, ...]:
    """Tests on the lower half of an argument of one system call; all others jump over them."""
    return (_op(_EQUAL, number, 0, len(tests) + 2), _op(_LOAD, _ARGUMENTS + 8 * index),
            *tests, _op(_RETURN, _ALLOW))
