"""QEMU's ``-fw_cfg`` option, built and checked before a QEMU has to refuse it.

Source of the rules: QEMU's man page, ``-fw_cfg``; docs/specs/fw_cfg.rst, "Externally Provided
Items". tests/on_qemu/test_fw_cfg_on_qemu.py asks real QEMUs whether they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootmatrix.errors import UserError

MAX_NAME = 55
"""Characters of a name: the directory has 56 bytes for it, and the last is NUL."""

USERS = "opt/"
QEMUS_OWN = "opt/org.qemu/"


@dataclass(frozen=True)
class FwCfgFile:
    """A file for the guest: its name, and a host file or a string as its content.

    Raises UserError for a name or content that QEMU would refuse or warn of.
    """

    name: str
    file: str | None = None
    string: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("fw_cfg file: no name", hint="name=opt/org.example/thing,string=text")
        if not self.name.isascii() or not self.name.isprintable():
            raise UserError(f"fw_cfg file: the name {self.name!r} is not plain ASCII")
        if len(self.name) > MAX_NAME:
            raise UserError(
                f"fw_cfg file: the name {self.name!r} has {len(self.name)} characters",
                hint=f"at most {MAX_NAME}",
            )
        if not self.name.startswith(USERS) or self.name == USERS:
            raise UserError(
                f"fw_cfg file: the name {self.name!r} is QEMU's to give",
                hint=f"users' names begin with {USERS}, better {USERS}REVERSED.DOMAIN/",
            )
        if self.name.startswith(QEMUS_OWN):
            raise UserError(f"fw_cfg file: names below {QEMUS_OWN} are reserved for QEMU")
        # QEMU takes file= and string= for not given if they are empty.
        if bool(self.file) == bool(self.string):
            raise UserError(f"fw_cfg file {self.name}: one of file= and string=, not empty")
        if "\0" in (self.file or "") + (self.string or ""):
            raise UserError(f"fw_cfg file {self.name}: a NUL cannot be handed to QEMU")

    @property
    def argv(self) -> tuple[str, str]:
        """The option for QEMU's command line; a comma in a value is written twice."""
        source = f"file={_doubled(self.file)}" if self.file else \
            f"string={_doubled(self.string or '')}"
        return "-fw_cfg", f"name={_doubled(self.name)},{source}"


def parse(text: str) -> FwCfgFile:
    """``[name=]NAME,file=PATH`` or ``[name=]NAME,string=TEXT``, as QEMU takes it.

    Raises UserError.
    """
    values: dict[str, str] = {}
    for number, part in enumerate(text.replace(",,", "\0").split(",")):
        key, equals, value = part.replace("\0", ",").partition("=")
        if not equals and number == 0:
            key, value = "name", key
        elif not equals or key not in ("name", "file", "string"):
            raise UserError(f"-fw_cfg {text!r}: what is {part!r}?",
                            hint="NAME,file=PATH or NAME,string=TEXT; a comma is written twice")
        if key in values:
            raise UserError(f"-fw_cfg {text!r}: {key}= twice")
        values[key] = value
    return FwCfgFile(values.get("name", ""), values.get("file"), values.get("string"))


def argv(files: Sequence[FwCfgFile]) -> tuple[str, ...]:
    """The options for several files. Raises UserError if two have one name."""
    names = [file.name for file in files]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"fw_cfg file {name}: given twice")
    return tuple(word for file in files for word in file.argv)


def _doubled(text: str) -> str:
    return text.replace(",", ",,")
