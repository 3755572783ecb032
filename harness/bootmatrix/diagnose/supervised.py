"""A command of the user's, run so that nothing of it outlives its owner, however that ends.

Between the two stands a supervisor: this file, run as a program. It holds the end of a pipe whose
other end only the owner has, so the kernel tells it when the owner is gone, even by SIGKILL. It
is the subreaper of all that the command starts: what makes itself a daemon becomes its child.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import select
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, <linux/prctl.h>
_NOT_RUN = 127
OUTPUT_BYTES = 64 << 10
"""Bytes that are kept of what a command says on either of its outputs."""
_CHUNK = 64 << 10


def run(argv: Sequence[str], complaints: IO[bytes]) -> tuple[int, bytes]:
    """Run a command to its end: its exit status, as a shell has it, and its standard output.

    Its standard input is empty, its standard error goes to ``complaints``, a file that can be
    read as well, as it comes. Of both the end is kept. Whatever it started, in the background
    too, has ended with it.
    """
    output = io.BytesIO()
    lifeline, held = os.pipe()
    try:
        with subprocess.Popen(
            [sys.executable, "-IS", __file__, str(lifeline), *argv], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(lifeline,),
            start_new_session=True,
        ) as supervisor:
            assert supervisor.stdout is not None
            assert supervisor.stderr is not None
            try:
                _keep_the_end(supervisor.pid, {
                    supervisor.stdout.fileno(): output, supervisor.stderr.fileno(): complaints})
            finally:
                os.close(held)  # and so all of it ends
                held = -1
                supervisor.wait()  # leaving the block would not, after a KeyboardInterrupt
    finally:
        os.close(lifeline)
        if held != -1:
            os.close(held)
    return supervisor.returncode, output.getvalue()


def _keep_the_end(pid: int, files: Mapping[int, IO[bytes]]) -> None:
    """Take what a process says on these descriptors until it has ended; of each the last KEPT."""
    ended = os.pidfd_open(pid)
    try:
        with selectors.DefaultSelector() as selector:
            for fd in (ended, *files):
                selector.register(fd, selectors.EVENT_READ)
            over = False
            while True:
                ready = [key.fd for key, _ in selector.select(0 if over else None)]
                said = [fd for fd in ready if fd != ended]
                if over and not said:  # whoever still holds the other end has outlived it
                    break
                over = ended in ready
                for fd in said:
                    data = os.read(fd, _CHUNK)
                    if data:
                        _append(files[fd], data)
                    else:
                        selector.unregister(fd)
    finally:
        os.close(ended)
    for file in files.values():
        _cut(file)


def _append(file: IO[bytes], data: bytes) -> None:
    file.write(data)
    if file.tell() > 2 * OUTPUT_BYTES:  # seldom: each time what is kept is written anew
        _cut(file)
    file.flush()


def _cut(file: IO[bytes]) -> None:
    """Leave the last OUTPUT_BYTES in it."""
    if file.tell() > OUTPUT_BYTES:
        file.seek(-OUTPUT_BYTES, os.SEEK_END)
        end = file.read()
        file.seek(0)
        file.truncate()
        file.write(end)


def _supervise(lifeline: int, argv: Sequence[str]) -> int:
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
    # Only its owner's end ends it. A handler, unlike SIG_IGN, is not handed on to the command.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)
    try:
        command = subprocess.Popen(argv, start_new_session=True)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201  # a file
        return _NOT_RUN
    try:
        ended = os.pidfd_open(command.pid)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(lifeline, 0)  # end of file is always reported
        poll.poll()
        status = command.poll()
    finally:
        _end_all()
    if status is None:  # the owner is gone: nobody asks
        return _NOT_RUN
    return 128 - status if status < 0 else status


def _end_all() -> None:
    """Kill all children, and theirs, who become ours when their parents die."""
    while children := _children():
        mine = [pid for pid in children if _killed(pid)]
        for pid in mine:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if not mine:  # of another user's, such as what sudo started
            return


def _killed(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:
        return False
    except ProcessLookupError:
        pass
    return True


def _children() -> list[int]:
    found, me = [], os.getpid()
    for process in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, can hold anything; after it: state, parent.
            fields = process.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == me:
                found.append(int(process.parent.name))
    return found


if __name__ == "__main__":
    sys.exit(_supervise(int(sys.argv[1]), sys.argv[2:]))
