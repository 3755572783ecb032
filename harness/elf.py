"""The few bytes of an ELF program that say whether it can run here, and what loads it."""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError

# ELF-64 object file format, "File header" and "Program header"; e_machine as assigned by the
# generic System V ABI.
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_PT_INTERP = 3
_EXECUTABLE, _SHARED = 2, 3
_MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64",
    183: "aarch64", 243: "riscv64", 258: "loongarch64",
}


@dataclass(frozen=True)
class Program:
    """An ELF program for this machine; ``loader`` is None where it is statically linked."""

    loader: str | None


def read(path: Path) -> Program:
    """Look at a program. Raises UserError, without a place, for what cannot be run here."""
    here = platform.machine()
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            if not head.startswith(b"\x7fELF"):
                raise UserError(f"{path} is no program", hint="a QEMU is an ELF file")
            machine = int.from_bytes(head[18:20], "little" if head[5:6] != b"\x02" else "big")
            name = _MACHINES.get(machine, f"ELF machine {machine}")
            if name != here or head[4:6] != b"\x02\x01" or len(head) < _HEADER.size:
                raise UserError(f"{path} is a program for {name}", hint=f"this machine is {here}")
            kind, table, size, count = _fields(head)
            if kind not in (_EXECUTABLE, _SHARED):
                raise UserError(f"{path} is no program", hint="an object file or a core dump?")
            file.seek(table)
            headers = file.read(size * count)
            for offset in range(0, len(headers) - _PROGRAM_HEADER.size + 1, size):
                fields = _PROGRAM_HEADER.unpack_from(headers, offset)
                if fields[0] == _PT_INTERP:
                    file.seek(fields[2])
                    return Program(file.read(fields[5]).rstrip(b"\0").decode())
    except FileNotFoundError:
        raise UserError(f"{path} is not there", hint="a QEMU, or a directory with one") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return Program(None)


def _fields(head: bytes) -> tuple[int, int, int, int]:
    """e_type, e_phoff, e_phentsize and e_phnum."""
    fields = _HEADER.unpack(head)
    return fields[1], fields[5], max(fields[9], _PROGRAM_HEADER.size), fields[10]
