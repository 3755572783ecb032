"""What happens to the cache behind our back is found, and is no finding about firmware."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootmatrix import guests
from bootmatrix.builds import image_store
from bootmatrix.builds.image_store import Damaged, ImageStore
from bootmatrix.diagnose import doctor
from bootmatrix.diagnose.doctor import Finding, Health
from bootmatrix.guests import linux, tools
from bootmatrix.model import Arch
from bootmatrix.roots import manifest
from bootmatrix.roots.cache import Cache
from bootmatrix.roots.manifest import Manifest
from helpers import forked
from helpers.damage import flip, truncate
from helpers.own_builds import unpacked

NAME = "debian-bookworm"
QEMU = "usr/bin/qemu-system-x86_64"
AGAIN = f"bootmatrix images rm {NAME} && bootmatrix images build {NAME}"


# ---- one tree ---------------------------------------------------------------------------------


# ---- a real root ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with one image in it, of before there were manifests, and without documentation."""
    home = tmp_path_factory.mktemp("cache")
    roots = home / "bootmatrix" / "roots"
    roots.mkdir(parents=True)
    root = store._root(NAME)
    facts = json.loads(Path(f"{root}.json").read_text())
    facts["digest"] = Manifest.of(unpacked(root, roots / root.name)).digest
    (roots / f"{root.name}.json").write_text(image_store.facts_text(facts))
    return home


@pytest.fixture
def cache(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(copied))
    return copied


@pytest.fixture
def broken(cache: Path) -> Iterator[Callable[[str, Callable[[Path], None]], Path]]:
    """Damages a file of the root, and mends it at the end."""
    mended: list[tuple[Path, bytes]] = []

    def damage(path: str, how: Callable[[Path], None]) -> Path:
        fresh = ImageStore()
        fresh.check(NAME)
        file = (fresh._root(NAME) / path).resolve()
        mended.append((file, file.read_bytes()))
        how(file)
        return file

    yield damage
    for file, content in mended:
        file.write_bytes(content)


def forge(file: Path) -> None:
    """Make a file's damage look like none: what a disk loses changes no time."""
    fresh = ImageStore()
    path, kept = fresh._manifest_file(NAME), Manifest.read(fresh._manifest_file(NAME))
    assert kept is not None
    inside = str(file.relative_to(fresh._root(NAME)))
    old = kept.entries[inside]
    look = manifest.Entry(old.mode, old.size, file.stat().st_ctime_ns, old.content)
    Manifest({**kept.entries, inside: look}).write(path)


def test_an_old_cache_gets_a_manifest(cache: Path) -> None:
    fresh = ImageStore()
    fresh._manifest_file(NAME).unlink(missing_ok=True)
    assert fresh.qemu(NAME).digest == Manifest.of(fresh._root(NAME)).digest
    kept = Manifest.read(fresh._manifest_file(NAME))
    assert kept is not None
    assert kept.looks_like(fresh._root(NAME))


@pytest.mark.parametrize(("path", "how"), [
    (QEMU, flip),
    ("usr/share/OVMF/OVMF_VARS_4M.fd", flip),
    ("usr/share/qemu/kvmvapic.bin", flip),
    ("usr/lib/x86_64-linux-gnu/libpixman-1.so.0", flip),
    ("bin/busybox", truncate),
])
def test_no_file_that_takes_part_is_changed_unseen(
    broken: Callable[[str, Callable[[Path], None]], Path], path: str, how: Callable[[Path], None]
) -> None:
    file = broken(path, how)
    with pytest.raises(Damaged, match=f"^{NAME} is damaged in the cache: ") as found:
        ImageStore().qemu(NAME)
    assert file.name in found.value.found
    assert str(found.value).endswith(f"; make it anew: {AGAIN}")
    with pytest.raises(Damaged):
        ImageStore().beside(NAME, "seabios")


def test_what_no_time_tells(broken: Callable[[str, Callable[[Path], None]], Path]) -> None:
    """A firmware is read by each run; the rest is the doctor's."""
    forge(broken("usr/share/seabios/bios-256k.bin", flip))
    with pytest.raises(Damaged, match=r"seabios/bios-256k\.bin is not what it was"):
        ImageStore().beside(NAME, "seabios")
    (found,) = doctor._image(ImageStore(), NAME)
    assert found == Finding(
        f"image {NAME}", Health.FAIL,
        "damaged: usr/share/seabios/bios-256k.bin is not what it was", AGAIN)


