"""The names of a git repository's tags, read where git keeps them (gitrepository-layout(5)).

What needs git itself is bootmatrix.builds.repository's business.
"""

from __future__ import annotations

import os
from pathlib import Path

from bootmatrix.errors import UserError
from bootmatrix.files import given_file

_LARGEST = 64 << 20
_MOST = 100_000
_PREFIX = "refs/tags/"


def names(repository: Path) -> list[str]:
    """All of them, in no order that means anything. Raises UserError for no repository."""
    home = _home(repository)
    found: dict[str, None] = {}
    for line in _read(home / "packed-refs").splitlines():
        name = line.partition(" ")[2]
        if name.startswith(_PREFIX):
            found[name.removeprefix(_PREFIX)] = None
    loose = home / _PREFIX
    for place, _, files in os.walk(loose):
        for file in files:
            found[(Path(place) / file).relative_to(loose).as_posix()] = None
        if len(found) > _MOST:
            break
    return list(found)


def _home(repository: Path) -> Path:
    """The directory that holds a repository's references: with worktrees, the common one."""
    home = repository / ".git"
    if home.is_file():  # a worktree, or a submodule
        home = repository / _read(home).removeprefix("gitdir:").strip()
    elif not home.is_dir():
        home = repository
    if common := _read(home / "commondir").strip():
        home /= common
    if not (home / "HEAD").is_file() or not (home / "objects").is_dir():
        what = "is no git repository" if repository.exists() else "is not there"
        raise UserError(f"{repository} {what}", hint="a clone, with its .git")
    if (home / "reftable").is_dir():
        raise UserError(f"{repository} keeps its tags in reftables, which are not read here",
                        hint="name the revisions in a list")
    return home


def _read(file: Path) -> str:
    try:
        return given_file.read(file, _LARGEST).decode(errors="replace")
    except given_file.Missing:
        return ""
    except given_file.Unreadable as error:
        raise UserError(f"{file} {error}") from None
