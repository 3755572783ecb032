"""``bootmatrix images export`` and ``import``: from one cache to another in a file, all or none."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds import asking, image_store
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cli.main import main
from bootmatrix.errors import ImageError, Status
from bootmatrix.roots import debian
from helpers.catalogues import SMALL

SAID = {"--version": "QEMU emulator version 7.2.0", "help": "Machines:\npc-q35-7.2  (default)"}
TWO = SMALL + SMALL.split("qemu:\n")[1].replace("small", "other").replace("bookworm", "trixie")


@pytest.fixture
def made(
    store: ImageStore, tmp_path: Path, catalogue: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A cache with two small images, and a file of both."""
    bios = store.beside("debian-bookworm", "seabios").path

    def unpack(suite: str, packages: object, mirror: object, work: Path, root: Path) -> None:
        for name in ("bin/busybox", "usr/bin/qemu-system-x86_64"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(suite)
        (root / "usr/share/seabios").mkdir(parents=True)
        shutil.copy(bios, root / "usr/share/seabios/bios-256k.bin")
        (root / ".packages").write_text("seabios_1.16.2-1_all.deb\n")

    file = catalogue(TWO)
    monkeypatch.setattr(debian, "unpack", unpack)
    monkeypatch.setattr(debian, "ask", lambda *words: SAID[words[-1]])
    monkeypatch.setattr(asking, "ask", lambda *words: SAID[words[-1]])
    monkeypatch.setattr(ImageStore.__init__, "__defaults__", (file, None))
    monkeypatch.setattr(image_store, "cache_home", lambda: tmp_path / os.environ["PLACE"])
    monkeypatch.setenv("PLACE", "here")
    ImageStore().build(["small", "other"], lambda line: None)
    assert main(["images", "export", str(tmp_path / "images.tar.gz")]) == Status.GREEN
    monkeypatch.setenv("PLACE", "there")
    return tmp_path / "images.tar.gz"


def roots(tmp_path: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in (tmp_path / "there" / "roots").glob("*")
                  if path.suffix != ".lock")


def test_it_is_the_same_there(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PLACE", "here")
    assert main(["images", "export", str(made), "small", "other"]) == Status.GREEN
    monkeypatch.setenv("PLACE", "there")
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{digest}  {made}"
    assert told[1].endswith(": small, other")
    assert main(["images", "import", str(made), "--sha256", digest]) == Status.GREEN
    assert capsys.readouterr().out == "2 images imported: other, small\n"
    here, there = ImageStore(cache=tmp_path / "here"), ImageStore()
    for name in ("small", "other"):
        there.check(name, whole=True)
        one, two = here.qemu(name), there.qemu(name)
        assert (one.digest, one.version, one.machines, one.packages, one.firmware) == (
            two.digest, two.version, two.machines, two.packages, two.firmware)
        assert there.beside(name, "seabios").sha256 == here.beside(name, "seabios").sha256
    assert roots(tmp_path) == ["other"] * 3 + ["small"] * 3
    # What is there stays.
    assert main(["images", "import", str(made), "--sha256", digest.upper()]) == Status.GREEN
    assert capsys.readouterr().out == "0 images imported\n"


def refused(file: Path, digest: str = "") -> None:
    """Not taken in, though it is the file that was meant, unless another ``digest`` is."""
    if not digest and file.is_file():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert main(["images", "import", str(file), "--sha256", digest]) == Status.USER_ERROR


def test_another_file_than_was_meant(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["images", "import", str(made)])
    assert ended.value.code == Status.USER_ERROR
    assert "--sha256" in capsys.readouterr().err
    refused(made, "0" * 64)
    assert f"not {'0' * 64}" in capsys.readouterr().err
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "fifo")
    assert "is no regular file" in capsys.readouterr().err
    refused(tmp_path / "none")
    refused(tmp_path)
    assert roots(tmp_path) == []


def test_a_file_that_is_changed_when_it_has_been_compared(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever can write to it cannot have another unpacked than the one that was meant."""
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    monkeypatch.setenv("PLACE", "here")
    assert main(["images", "export", str(tmp_path / "other.tar.gz"), "small"]) == Status.GREEN
    monkeypatch.setenv("PLACE", "there")
    unpack = ImageStore.take_in

    def take_in(store: ImageStore, file: Any) -> tuple[str, ...]:
        with made.open("r+b") as same:
            same.write((tmp_path / "other.tar.gz").read_bytes())
            same.truncate()
        return unpack(store, file)

    monkeypatch.setattr(ImageStore, "take_in", take_in)
    capsys.readouterr()
    assert main(["images", "import", str(made), "--sha256", digest]) == Status.GREEN
    assert capsys.readouterr().out == "2 images imported: other, small\n"
    assert roots(tmp_path) == ["other"] * 3 + ["small"] * 3


def test_what_is_no_build_is_not_exported(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made.read_bytes()
    for name in ("nosuch", "small*", ""):
        assert main(["images", "export", str(made), "small", name]) == Status.USER_ERROR
        assert f"no such QEMU build: {name} (builds: " in capsys.readouterr().err
    assert made.read_bytes() == before


def test_a_file_that_is_cut_off_leaves_nothing(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write_bytes(made.read_bytes()[:-20])  # the first image is whole
    capsys.readouterr()
    refused(made)
    told = capsys.readouterr()
    assert told.err.startswith(f"bootmatrix: {made}: it is cut off or damaged")
    assert told.err.endswith(" (nothing was imported)\n")
    assert not told.out
    assert roots(tmp_path) == []


@pytest.mark.parametrize(("planted", "message"), [
    ("usr/bin/qemu-system-x86_64", "other: its sha256 is "),
    (None, "what it says of a root was changed"),
])
def test_a_root_that_is_not_what_was_said(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str | None, message: str
) -> None:
    here = ImageStore(cache=tmp_path / "here")
    if planted:
        (here._root("other") / planted).write_text("evil")
    else:
        facts = here._facts_file("other")
        facts.write_text(facts.read_text().replace("1.16.2-1", "1.16.3-1"))
    with monkeypatch.context() as unchecked, made.open("wb") as file:
        unchecked.setattr(ImageStore, "check", lambda *args, **options: None)
        here.export(["small", "other"], file)
    there = ImageStore(tmp_path / "catalogue.yaml", tmp_path / "there")
    with made.open("rb") as file, pytest.raises(ImageError, match=message):
        there.take_in(file)
    assert roots(tmp_path) == []


def test_a_build_of_another_catalogue(
    made: Path, tmp_path: Path, catalogue: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    catalogue(TWO.replace("suite: trixie", "suite: sid"))
    refused(made)
    assert "is no build of this catalogue" in capsys.readouterr().err
    assert roots(tmp_path) == []


def test_a_damaged_image_is_not_exported(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = ImageStore(cache=tmp_path / "here")
    (here._root("small") / "bin/busybox").write_text("BOOKWORM")
    before = made.read_bytes()
    monkeypatch.setenv("PLACE", "here")
    assert main(["images", "export", str(made)]) == Status.RIG_BROKEN
    assert "small is damaged" in capsys.readouterr().err
    assert made.read_bytes() == before
