"""What a firmware's name means: a whole one, one by its upstream version, or a glob of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase

from bootmatrix.errors import UserError

GLOB = re.compile(r"[*?\[]")
# What a packager adds to an upstream version begins so: 1.16.2-1, 2026.08+ds-2.
_PACKAGING = re.compile(r"[-+]")
_VERSIONED = re.compile(r".*-\d[\w.]*\.\w+([-+].*)?")
_SHOWN = 4


def means(name: str, whole: str) -> bool:
    """Whether a build called ``whole`` (``seabios-1.16.2-1``) is one that ``name`` stands for.

    That is its whole name, a glob, or its name up to and with the upstream version
    (``seabios-1.16.2``), which what a security update adds leaves alone.
    """
    if name == whole or fnmatchcase(whole, name):
        return True
    return (whole.startswith(name) and _VERSIONED.fullmatch(name) is not None
            and _PACKAGING.match(whole, len(name)) is not None)


def kind_of(whole: str, kinds: Iterable[str]) -> str:
    """The kind of a build: the longest name without a version that its name begins with."""
    return max((kind for kind in kinds if whole.startswith(f"{kind}-")), key=len, default="")


def could_be(name: str, kind: str) -> bool:
    """Whether some version of a kind could be what ``name`` stands for."""
    found = GLOB.search(name)
    plain = name[:found.start()] if found else name
    if found and f"{kind}-".startswith(plain):
        return True
    return re.match(rf"{re.escape(kind)}-(\d|\Z)", plain) is not None


def resolve(name: str, builds: Iterable[str], kinds: Iterable[str] = ()) -> str:
    """The whole name of the one build that is meant. Raises UserError for none and for several.

    ``kinds`` are what else a mistaken name may have been meant to be.
    """
    known = tuple(builds)
    if name in known:
        return name
    meant = [whole for whole in known if means(name, whole)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UserError(f"{name!r} could be {len(meant)} firmware builds", hint=_some(meant))
    near = get_close_matches(name, (*known, *kinds), n=3, cutoff=0.5)
    raise UserError(f"no such firmware build: {name!r}",
                    hint=f"near it: {', '.join(near)}" if near
                    else "`bootmatrix images list --json` has their names")


def _some(names: list[str]) -> str:
    left = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {left} more" if left > 0 else "")
