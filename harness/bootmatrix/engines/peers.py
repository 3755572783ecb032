"""Who is at the other end of a socket: the program that it was made for, or another process."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from pathlib import Path

_UCRED = struct.Struct("iII")  # struct ucred: pid, uid, gid
_SO_PEERPIDFD = 77  # Linux 6.5 (include/uapi/asm-generic/socket.h); Python has no name for it
_INT = struct.Struct("i")


def peer(connection: socket.socket) -> int:
    """The process that connected, by its pid here; 0 if it cannot be seen from here.

    Not to be seen are the processes of a Docker engine whose socket was given to a container.
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid: int = _UCRED.unpack(credentials)[0]
    return pid


def hold(connection: socket.socket) -> int | None:
    """A pidfd (pidfd_open(2)) of the process that connected: no other can come to be what it names.

    The caller closes it. None where this host gives none. Raises ProcessLookupError if the process
    has ended.
    """
    try:
        answer = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, _INT.size)
        found: int = _INT.unpack(answer)[0]
        return found
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise ProcessLookupError(*error.args) from None
    try:  # an older kernel: by its number, which is its own as long as it has not ended
        return os.pidfd_open(peer(connection))
    except ProcessLookupError:
        raise
    except OSError:
        return None


def lives(process: int) -> bool:
    """Whether a process runs, by its pidfd."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return not poll.poll(0)


def descends(pid: int, ancestor: int, namespace: int) -> bool | None:
    """Whether a process is ``ancestor``, a pid in the pid ``namespace``, or one of its children.

    The namespace is told by its inode (namespaces(7)): the same pids are in each. False also where
    nobody is told which namespace a process is in. None if it has ended.
    """
    while True:
        process = Path(f"/proc/{pid}")
        try:
            # Its name may be no text.
            status = (process / "status").read_bytes().decode("ascii", "replace")
            its_own = (process / "ns/pid").stat().st_ino
        except PermissionError:
            return False
        except OSError:
            return None
        fields = dict(line.partition(":")[::2] for line in status.splitlines())
        pids = fields.get("NSpid", "").split()
        if len(pids) < 2:  # out of the sandbox: it was none of the program's
            return False
        if its_own == namespace and int(pids[-1]) == ancestor:
            return True
        pid = int(fields["PPid"])
        if not pid:
            return False
