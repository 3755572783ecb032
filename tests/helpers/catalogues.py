"""A catalogue of one small build."""

from __future__ import annotations

SMALL = """
    firmware:
      seabios: {package: seabios, file: usr/share/seabios/bios-256k.bin}
    qemu:
      small:
        suite: bookworm
        packages: [qemu-system-x86, seabios]
        firmware: [seabios]
"""
