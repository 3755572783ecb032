"""Who is at the other end of a socket: the program that it was made for, or another process."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_UCRED = struct.Struct("iII")  # struct ucred: pid, uid, gid


def peer(connection: socket.socket) -> int:
    """The process that connected, by its pid here; 0 if it cannot be seen from here.

    Not to be seen are the processes of a Docker engine whose socket was given to a container.
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid: int = _UCRED.unpack(credentials)[0]
    return pid


def descends(pid: int, ancestor: int) -> bool | None:
    """Whether a process is ``ancestor``, a pid in its own pid namespace, or one of its children.

    None if it has ended.
    """
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return None
        fields = dict(line.partition(":")[::2] for line in status.splitlines())
        pids = fields.get("NSpid", "").split()
        if len(pids) < 2:  # out of the sandbox: it was none of the program's
            return False
        if int(pids[-1]) == ancestor:
            return True
        pid = int(fields["PPid"])
        if not pid:
            return False
