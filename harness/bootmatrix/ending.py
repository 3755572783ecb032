"""How a command ends that is asked to: as by Ctrl-C, with nothing left."""

from __future__ import annotations

import signal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals by which a command is asked to end."""


def end_tidily() -> None:
    """A closed terminal and a polite kill end the command as Ctrl-C does."""
    for number in ENDING:
        signal.signal(number, _end_once)


def _end_once(number: int, frame: object) -> None:
    """End as by Ctrl-C. Who asks again is heard already: what is left is to be tidied up."""
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
