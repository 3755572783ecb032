"""Whether files can be a firmware, decided by their bytes and by a descriptor, if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bootmatrix.boards import ARCHITECTURES
from bootmatrix.errors import PartError, UserError
from bootmatrix.files import disk_image, given_file
from bootmatrix.firmware import descriptor, edk2, symbols
from bootmatrix.model import Arch, FirmwareSource, Interface

PAGE = 4096
"""An image's size is a multiple of this many bytes: QEMU maps flash in pages."""

# The processor's first instruction is fetched 16 bytes below the end of the image (Intel SDM,
# volume 3, "First Instruction Executed"). So few bytes have room for a jump, and for little else.
_RESET_VECTOR = 16
_JUMPS = (0xE9, 0xEA, 0xEB)
_BEFORE = (
    b"\x90", b"\xfa", b"\xfc", b"\x66", b"\x0f\x09",  # nop, cli, cld, 32-bit prefix, wbinvd
    b"\x0f\x20\xc0\xa8\x01\x74\x05",  # edk2 since 2023: by the mode, one of two jumps
)


@dataclass(frozen=True)
class Firmware:
    """A firmware as its files hold it; ``variables`` None where it has no template for them.

    ``in_flash``: UEFI firmware that is not is given by ``-bios``, and has no variable store.
    ``symbols`` is the content of a file with its symbols, if one was given.
    """

    file: Path
    image: bytes
    interface: Interface
    variables: bytes | None = None
    machines: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    symbols: bytes | None = None
    in_flash: bool = True

    @property
    def store_size(self) -> int:
        """The bytes of the variable store that a combined image begins with."""
        return edk2.store_size(self.image) if self.variables is None else 0


def load(source: FirmwareSource, arch: Arch = Arch.X86_64) -> Firmware:
    """Read a firmware. Raises UserError, without a place, for what is none."""
    if source.descriptor:
        return _described(source.path, arch)
    image = read(source.path, arch)
    found = interface(image)
    named = None
    if source.symbols is not None:
        with _part("symbols"):
            named = symbols.checked(source.symbols)
    if source.variables is not None:
        if found is not Interface.UEFI:
            raise UserError(f"{source.path} is no UEFI firmware", hint="it has no variables")
        with _part("variables"):
            variables = read_variables(source.variables, arch)
        return Firmware(source.path, image, found, variables, symbols=named)
    firmware = Firmware(source.path, image, found, symbols=named, in_flash=source.flash)
    if found is Interface.UEFI and source.flash and not firmware.store_size:
        raise UserError(f"{source.path} is code alone, without a variable store",
                        hint="{path: CODE.fd, variables: VARS.fd}, or, for -bios and no store, "
                        "{path: CODE.fd, flash: false}")
    return firmware


@contextmanager
def _part(key: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise PartError(str(error), key) from None


def _described(file: Path, arch: Arch) -> Firmware:
    text = _bytes(file, "a firmware descriptor")
    try:
        said = descriptor.parse(text.decode(), arch)
    except UnicodeDecodeError:
        raise UserError(f"{file} is no text", hint="a firmware descriptor, in JSON") from None
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    try:
        # An absolute name stays what it is.
        image = file.parent / said.executable
        return Firmware(
            image, read(image, arch, said.form), said.interface,
            read_variables(file.parent / said.variables, arch, said.variables_form)
            if said.variables else None,
            said.machines, said.features, in_flash=said.in_flash,
        )
    except UserError as error:
        raise UserError(f"{error}, says {file}") from None


def read(path: Path, arch: Arch = Arch.X86_64, form: str | None = None) -> bytes:
    """The bytes of a firmware image. Raises UserError, without a place, for what is none.

    They are those that a guest finds: a file in QEMU's format qcow2 is unpacked. With ``form`` it
    must be of that one, ``raw`` or ``qcow2``.
    """
    image = _sized(path, arch, "the file of a firmware image", form)
    if arch is Arch.X86_64 and not _jumps(image[-_RESET_VECTOR:]):
        raise UserError(f"{path} is no firmware: it has no jump at the reset vector, "
                        f"{_RESET_VECTOR} bytes before its end",
                        hint=f"found {image[-_RESET_VECTOR:].hex(' ')}")
    if arch is Arch.AARCH64 and interface(image) is not Interface.UEFI:
        raise UserError(f"{path} is no firmware: it holds no UEFI firmware volume")
    return image


def read_variables(
    path: Path, arch: Arch = Arch.X86_64, form: str | None = None
) -> bytes:
    """The template of a variable store, as ``read`` has it."""
    variables = _sized(path, arch, "the template of a variable store", form)
    if whole := edk2.cut_off(variables):
        raise UserError(f"{path} is cut off: it has {len(variables)} bytes, and its variable "
                        f"store {whole}", hint="a whole template of a variable store")
    if not edk2.is_store(variables):
        raise UserError(f"{path} is no template of a variable store: it neither begins with a "
                        "firmware volume of variables nor is it blank")
    return variables


def interface(image: bytes) -> Interface:
    """What the image offers to the guest: UEFI where it has a firmware volume with programs."""
    found = any(volume.files_at is not None for volume in edk2.volumes(image))
    return Interface.UEFI if found else Interface.BIOS


def _sized(path: Path, arch: Arch, what: str, form: str | None) -> bytes:
    architecture = ARCHITECTURES[arch]
    packed = disk_image.is_qcow2(path)
    read = disk_image.content if packed else partial(_bytes, what=what)
    image = read(path, largest=architecture.firmware_bytes)
    if form is not None and packed != (form == "qcow2"):
        raise UserError(f"{path} is no {form} image",
                        hint=f"format: {'qcow2' if packed else 'raw'}")
    if architecture.firmware_in_pages and len(image) % PAGE:
        raise UserError(f"{path} has {len(image)} bytes",
                        hint=f"a firmware image has a multiple of {PAGE}")
    return image


def _bytes(path: Path, what: str, largest: int = 1 << 20) -> bytes:
    try:
        found = given_file.read(path, largest)
    except given_file.Missing:
        raise UserError(f"{path} is not there", hint=what) from None
    except given_file.Unreadable as error:
        hint = ""
        if path.is_dir():
            hint = "an image, or {directory: ...} for all images in it"
        raise UserError(f"{path} {error}", hint=hint) from None
    if not found:
        raise UserError(f"{path} is empty", hint=what)
    return found


def _jumps(code: bytes) -> bool:
    while prefix := next((before for before in _BEFORE if code.startswith(before)), None):
        code = code[len(prefix):]
    return bool(code) and code[0] in _JUMPS
