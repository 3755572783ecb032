"""Builds from source: what is built of which commit, once, in a sandbox, and what is said of it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from bootmatrix.builds import source
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.builds.repository import Repository
from bootmatrix.builds.source import EDK2, FIRMWARE, QEMU, SEABIOS, BuildFailed, Sources, Stopped
from bootmatrix.errors import UserError
from bootmatrix.firmware import seabios
from bootmatrix.model import GitSource, Limits
from bootmatrix.roots.cache import Cache
from helpers.source_trees import BUILD, Edk2StandIn, GitRepository, StandIn


@pytest.fixture
def there(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "seabios")


@pytest.fixture
def sources(tmp_path: Path, store: ImageStore) -> Sources:
    """With a cache of its own, and the toolchain that all share."""
    return made(tmp_path, store)


def made(tmp_path: Path, store: ImageStore) -> Sources:
    return Sources(Cache(tmp_path / "cached"), tmp_path / "logs", store.toolchains,
                   Cache(store.toolchain_home))


@pytest.fixture
def of_edk2(tmp_path: Path, store: ImageStore) -> Sources:
    """The same, but that EDK II's toolchain is SeaBIOS', which all tests share."""
    toolchains = {**store.toolchains, "edk2": store.toolchains["seabios"]}
    return Sources(Cache(tmp_path / "cached"), tmp_path / "logs", toolchains,
                   Cache(store.toolchain_home))


def unheard(line: str) -> None:
    """Progress where nobody looks."""


def git(there: GitRepository, revision: str = "HEAD", **more: object) -> GitSource:
    return GitSource(there.path, revision, **more)  # type: ignore[arg-type]


def left(tmp_path: Path) -> list[str]:
    """What is in the cache and is no entry: nothing may be, once a build is over."""
    return [path.name for path in (tmp_path / "cached").iterdir()
            if path.name.startswith(".") or path.name.endswith(".filling")]


@pytest.mark.parametrize(("described", "said"), [
    ("good-0-g04d426843707", "good-0-g04d426843707"),
    ("team/rel-1.16.3-2-g04d426843707", "team/rel-1.16.3-2-g04d426843707"),
    ("04d426843707", "0.0.0-g04d426843707"),
    ("p(1-0-g04d426843707", "0.0.0-g04d426843707"),
    ("fw@1.2-7-g04d426843707", "0.0.0-g04d426843707"),
])
def test_a_build_says_of_itself_what_is_looked_for_in_an_image(described: str, said: str) -> None:
    """A tag that nobody would find there made a sound SeaBIOS a ``witness-conflict``."""
    found = Mock(spec=Repository, described=lambda commit: described)
    version = source._version(found, "04d4268437070000")
    assert version == said
    image = b"SeaBIOS (version %s)\0\0" + version.encode() + b"\0"
    assert seabios.printed_version(image) == said


def test_built_once_by_commit_and_configuration(
    there: StandIn, sources: Sources, tmp_path: Path
) -> None:
    said: list[str] = []
    first = sources.built(git(there), SEABIOS, said.append)
    assert first.file.read_bytes().startswith(b"good\0")
    assert first.symbols is not None
    assert first.symbols.read_text() == "00000000 T entry\n"
    commit = there.git("rev-parse", "HEAD")
    assert first.name == f"seabios-HEAD-g{commit[:10]}"
    assert said[-1].startswith(f"{there.path} at HEAD: built in ")
    there.git("tag", "rel-1.2.3")
    said.clear()
    again = sources.built(git(there, "rel-1.2.3"), SEABIOS, said.append)
    assert (again.directory, again.name, said) == (
        first.directory, f"seabios-rel-1.2.3-g{commit[:10]}", [])
    # In another configuration, and at another commit, it is another build.
    assert not sources.is_built(git(there, options=("CONFIG_X=y",)), SEABIOS)
    there.release("second", "good 2")
    second = sources.built(git(there), SEABIOS, said.append)
    assert second.directory != first.directory
    assert second.file.read_bytes().startswith(b"good 2\0")
    assert left(tmp_path) == []


def test_what_a_build_is_given(there: StandIn, sources: Sources) -> None:
    """Its configuration, the version to print, the commit's files without git's."""
    there.release("asks", "good", build=f"""{BUILD}
        {{ cat "$3" .version; echo; echo "$2"; ls -a; id -u; env; }} | sed 's/^/said: /'""")
    there.git("tag", "rel-7.8.9")
    commit = there.git("rev-parse", "HEAD")
    sources.built(git(there, options=("CONFIG_X=y", "CONFIG_Y=2 spaces")), SEABIOS, unheard)
    log = sources.log(git(there, options=("CONFIG_X=y", "CONFIG_Y=2 spaces")), SEABIOS, commit)
    said = [line.removeprefix("said: ") for line in log.read_text().splitlines()]
    for line in ("CONFIG_QEMU=y", "CONFIG_X=y", "CONFIG_Y=2 spaces", "rel-7.8.9-0",
                 f"-g{commit[:12]}", "image", "build.sh"):
        assert line in said
    assert ".git" not in said
    assert not [line for line in said if line.startswith("HOME=") and line != "HOME=/cell"]
    assert "0" not in said, "it ran as root"


@pytest.mark.parametrize(("build", "says", "tail"), [
    ("echo cc1: sorry; exit 3", "exit status", "cc1: sorry"),
    ("true", "it made no out/bios.bin", ""),
    (f"{BUILD}\nrm $1/bios.bin; ln -s /etc/passwd $1/bios.bin", "bios.bin", ""),
    ("echo ERROR: Dependency \\\"slirp\\\" not found, tried pkgconfig; exit 1",
     "slirp is in none of its packages: packages: [...]", "Dependency"),
    ("printf '\\033[31mred\\n'; exit 1", "does not build", "\\x1b[31mred"),
], ids=["fails", "makes nothing", "makes a link", "lacks a package", "colours"])
def test_a_build_that_fails(
    build: str, says: str, tail: str, there: StandIn, sources: Sources, tmp_path: Path
) -> None:
    there.release("broken", "good", build=build)
    with pytest.raises(BuildFailed, match="at HEAD does not build") as caught:
        sources.built(git(there), SEABIOS, unheard)
    assert says in caught.value.message
    assert tail in caught.value.tail
    log = sources.log(git(there), SEABIOS, there.git("rev-parse", "HEAD"))
    assert f"all that it said: {log}" in caught.value.message
    assert log.is_file()
    assert not sources.is_built(git(there), SEABIOS)
    assert left(tmp_path) == []


def test_a_hostile_build(there: StandIn, sources: Sources, tmp_path: Path) -> None:
    """It writes into its own directory alone, reaches nobody, and leaves nobody behind."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    there.release("hostile", "good", build=f"""{BUILD}
        cat {secret} /etc/shadow && echo LEAK
        for file in {there.path}/planted {secret} /usr/planted ./planted /tmp/planted; do
          echo planted >$file && echo LEAK $file
        done
        cat /proc/net/dev | grep -v -e lo: -e '|' && echo LEAK network
        mount -t tmpfs none /mnt && echo LEAK mount
        setsid sleep 1000.4711 & true""")
    sources.built(git(there), SEABIOS, unheard)
    said = sources.log(git(there), SEABIOS, there.git("rev-parse", "HEAD")).read_text()
    assert "LEAK" not in said, said
    assert secret.read_text() == "secret"
    assert not (there.path / "planted").exists()
    running = [path for path in Path("/proc").glob("[0-9]*/cmdline")
               if b"sleep\x001000.4711\x00" in _read(path)]
    assert running == []
    assert left(tmp_path) == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_one_that_writes_too_much(
    there: StandIn, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "LIMITS", Limits(file=16, names=300))
    there.release("fills", "good", build="for n in $(seq 1000); do echo >/cell/$n; done; sleep 60")
    with pytest.raises(BuildFailed, match="more than 300 names"):
        sources.built(git(there), SEABIOS, unheard)
    there.release("fills", "good", build="head -c 20000000 /dev/zero >/cell/large")
    with pytest.raises(BuildFailed, match="does not build"):
        sources.built(git(there), SEABIOS, unheard)
    assert left(tmp_path) == []


def test_one_that_has_no_end(
    there: StandIn, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.release("waits", "good", build="sleep 1000")
    monkeypatch.setattr(source, "SECONDS", 2.0)
    with pytest.raises(BuildFailed, match="no end after 2 s"):
        sources.built(git(there), SEABIOS, unheard)
    assert left(tmp_path) == []


def test_two_that_want_the_same(there: StandIn, tmp_path: Path, store: ImageStore) -> None:
    """One builds, the other waits; and one that is not waited for any more ends."""
    there.release("slow", "good", build=f"sleep 3\n{BUILD}")
    said: list[str] = []
    built = []

    def other() -> None:
        built.append(made(tmp_path, store).built(git(there), SEABIOS, said.append))

    thread = threading.Thread(target=other)
    thread.start()
    while not any("building" in line for line in said):
        thread.join(0.05)
    heard: list[str] = []
    assert made(tmp_path, store).built(git(there), SEABIOS, heard.append).file.is_file()
    thread.join()
    assert [line for line in (*said, *heard) if "built in" in line] == [said[-1]]
    assert heard == [f"{there.path} at HEAD: another process builds it"]
    assert built[0].file.is_file()
    assert left(tmp_path) == []


def test_one_that_is_not_wanted_any_more(
    there: StandIn, sources: Sources, tmp_path: Path
) -> None:
    there.release("waits", "good", build="sleep 1000")
    stop = threading.Event()
    begun = time.monotonic()

    def say(line: str) -> None:
        if "building" in line:
            stop.set()

    with pytest.raises(Stopped):
        sources.built(git(there), SEABIOS, say, stop)
    assert time.monotonic() - begun < 300
    assert left(tmp_path) == []


def test_an_interrupted_one_leaves_nothing(
    there: StandIn, sources: Sources, tmp_path: Path
) -> None:
    there.release("waits", "good", build="sleep 1000")

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sources.built(git(there), SEABIOS, unheard, Interrupted())
    assert left(tmp_path) == []
    assert not sources.is_built(git(there), SEABIOS)


def test_what_is_no_source(there: StandIn, sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at HEAD is no QEMU: there is no configure"):
        sources.check(git(there), QEMU)
    with pytest.raises(UserError, match="has no revision 'v9'"):
        sources.check(git(there, "v9"), SEABIOS)
    with pytest.raises(UserError, match="is no git repository of yours"):
        sources.check(GitSource(tmp_path), SEABIOS)
    there.commit("other", {"file": ""})
    there.git("rm", "-q", "-r", "src")
    there.git("commit", "-q", "-m", "no SeaBIOS")
    with pytest.raises(UserError, match=r"is no SeaBIOS: there is no src/romlayout\.S"):
        sources.check(git(there), SEABIOS)


@pytest.mark.thorough
def test_a_package_that_is_not_there(there: StandIn, sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bookworm has no package no-such-package"):
        sources.built(git(there, packages=("no-such-package",)), SEABIOS, unheard)
    assert left(tmp_path) == []


def test_without_git(
    there: StandIn, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(UserError, match=r"no git here.*\(apt install git\)"):
        sources.check(git(there), SEABIOS)


# ---- EDK II ------------------------------------------------------------------------------------


def test_edk2_is_built_beside_its_tree(of_edk2: Sources, tmp_path: Path) -> None:
    there = Edk2StandIn(tmp_path / "edk2")
    there.git("tag", "edk2-stable202611")
    built = of_edk2.built(git(there), EDK2, unheard)
    assert built.file.read_bytes() == b"code"
    assert built.variables is not None
    assert built.variables.read_bytes() == b"variables"
    assert built.symbols is None
    commit = there.git("rev-parse", "HEAD")
    assert built.name == f"edk2-HEAD-g{commit[:10]}"
    said = [line.removeprefix("said: ") for line in of_edk2.log(git(there), EDK2, commit)
            .read_text().splitlines() if line.startswith("said: ")]
    named = ("--pcd gEfiMdeModulePkgTokenSpaceGuid.PcdFirmwareVersionString="
             f"Ledk2-stable202611-0-g{commit[:12]}\\0")
    assert said[0].endswith(f"{named} -b RELEASE -a X64 -p OvmfPkg/OvmfPkgX64.dsc -D FD_SIZE_4MB")
    assert said[0].startswith("-t GCC5 -n ")
    assert said[1:] == ["/cell /tmp/bootmatrix /cell/BaseTools /cell/Conf", "rule", "target"]
    assert left(tmp_path) == []


def test_what_is_said_once(of_edk2: Sources, tmp_path: Path) -> None:
    """Platform and target are the user's where he names them; the rest stands behind ours."""
    there = Edk2StandIn(tmp_path / "edk2")
    options = ("-b", "DEBUG", "-p", "OvmfPkg/OvmfPkgIa32X64.dsc", "-D", "X=a b")
    of_edk2.built(git(there, options=options), EDK2, unheard)
    log = of_edk2.log(git(there, options=options), EDK2, there.git("rev-parse", "HEAD"))
    said = log.read_text().partition("said: ")[2].splitlines()[0]
    assert said.endswith("-b DEBUG -p OvmfPkg/OvmfPkgIa32X64.dsc -D X=a b")
    assert "RELEASE" not in said
    assert "FD_SIZE" not in said


