"""How large the option ROM is that a QEMU build finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bootmatrix.builds.data_files import rom_bytes
from bootmatrix.model import QemuBuild


def test_where_it_is_looked_for(tmp_path: Path) -> None:
    root, own = tmp_path / "root", tmp_path / "own"
    (root / "usr/lib/ipxe/qemu").mkdir(parents=True)
    (root / "usr/share/qemu").mkdir(parents=True)
    own.mkdir()
    build = QemuBuild("x", "11.0", "0", root)
    assert rom_bytes(build, "efi-virtio.rom") == 0
    (root / "usr/lib/ipxe/qemu/efi-virtio.rom").write_bytes(bytes(300))
    assert rom_bytes(build, "efi-virtio.rom") == 300
    # An absolute link is inside the root; one that leads nowhere is no file.
    (root / "usr/share/qemu/efi-virtio.rom").symlink_to("/usr/lib/ipxe/qemu/efi-virtio.rom")
    (root / "usr/share/qemu/loop.rom").symlink_to("loop.rom")
    assert rom_bytes(build, "efi-virtio.rom") == 300
    assert rom_bytes(build, "loop.rom") == 0
    (own / "efi-virtio.rom").write_bytes(bytes(600))
    with_own = replace(build, mounts=((own, "/own"),), arguments=("-L", "/own"))
    assert rom_bytes(with_own, "efi-virtio.rom") == 600
