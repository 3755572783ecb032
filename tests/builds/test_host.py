"""What a host's QEMU and firmware cannot be, as far as can be told by looking."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from bootmatrix.builds import host as host_module
from bootmatrix.builds.host import Builds, own_usage
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.errors import ImageError, UserError
from bootmatrix.model import Arch, FirmwareSource, GitSource, HostSpec, QemuSource
from bootmatrix.roots import debian
from helpers.own_builds import build_tree
from helpers.source_trees import StandIn


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    """Of the catalogue, and none of them is built."""
    return Builds(ImageStore(cache=tmp_path / "cache"), tmp_path / "cache")


@pytest.mark.parametrize(("host", "field", "says"), [
    (HostSpec("a", "debian-potato"), "qemu", "no such QEMU build: 'debian-potato'"),
    (HostSpec("a", QemuSource(suite="Trixie!")), "qemu", "'Trixie!' is no name of a suite"),
    (HostSpec("a", QemuSource(suite="trixie", package_version="new")), "qemu",
     "'new' is no version of a Debian package"),
    (HostSpec("a", QemuSource(suite="trixie"), arch=Arch.AARCH64), "qemu",
     "QEMUs of your own are those of PCs"),
    (HostSpec("a", QemuSource(path=Path("/nowhere"))), "qemu", "/nowhere"),
    (HostSpec("a", QemuSource(root=Path("/nowhere"))), "qemu", "/nowhere is not there"),
    (HostSpec("a", QemuSource(root=Path(__file__).parent)), "qemu", "holds no QEMU"),
    (HostSpec("a", "debian-sid", FirmwareSource(Path("/nowhere/bios.bin"))), "firmware",
     "/nowhere/bios.bin"),
    (HostSpec("a", "debian-sid", "coreboot-9.9"), "firmware", "coreboot-9.9"),
    (HostSpec("a", QemuSource(image="mine:latest"), "ovmf-4m"), "firmware",
     "ovmf-4m is the one beside a QEMU of Debian's"),
])
def test_a_build_that_cannot_be_is_told_with_its_place(
    builds: Builds, host: HostSpec, field: str, says: str
) -> None:
    at: list[str] = []

    def place(host: HostSpec, field: str, error: UserError) -> UserError:
        at.append(field)
        return UserError(f"{host.name}.{field}: {error}")

    with pytest.raises(UserError) as caught:
        builds.check([HostSpec("good", "debian-bookworm"), host], place)
    assert at == [field]
    assert str(caught.value).startswith(f"a.{field}: ")
    assert says in str(caught.value)
    with pytest.raises(UserError, match=re.escape(says)):
        builds.check([host])


@pytest.mark.parametrize(("suite", "told"), [
    ("jammy", True), ("noble-updates", True), ("trixie", False), ("forky", False),
    ("trixie-backports", False), ("stable", False),
])
def test_a_suite_that_this_host_cannot_reach_is_told_before(
    builds: Builds, monkeypatch: pytest.MonkeyPatch, suite: str, told: bool
) -> None:
    host = HostSpec("a", QemuSource(suite=suite))
    monkeypatch.setattr(debian, "host_mirror", lambda: "http://archive/")
    if told:
        with pytest.raises(UserError) as caught:
            builds.check([host])
        assert str(caught.value) == (
            f"{suite} is no suite of the archive that this host takes them from (Debian's has "
            "bullseye, bookworm, trixie, sid; another distribution's QEMU is {root: DIR} or "
            "{image: NAME})")
    else:
        builds.check([host])
    monkeypatch.setattr(debian, "host_mirror", lambda: None)
    builds.check([host])


def test_a_suite_that_the_archive_turns_out_not_to_have(
    builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(store: ImageStore, names: object, say: object) -> None:
        raise ImageError("mmdebstrap failed", status=25, tail=(
            "E: The repository 'http://archive buzz Release' does not have a Release file."))

    monkeypatch.setattr(ImageStore, "build", build)
    with pytest.raises(UserError, match=r"^buzz is no suite of the archive"):
        builds.qemu(QemuSource(suite="buzz"))


def test_a_qemu_alone_needs_no_firmware(store: ImageStore, tmp_path: Path) -> None:
    tree = build_tree(store, tmp_path / "build")
    (tree / "pc-bios" / "bios-256k.bin").unlink()
    with Builds(store, tmp_path / "cache") as builds:
        sid, mine = builds.alone(["debian-sid", QemuSource(tree, name="m")])
        assert sid == store.qemu("debian-sid")
        assert (mine.name, mine.firmware) == ("m", "")
        with pytest.raises(UserError, match="no such QEMU build"):
            builds.alone(["debian-sad"])


def test_a_root_without_usr_gets_what_the_engines_want(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a Nix closure is: a copy of it has the shell, and where things are mounted."""
    root = tmp_path / "root"
    (root / "nix").mkdir(parents=True)
    shutil.copy("/bin/true", root / "nix" / "qemu")
    monkeypatch.setattr(host_module, "_ask", lambda build, what: {
        "version": "9.0", "machines": ["pc"], "default_machine": "pc", "debug_port": True})
    with Builds(store, tmp_path / "cache") as builds:
        build = builds.qemu(QemuSource(root=root, program="nix/qemu"))
        assert (build.binary, build.version, build.firmware) == ("/nix/qemu", "9.0", "")
        assert {path.name for path in build.root.iterdir()} == {
            "nix", "bin", "usr", "cell", "dev", "proc", "sys", "tmp", "var"}
        assert (build.root / "bin" / "busybox").is_file()
        assert {path.name for path in root.iterdir()} == {"nix"}, "what was given stays as it is"


