"""The commands that build guests, and the cache of what they built."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bootmatrix.errors import ImageError
from bootmatrix.files.shipped import IMAGES

SECONDS = 300.0
"""How long one command may take."""

_PACKAGES = {
    "ld.lld": "lld", "clang-19": "clang-19 lld-19", "ld.lld-19": "lld-19", "llvm-objcopy": "llvm",
    "mformat": "mtools", "mmd": "mtools", "mcopy": "mtools", "sbsign": "sbsigntool",
}  # fmt: skip
_LINES = IMAGES / "guests" / "line.h"
_LABEL = re.compile(r"[A-Za-z0-9._-]{1,32}")


def check_label(label: str) -> None:
    """Raise ValueError for a label other than 1 to 32 letters, digits, ``.``, ``-`` and ``_``."""
    if not _LABEL.fullmatch(label):
        raise ValueError(f"no disk label: {label!r}")


def read(source: Path) -> bytes:
    """The content of a guest's source. Raises ImageError if it cannot be read."""
    try:
        return source.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read the guest's source: {error}") from error


def read_c(sources: Path) -> dict[str, bytes]:
    """The contents of a probe's sources by their names, with what all probes in C include."""
    files = (*sorted(sources.glob("*.*")), _LINES)
    return {path.name: read(path) for path in files}


def run(
    argv: Sequence[str],
    directory: Path,
    *,
    environment: Mapping[str, str] | None = None,
    about: str = "its input",
) -> None:
    """Run a command in ``directory``.

    ``about`` names what it works on. Raises ImageError when the command is missing, takes more
    than SECONDS, or refuses.
    """
    try:
        done = subprocess.run(
            argv,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            env=os.environ | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
    except FileNotFoundError as error:
        package = _PACKAGES.get(argv[0], argv[0])
        raise ImageError(
            f"{argv[0]} is not installed (apt-get install {package})", argv=argv
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{argv[0]} still ran after {SECONDS} s", argv=argv) from error
    if done.returncode != 0:
        raise ImageError(
            f"{argv[0]} refused {about}",
            argv=argv,
            status=done.returncode,
            tail=done.stdout.decode("utf-8", "replace"),
        )


def cached(
    cache: Path, name: str, content: Iterable[bytes], make: Callable[[Path], Path]
) -> Path:
    """The image ``name`` of this ``content`` in ``cache``, made first if it is not there.

    It is also made where it is no longer what was made. ``make`` is given an empty directory and
    returns the image that it made there. Any number of processes may ask at once: each image
    comes to its place in one step, and whole.
    """
    parts = b"".join(hashlib.sha256(part).digest() for part in content)
    image = cache / f"{name}-{hashlib.sha256(parts).hexdigest()[:16]}.img"
    if not is_intact(image):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".guest-", dir=cache) as scratch:
            made = make(Path(scratch))
            digest = Path(scratch, "sha256")
            digest.write_text(_sha256(made))
            # Its digest first: what is between the two is made once more, and no damage is missed.
            digest.replace(_digest_file(image))
            made.replace(image)
    return image


_intact: set[tuple[Path, int]] = set()
"""Images that this process has read, with the time of their last change."""


def is_intact(image: Path) -> bool:
    """Whether an image is there, and what was made; it is read if it has changed since."""
    try:
        seen = image, image.stat().st_ctime_ns
        if seen in _intact:
            return True
        if _digest_file(image).read_text() != _sha256(image):
            return False
    except (OSError, UnicodeDecodeError):
        return False
    _intact.add(seen)
    return True


def _digest_file(image: Path) -> Path:
    return image.with_suffix(".sha256")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
