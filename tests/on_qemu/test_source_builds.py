"""SeaBIOS from source: Debian's, as a git repository with a change planted in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from benchmarks.detection.source import unpack

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cli.main import main
from bootmatrix.engines import Engine
from bootmatrix.matrix.expansion import load
from bootmatrix.model import Verdict
from bootmatrix.run.runner import Runner
from helpers.source_trees import GitRepository

pytestmark = pytest.mark.slow

QUICKSTART = Path(__file__).parents[2] / "matrices" / "quickstart.yaml"
CELL = "bookworm-to-trixie,pc-q35-5.2,stock,migrate-reset,ahci"
# What is left out is not compiled.
OPTIONS = [f"CONFIG_{name}=n" for name in (
    "USB", "TCGBIOS", "BOOTSPLASH", "NVME", "VIRTIO_SCSI", "PVSCSI", "ESP_SCSI", "LSI_SCSI",
    "MEGASAS", "MPT_SCSI", "SDCARD", "XEN", "BOOTMENU", "FLOPPY", "LPT", "PNPBIOS", "APMBIOS",
    "PMM", "MOUSE", "CDROM_BOOT", "HOST_BIOS_GEOMETRY", "KBD_CALL_INT15_4F", "S3_RESUME",
    "VGAHOOKS", "ACPI_DSDT", "MTRR_INIT", "PCIBIOS")]
SCREEN = "src/bootsplash.c"
BANNER = 'printf("SeaBIOS (version %s)\\n", VERSION);'


@dataclass(frozen=True)
class History:
    """Two commits, each of which is tagged; the second prints another version than it has.

    A build takes seconds of a processor: how commits between them are chosen is tested with
    repositories that are built in no time (tests/diagnose).
    """

    repository: GitRepository
    commits: list[str]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    work = tmp_path_factory.mktemp("seabios")
    unpack("seabios", work, work / "unpacked")
    there = GitRepository(work / "git")
    (work / "git/.git").rename(work / "unpacked/.git")
    (work / "git").rmdir()
    (work / "unpacked").rename(work / "git")
    there.git("rm", "-rfq", "--cached", "--ignore-unmatch", ".")
    there.git("add", "-A", "--", ".", ":!debian", ":!.version", ":!.pc")
    screen = (there.path / SCREEN).read_text()
    assert screen.count(BANNER) == 1
    wrong = screen.replace(BANNER, BANNER.replace("VERSION", '"9.9.9"'))
    commits = [there.commit("as it is", {}), there.commit("says another version", {SCREEN: wrong})]
    for number, commit in enumerate(commits, 3):
        there.git("tag", f"rel-1.16.{number}", commit)
    return History(there, commits)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what is built is kept, for this module."""
    return tmp_path_factory.mktemp("cached")


def test_the_commit_is_found(
    history: History, cached: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], store: ImageStore,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("bootmatrix.builds.host.Builds", lambda store: Builds(store, cached))
    options = [f"--option={option}" for option in OPTIONS]
    assert main(["bisect", "--matrix", str(QUICKSTART), "--cell", CELL, "--at", "source",
                 "--engine", "bubblewrap", "--source", str(history.repository.path), *options,
                 "--good", "rel-1.16.3", "--bad", "main"]) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    short = history.repository.git("rev-parse", "--short", history.commits[1])
    assert f"\nfirst bad: {short} says another version\n" in said
    told = said.partition("both records: ")[2]
    assert f"{SCREEN} | 2 +-" in told
    left, sign, right = next(line for line in told.splitlines() if "version 9.9.9" in line
                             ).partition(" | ")
    assert left.startswith("SeaBIOS (version rel-1.16.3-0-g")
    assert (sign, right) == (" | ", "SeaBIOS (version 9.9.9)")


@pytest.fixture
def matrix(history: History, tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(f"""\
schema: 1
hosts:
  old: {{qemu: debian-bookworm}}
  fw:
    qemu: debian-trixie
    firmware:
      source: {history.repository.path}
      revisions: rel-1.16.3..rel-1.16.4 tags
      options: [{", ".join(OPTIONS)}]
axes:
  {{source: old, destination: fw, machine: pc-i440fx-7.2, policy: machine-owned,
    scenario: migrate-reset, disk: virtio}}
""")
    return file


@pytest.fixture
def builds(store: ImageStore, cached: Path) -> Iterator[Builds]:
    with Builds(store, cached) as builds:
        yield builds


def test_an_axis_of_releases(
    history: History, matrix: Path, builds: Builds, bubblewrap: Engine, tmp_path: Path
) -> None:
    loaded = load(matrix)
    cells = loaded.cells(builds.machines)
    assert [cell.hosts[1].name for cell in cells] == [
        f"fw-rel-1.16.{number}" for number in (3, 4)]
    hosts = [cell.hosts[1] for cell in cells]
    builds.check(hosts)
    builds.prepare(hosts)
    made = [builds.host(host).firmware for host in hosts]
    for number, (firmware, commit) in enumerate(zip(made, history.commits, strict=True), 3):
        if number < 4:  # the last one has two versions in it
            assert firmware.prints == f"rel-1.16.{number}-0-g{commit[:12]}"
        assert firmware.name.startswith(f"seabios-rel-1.16.{number}-g{commit[:10]}-")
        assert firmware.symbols is not None
    with Runner(builds, bubblewrap, tmp_path / "run") as runner:
        first, last = runner.run(cells[0]), runner.run(cells[1])
    assert first["verdict"] == Verdict.PASS, first["reason"]
    assert last["verdict"] != Verdict.PASS
    assert "9.9.9" in last["reason"]