def test_a_changed_word_in_the_facts(
    cache: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = ImageStore()
    file, facts = fresh._facts_file(NAME), dict(fresh._read(NAME))
    before = file.read_text()
    text = image_store.facts_text(facts)
    file.write_text(text)
    assert ImageStore().qemu(NAME) == fresh.qemu(NAME)
    for damaged in (text.replace('"version": "7.2', '"version": "7.3'), "[]", "{",
                    '{"digest": 5}'):
        file.write_text(damaged)
        with pytest.raises(Damaged, match=f"{AGAIN}$"):
            ImageStore().qemu(NAME)
        (found,) = doctor._image(ImageStore(), NAME)
        assert found.state is Health.FAIL
    file.write_text(before)


MATRIX = f"""\
schema: 1
hosts: {{a: {{qemu: {NAME}}}, b: {{qemu: {NAME}}}}}
axes:
  source: a
  destination: b
  machine: pc-i440fx-5.2
  policy: stock
  scenario: migrate-reset
"""


def command(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("bootmatrix")
    return forked.run([script, *arguments], cwd=here, env={**os.environ})


def test_the_command_line_says_that_it_was_the_cache(
    broken: Callable[[str, Callable[[Path], None]], Path], tmp_path: Path
) -> None:
    """Truncated, a QEMU was `blocked ... exit status 139`; now nothing is started."""
    (tmp_path / "m.yaml").write_text(MATRIX)
    broken(QEMU, truncate)
    for words in (("run", "m.yaml", "--engine", "bubblewrap"), ("images", "build", NAME)):
        done = command(tmp_path, *words)
        assert done.returncode == 3, done.stdout + done.stderr
        assert done.stderr.startswith(
            f"bootmatrix: {NAME} is damaged in the cache: {QEMU} has 4096 bytes instead of ")
        assert done.stderr.endswith(f"; make it anew: {AGAIN}\n")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()
    done = command(tmp_path, "doctor", "--engine", "bubblewrap")
    assert done.returncode == 1
    assert f"FAIL  image {NAME}: damaged: {QEMU} has 4096 bytes" in done.stdout
    assert f"mend it: {AGAIN}" in done.stdout


# ---- what is made anew by itself ----------------------------------------------------------------


def test_a_damaged_copy_of_an_own_build_is_made_anew(tmp_path: Path) -> None:
    def fill(directory: Path) -> None:
        (directory / "file").write_text("12345")

    file = Cache(tmp_path).entry("kind-a", fill) / "file"
    flip(file)
    assert Cache(tmp_path).damage("kind-a") == "file is not what it was"
    assert Cache(tmp_path).entry("kind-a", fill) / "file" == file
    assert file.read_text() == "12345"
    (tmp_path / "kind-a.manifest").unlink()  # of before there were any
    file.write_text("54321")
    Cache(tmp_path).entry("kind-a", fill)
    assert file.read_text() == "12345"


@pytest.mark.parametrize("how", [flip, truncate, lambda image: tools._digest_file(image).unlink()])
def test_a_damaged_disk_is_made_anew(tmp_path: Path, how: Callable[[Path], None]) -> None:
    image = guests.probe_disk("A", tmp_path)
    made = image.read_bytes()
    assert guests.damaged(tmp_path) == []
    how(image)
    tools._intact.clear()  # another process
    assert guests.damaged(tmp_path) == [image]
    assert guests.probe_disk("A", tmp_path).read_bytes() == made
    assert guests.damaged(tmp_path) == []
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".img", ".sha256"]


def test_a_damaged_kernel_is_unpacked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(entry: object, parts: Path) -> None:
        parts.mkdir()
        for name in linux._PARTS:
            (parts / name).write_text(name)
        (parts / linux._DIGEST).write_text(linux._digest(parts))

    monkeypatch.setattr(linux, "_unpack", unpack)
    monkeypatch.setattr(linux, "_intact", set())
    parts = linux._kernel_parts(tmp_path, Arch.X86_64)
    flip(parts / "vmlinuz")
    assert guests.damaged(tmp_path) == [parts]
    linux._intact.clear()  # another process
    linux._kernel_parts(tmp_path, Arch.X86_64)
    assert (parts / "vmlinuz").read_text() == "vmlinuz"
    assert guests.damaged(tmp_path) == []
