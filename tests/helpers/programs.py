"""Programs of tests/programs, made by the tools that guests are made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROGRAMS = Path(__file__).parents[1] / "programs"


def spinning_firmware(directory: Path) -> tuple[Path, Path]:
    """A firmware that spins, and its ELF file with symbols."""
    made, elf, image = (directory / f"spins.{end}" for end in ("o", "elf", "bin"))
    commands: tuple[list[str | Path], ...] = (
        ["nasm", "-f", "elf32", "-o", made, PROGRAMS / "spins.asm"],
        ["ld.lld", "-m", "elf_i386", "-Ttext", "0xf0000", "-e", "reset_vector", "-o", elf, made],
        ["llvm-objcopy", "-O", "binary", elf, image],
    )
    for command in commands:
        subprocess.run(command, check=True)
    return image, elf
