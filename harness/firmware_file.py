"""Whether a file can be an x86 firmware image, decided by the image alone."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError
from harness.model import Interface

PAGE = 4096
"""An image's size is a multiple of this many bytes: QEMU maps flash in pages."""

LARGEST = 16 << 20
"""Bytes of the window below 4 GiB that x86 chipsets decode as firmware."""

# The processor's first instruction is fetched 16 bytes below the end of the image (Intel SDM,
# volume 3, "First Instruction Executed"). So few bytes have room for a jump, and for little else.
_RESET_VECTOR = 16
_JUMPS = (0xE9, 0xEA, 0xEB)
_BEFORE = (b"\x90", b"\xfa", b"\xfc", b"\x66", b"\x0f\x09")  # nop, cli, cld, 32-bit prefix, wbinvd

# "_FVH" in the header of a UEFI firmware volume (PI specification, volume 3, 3.2.1).
_VOLUME_SIGNATURE = slice(40, 44)


def read(path: Path) -> bytes:
    """The bytes of a firmware image. Raises UserError, without a place, for what is none."""
    try:
        if path.is_dir():
            raise UserError(f"{path} is a directory",
                            hint="an image, or {directory: ...} for all images in it")
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError(f"{path} has {size} bytes", hint=f"at most {LARGEST} are mapped")
        image = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is not there", hint="the file of a firmware image") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if not image:
        raise UserError(f"{path} is empty", hint="the file of a firmware image")
    if len(image) % PAGE:
        raise UserError(f"{path} has {len(image)} bytes",
                        hint=f"a firmware image has a multiple of {PAGE}")
    if not _jumps(image[-_RESET_VECTOR:]):
        raise UserError(f"{path} is no firmware: it has no jump at the reset vector, "
                        f"{_RESET_VECTOR} bytes before its end",
                        hint=f"found {image[-_RESET_VECTOR:].hex(' ')}")
    return image


def interface(image: bytes) -> Interface:
    """What the image offers to the guest: UEFI where it begins with a firmware volume."""
    return Interface.UEFI if image[_VOLUME_SIGNATURE] == b"_FVH" else Interface.BIOS


def _jumps(code: bytes) -> bool:
    while prefix := next((before for before in _BEFORE if code.startswith(before)), None):
        code = code[len(prefix):]
    return bool(code) and code[0] in _JUMPS
