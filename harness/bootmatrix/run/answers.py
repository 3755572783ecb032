"""What was seen when a step was waited for with patience, kept in files: of one run, and of all.

An answer's name is a hash over everything that takes part in it, so it never has to be changed.
A file that is damaged is one that is not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bootmatrix.files import given_file
from bootmatrix.records.jsonl import LONGEST_LINE
from bootmatrix.witnesses.observation import StepObserved

Seen = tuple[StepObserved, ...]


@cache
def as_data() -> TypeAdapter[Seen]:
    """What was seen to data, and back."""
    return TypeAdapter(Seen)  # which takes long to make


def read(directory: Path, key: str) -> Seen | None:
    """The answer of this name; None where there is none that is whole."""
    try:
        content = given_file.read(directory / f"{key}.json", LONGEST_LINE)
    except given_file.Unreadable:  # or it is not there
        return None
    digest, _, text = content.partition(b"\n")
    if digest.decode("ascii", "replace") != hashlib.sha256(text).hexdigest():
        return None
    try:
        return as_data().validate_json(text)
    except ValidationError:  # of another version
        return None


def write(directory: Path, key: str, seen: Sequence[StepObserved]) -> None:
    """Keep an answer, in one step."""
    text = as_data().dump_json(tuple(seen))
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".", delete=False) as new:
        new.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    Path(new.name).chmod(0o644)
    Path(new.name).replace(directory / f"{key}.json")


def lock(directory: Path, key: str, *, wait: bool) -> int | None:
    """Hold the right to find an answer, until the descriptor is closed or its process ends.

    None: another has it, and it is not to be waited for.
    """
    directory.mkdir(parents=True, exist_ok=True)
    held = os.open(directory / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(held)
        return None
    except BaseException:
        os.close(held)
        raise
    return held


@contextlib.contextmanager
def held(descriptor: int) -> Iterator[None]:
    """Let go of a lock at the end."""
    try:
        yield
    finally:
        os.close(descriptor)