def test_which_recipe(there: StandIn, sources: Sources, tmp_path: Path) -> None:
    edk2 = Edk2StandIn(tmp_path / "edk2")
    assert sources.recipe(git(there), FIRMWARE) is SEABIOS
    assert sources.recipe(git(edk2), FIRMWARE) is EDK2
    edk2.git("rm", "-q", "-r", "MdePkg")
    edk2.git("commit", "-q", "-m", "not whole")
    with pytest.raises(UserError, match=(
            r"is no SeaBIOS: there is no src/romlayout\.S; no EDK II: there is no "
            r"MdePkg/MdePkg\.dec \(other firmware")):
        sources.recipe(git(edk2), FIRMWARE)


# ---- ccache ------------------------------------------------------------------------------------

# It counts its calls.
_CCACHE = """
mkdir tools
cat >tools/ccache <<'END'
#!/bin/sh
[ "$1" = -s ] || { mkdir -p "$CCACHE_DIR"; echo >>"$CCACHE_DIR/calls"; }
END
chmod 755 tools/ccache
export PATH="$PWD/tools:$PATH"
"""


def test_what_ccache_keeps_is_the_repositorys(
    there: StandIn, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_WITH_CCACHE", _CCACHE + source._WITH_CCACHE)
    build = f"gcc x.c\necho \"calls: $(wc -l <$CCACHE_DIR/calls)\"\n{BUILD}"

    def calls(repository: StandIn, name: str) -> str:
        repository.release(name, name, build=build)
        sources.built(git(repository), SEABIOS, unheard)
        log = sources.log(git(repository), SEABIOS, repository.git("rev-parse", "HEAD"))
        return log.read_text().partition("calls: ")[2].splitlines()[0]

    assert [calls(there, "one"), calls(there, "two")] == ["1", "2"]
    assert calls(StandIn(tmp_path / "other"), "one") == "1"
    kept = sorted((tmp_path / source.CCACHES).iterdir())
    assert [path.suffix for path in kept] == [".tar", ".tar"], "no half ones"
    for path in kept:  # what is damaged is begun anew
        path.write_bytes(b"no archive")
    assert calls(there, "three") == "1"