@pytest.mark.parametrize(("link", "target", "told"), [
    ("bin", "bin", "{root}: /bin in it is a link that goes round"),
    ("usr", "/usr/usr", "{root}: /usr in it is a link that goes round"),
    ("bin", "x" * 300, "{root}: /bin in it is a link to too long a name"),
    ("share", "share", "nix/../share/qemu/bios-256k.bin in {root} is a link that goes round"),
])
def test_a_hostile_root_is_told_by_the_name_that_its_user_gave(
    store: ImageStore, tmp_path: Path, link: str, target: str, told: str
) -> None:
    """And not by that of a copy which is gone already."""
    root = tmp_path / "root"
    (root / "nix").mkdir(parents=True)
    shutil.copy("/bin/true", root / "nix" / "qemu")
    (root / link).symlink_to(target)
    with Builds(store, tmp_path / "cache") as builds, pytest.raises(UserError) as raised:
        builds.qemu(QemuSource(root=root, program="nix/qemu"))
    assert str(raised.value) == told.format(root=root)


def test_what_is_missing_is_named_once(builds: Builds) -> None:
    hosts = [HostSpec("a", "debian-sid"), HostSpec("b", "debian-bookworm"),
             HostSpec("c", "debian-sid"), HostSpec("d", QemuSource(path=Path("/nowhere")))]
    assert builds.missing(hosts) == ("debian-sid", "debian-bookworm")
    assert builds.missing(hosts[3:]) == ()


@pytest.mark.parametrize(("qemu", "says"), [
    ("debian-sid", "debian-sid, which is not built; bootmatrix images build debian-sid"),
    (QemuSource(suite="trixie"), "suite:trixie, and debian-trixie for it, which is not built"),
    (QemuSource(suite="forky"), "which is not built; a run of the matrix builds it"),
    (QemuSource(image="mine"), "image:mine, and debian-sid for it, which is not built"),
], ids=str)
def test_what_only_looks_at_machine_types_builds_nothing(
    builds: Builds, monkeypatch: pytest.MonkeyPatch, qemu: str | QemuSource, says: str
) -> None:
    monkeypatch.setattr(ImageStore, "build", None)
    with pytest.raises(UserError) as raised:
        builds.machines_as_built(HostSpec("a", qemu))
    assert says in str(raised.value).replace(" (", "; ").replace("\n", "; ").replace(")", "")


def test_a_cache_without_own_builds_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert own_usage() == 0


def test_commits_are_looked_at_before_they_are_built(builds: Builds, tmp_path: Path) -> None:
    there = StandIn(tmp_path / "seabios")
    fine = HostSpec("a", "debian-sid", FirmwareSource(there.path, git=GitSource(there.path)))
    builds.check([fine])
    qemu = QemuSource(git=GitSource(there.path))
    with pytest.raises(UserError, match="at HEAD is no QEMU: there is no configure"):
        builds.check([HostSpec("a", qemu)])
    there.commit("like QEMU", dict.fromkeys(
        ("configure", "VERSION", "hw/i386/pc.c", "qapi/run.json"), ""))
    with pytest.raises(UserError, match=r"no firmware is given.*there is no bios-256k.bin"):
        builds.check([HostSpec("a", qemu)])
    there.commit("with its blobs", {"pc-bios/bios-256k.bin": ""})
    builds.check([HostSpec("a", qemu)])
    # To list cells nothing is built.
    with pytest.raises(UserError, match=r"newest-common has to ask .* at HEAD, which is not built "
                                        r"\(a run of the matrix builds it\)"):
        builds.machines_as_built(HostSpec("a", qemu))
