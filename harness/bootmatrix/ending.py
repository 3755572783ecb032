"""How a command ends that is asked to: as by Ctrl-C, with nothing left."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals by which a command is asked to end."""


# It is asked for again after so long where Python has ignored it; what ignores it is over by then.
_AGAIN_SECONDS = 0.02
_asked = False
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, <linux/prctl.h>
# Who waits for longer than this is told that the end is on its way.
_SILENT_SECONDS = 2.0


def end_tidily() -> None:
    """A closed terminal and a polite kill end the command as Ctrl-C does."""
    for number in ENDING:
        signal.signal(number, _end_once)
    insist()


def insist() -> None:
    """Ask again for an end that came where Python ignores exceptions: in a callback of C code's.

    Whoever else takes what is ignored (sys.unraisablehook), as pytest does, needs this after it.
    Where another has the handlers (``end_tidily`` was not called), they stay what they are.
    """
    others = sys.unraisablehook

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        if ignored.exc_type is not KeyboardInterrupt:
            others(ignored)
            return
        while True:
            try:
                for number in ENDING if _asked else ():
                    signal.signal(number, _end_once)
                _later(_AGAIN_SECONDS, os.kill, os.getpid(), signal.SIGINT)
                return
            except KeyboardInterrupt:  # a busy machine: it comes here, where it is ignored, too
                continue

    sys.unraisablehook = hook


def _later(seconds: float, function: Callable[..., object], *arguments: object) -> None:
    import threading  # which would keep the handlers from standing for a third longer

    timer = threading.Timer(seconds, function, arguments)
    timer.daemon = True
    with suppress(RuntimeError):  # Python itself is about to end
        timer.start()


def _tell() -> None:
    with suppress(OSError):
        os.write(2, b"bootmatrix: ending what runs ...\n")


def at_end_of_parent(number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent ends, however that ends.

    A parent that has ended before is seen by getppid(2), where anybody asks.
    """
    import ctypes  # few need it

    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, number, 0, 0, 0)


def asked_to_end() -> bool:
    """Whether an end was asked for: what goes wrong after that is taken to come of it.

    Libraries make other exceptions of the interrupt, and have them of what it left open.
    """
    return _asked


def ended() -> None:
    """Nothing is left to be ended: as Python ends itself it would die of a signal."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def finishing() -> Iterator[None]:
    """All is done but for telling it: to ask for an end is to ask for what comes anyway.

    Who asks again does not want to be told, and is heard as ever.
    """
    before = {number: signal.getsignal(number) for number in ENDING}

    def restore(*_: object) -> None:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    for number in ENDING:
        signal.signal(number, restore)
    try:
        yield
    finally:
        restore()


def _end_once(number: int, frame: object) -> None:
    """End as by Ctrl-C. Who asks again is heard already: what is left is to be tidied up."""
    global _asked  # of the process: signals are
    _asked = True
    _later(_SILENT_SECONDS, _tell)
    for ending in ENDING:
        signal.signal(ending, _heard)
    # Python complains of one that is on its way when it comes to be ignored: those are heard first.
    signal.raise_signal(signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    for ending in ENDING:
        signal.signal(ending, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    raise KeyboardInterrupt


def _heard(number: int, frame: object) -> None:
    """Nothing more is to be done."""
