"""A machine's file, read: what is named, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix import vm
from bootmatrix.errors import UserError
from bootmatrix.files.shipped import IMAGES

EXAMPLES = sorted((IMAGES.parent / "examples" / "vm").iterdir())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_a_machine_with_a_disk(path: Path) -> None:
    found = vm.read(path)
    assert found.machine.has_disk
    assert found.lines
    text = " ".join(found.machine.words)
    assert not any(place in text for place in ("/var/", "/srv/", "/run/", "/usr/", "/sys/"))
    kinds = [line.kind for line in vm.sorted_lines(found.lines)]
    assert kinds == sorted(kinds, key=vm.KINDS.index)


def test_the_desktop_has_its_thirty_devices() -> None:
    words = vm.read(next(path for path in EXAMPLES if path.name == "desktop.log")).machine.words
    assert words.count("-device") == 27  # of 30: those of VFIO, TPM and SPICE are not


@pytest.mark.parametrize(("text", "says"), [
    ("nothing", "no QEMU in it"), ("<domain", "no XML"), ("qemu-system-sparc -m 1", "sparc"),
])
def test_mistakes_are_a_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "vm.txt").write_text(text)
    with pytest.raises(UserError, match=says):
        vm.read(tmp_path / "vm.txt")
    with pytest.raises(UserError, match="No such file"):
        vm.read(tmp_path / "none")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_figures_of_an_example_are_those_of_the_page(path: Path) -> None:
    page = (IMAGES.parent / "docs" / "own-vm.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{path.name}` | ")
              and line.count("|") == 7)
    lines = vm.read(path).lines
    block = page.split(f"\n`{path.name}`:\n\n```text\n")[1].split("\n```\n")[0]
    assert block.splitlines() == list(map(str, vm.sorted_lines(lines)))
    assert [int(part) for part in row.split("|")[3:7]] == [
        sum(line.kind == kind for line in lines) for kind in vm.KINDS]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("text", [
    "qemu-system-x86_64 -m 64 -smp 2",
    "<domain><os><type arch='x86_64'>hvm</type></os><vcpu>2</vcpu></domain>",
])
def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "vm.txt").write_text(text, encoding=encoding)
    assert vm.read(tmp_path / "vm.txt").machine.smp == 2
