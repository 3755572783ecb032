"""Guest disks, assembled from the sources in images/guests and cached by content."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

from harness.errors import ImageError

PROBE_SOURCE = Path(__file__).parent.parent / "images" / "guests" / "probe.asm"
DISK_SIZE = 1_474_560
"""Bytes of a 1.44M floppy: the one size that serves as floppy and as any other disk."""

_LABEL = re.compile(r"[A-Za-z0-9._-]{1,32}")
_NASM_SECONDS = 30.0


def probe_disk(label: str, cache: Path, *, source: Path = PROBE_SOURCE) -> Path:
    """The path of the probe guest's disk image, assembled first if ``cache`` lacks it.

    ``label`` is the text by which the guest names its disk. The image is raw, sparse, DISK_SIZE
    bytes, and shared by all who ask: a QEMU that may write gets a copy. Any number of processes
    may build at once. Raises ImageError when nasm is missing or refuses the source, ValueError
    for a label other than 1 to 32 letters, digits, dots, dashes and underscores.
    """
    if not _LABEL.fullmatch(label):
        raise ValueError(f"no disk label: {label!r}")
    arguments = ["-f", "bin", "-Wall", f"-DLABEL='{label}'"]
    try:
        code = source.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read the guest's source: {error}") from error
    key = hashlib.sha256(b"\0".join([code, label.encode(), *map(str.encode, arguments)]))
    image = cache / f"probe-{label}-{key.hexdigest()[:16]}.img"
    if not image.exists():
        _assemble(code, source.name, arguments, image)
    return image


def _assemble(code: bytes, name: str, arguments: list[str], image: Path) -> None:
    """Build ``image`` beside its final place, and put it there in one step."""
    image.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".probe-", dir=image.parent) as scratch:
        built = Path(scratch, "disk.img")
        Path(scratch, name).write_bytes(code)
        argv = ["nasm", *arguments, "-o", built.name, name]
        try:
            run = subprocess.run(
                argv,
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_NASM_SECONDS,
            )
        except FileNotFoundError as error:
            raise ImageError("the assembler nasm is not installed", argv=argv) from error
        except subprocess.TimeoutExpired as error:
            raise ImageError(f"nasm still ran after {_NASM_SECONDS} s", argv=argv) from error
        if run.returncode != 0:
            raise ImageError(
                f"nasm refused {name}", argv=argv, status=run.returncode, tail=run.stderr
            )
        if built.stat().st_size > DISK_SIZE:
            raise ImageError(f"{name} makes more than {DISK_SIZE} bytes", argv=argv)
        os.truncate(built, DISK_SIZE)
        built.replace(image)
