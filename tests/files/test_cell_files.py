"""Files that a sandbox can write: whatever lies at a name, nothing else is read or written."""

from __future__ import annotations

import ast
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bootmatrix
from bootmatrix.errors import CellError
from bootmatrix.files import cell_files
from bootmatrix.files.cell_files import LIMIT, CellDir, remove_tree, temporary

HARNESS = Path(bootmatrix.__file__).parent
SECRET = "a secret of root's"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[CellDir]:
    (tmp_path / "cell" / "source").mkdir(parents=True)
    with CellDir(tmp_path / "cell") as cell:
        yield cell


def a_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def a_link_to_nothing(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("made"))


def a_link_to_zeros(path: Path, victim: Path) -> None:
    path.symlink_to("/dev/zero")


def a_fifo(path: Path, victim: Path) -> None:
    os.mkfifo(path, 0o666)


def a_directory(path: Path, victim: Path) -> None:
    path.mkdir()
    (path / "in it").touch()


def a_socket(path: Path, victim: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{path}")


def a_giant(path: Path, victim: Path) -> None:
    path.touch()
    os.truncate(path, LIMIT + 1)


Plant = Callable[[Path, Path], None]
PLANTS: dict[Plant, str] = {
    a_link: "a symbolic link", a_link_to_nothing: "a symbolic link",
    a_link_to_zeros: "a symbolic link", a_fifo: "a FIFO", a_directory: "a directory",
    a_socket: "a socket", a_giant: "",
}  # fmt: skip
# What reads or writes a file by its name. Each meets each plant.
ACTS: dict[str, Callable[[CellDir, str], object]] = {
    "read": lambda cell, name: cell.read(name),
    "copy out": lambda cell, name: cell.copy_out(name, cell.path.parent / "out"),
    "open to write": lambda cell, name: os.close(cell.open(name, os.O_RDWR)),
    "open or make": lambda cell, name: os.close(cell.open(name, os.O_RDWR | os.O_CREAT)),
    "make empty": lambda cell, name: cell.make_empty(name),
    "write": lambda cell, name: cell.write(name, b"new"),
    "copy in": lambda cell, name: cell.copy_in(Path(__file__), name),
    "mkdir": lambda cell, name: cell.mkdir(name),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("plant", PLANTS)
def test_what_lies_at_a_name_is_named_and_left_alone(
    cell: CellDir, victim: Path, plant: Plant, act: str
) -> None:
    plant(cell.path / "source" / "file", victim)
    with pytest.raises(CellError, match=rf"source/file: {PLANTS[plant]}"):
        ACTS[act](cell, "source/file")
    assert victim.read_text() == SECRET
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert not victim.with_name("made").exists()


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("plant", [a_link, a_fifo, a_socket])
def test_a_directory_on_the_way_is_none(
    cell: CellDir, tmp_path: Path, plant: Plant, act: str
) -> None:
    """A link to a directory with just that file in it, for one."""
    there = tmp_path / "there"
    there.mkdir()
    (there / "file").write_text(SECRET)
    (cell.path / "source").rmdir()
    plant(cell.path / "source", there)
    with pytest.raises(CellError, match=f"cell/source: {PLANTS[plant]} is there"):
        ACTS[act](cell, "source/file")
    assert [path.read_text() for path in there.iterdir()] == [SECRET]


@pytest.mark.parametrize("make", [
    lambda cell: cell.mkdir("source/more"), lambda cell: cell.make_empty("source/file"),
    lambda cell: cell.write("source/file", b"new"),
], ids=["mkdir", "make_empty", "write"])
def test_nothing_is_made_where_its_directory_has_gone(
    cell: CellDir, make: Callable[[CellDir], None]
) -> None:
    """The harness has made that; who took it away is in the cell, and it is no fault of ours."""
    (cell.path / "source").rmdir()
    with pytest.raises(CellError, match="cell/source: nothing is there"):
        make(cell)
    assert not cell.exists("source/file")


@pytest.mark.parametrize("deep", [False, True])
def test_a_file_that_becomes_a_directory_is_removed_at_the_next_look(
    cell: CellDir, monkeypatch: pytest.MonkeyPatch, deep: bool
) -> None:
    """Somebody may still be writing there, and it is no fault of ours."""
    is_directory = cell_files._is_directory
    looks = iter([True, False] if deep else [False])
    (cell.path / "source" / "inner").mkdir()
    monkeypatch.setattr(cell_files, "_is_directory", lambda name, directory: next(
        looks, is_directory(name, directory)))
    cell.empty()
    assert list(cell.path.iterdir()) == []


def test_nothing_is_removed_where_its_directory_has_gone(cell: CellDir) -> None:
    """What is tidied up at the end of something must not hide how that has ended."""
    (cell.path / "source").rmdir()
    cell.unlink("source/file")
    cell.unlink("file")


def test_how_much_there_is_in_all(cell: CellDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_files, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(cell_files, "MOST_NAMES", 20)
    for number in range(18):
        (cell.path / "source" / f"{number}").write_bytes(bytes(40000))
    os.truncate(cell.path / "source" / "0", 1 << 40)  # a hole takes no place
    (cell.path / "link").symlink_to("/")
    assert cell.excess() is None
    (cell.path / "source" / "one more").touch()
    assert cell.excess() == "more than 20 names"
    (cell.path / "source" / "one more").rename(cell.path / "source" / "1")
    (cell.path / "source" / "2").write_bytes(bytes(1 << 20))
    (cell.path / "source").chmod(0)
    assert cell.excess() == "more than 1 MiB"


def test_how_deep_it_is(cell: CellDir) -> None:
    deepest = cell.path.joinpath(*["d"] * 32)
    deepest.mkdir(parents=True)
    assert cell.excess() is None
    (deepest / "d").mkdir()
    assert cell.excess() == "more than 32 directories in each other"


@pytest.mark.parametrize("plant", PLANTS)
def test_the_tail_of_what_is_no_file_says_so(
    cell: CellDir, victim: Path, plant: Plant
) -> None:
    plant(cell.path / "log", victim)
    said = cell.tail("log", 4096).decode()
    assert "cell/log: " in said
    assert PLANTS[plant] in said
    assert SECRET not in said
    assert cell.tail("none", 4096) == b""


@pytest.mark.parametrize("plant", PLANTS)
def test_removing_and_renaming_do_not_follow(cell: CellDir, victim: Path, plant: Plant) -> None:
    plant(cell.path / "file", victim)
    cell.rename("file", "other")
    if plant is a_directory:
        with pytest.raises(CellError, match="cell/other: a directory is there"):
            cell.unlink("other")
    else:
        cell.unlink("other")
        assert not cell.exists("other")
    cell.unlink("none")
    assert victim.read_text() == SECRET


def test_a_file_of_two_names_is_not_written(cell: CellDir) -> None:
    cell.write("one", b"x")
    os.link(cell.path / "one", cell.path / "two")
    with pytest.raises(CellError, match="cell/one: a file with 2 names"):
        cell.open("one", os.O_RDWR)
    assert cell.read("one") == b"x"


@pytest.mark.parametrize("name", ["../victim", "/etc/passwd", "source/../../victim", "", "a//b"])
def test_no_name_leads_out(cell: CellDir, victim: Path, name: str) -> None:
    for act in ACTS.values():
        with pytest.raises(ValueError, match="no name of a file in a cell"):
            act(cell, name)
    assert victim.read_text() == SECRET


def test_the_directory_that_is_held_is_the_one(cell: CellDir, tmp_path: Path) -> None:
    """Another one under its name later is not looked at."""
    cell.write("file", b"ours")
    cell.path.rename(tmp_path / "away")
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / "file").write_text("theirs")
    assert cell.read("file") == b"ours"


def test_limits(cell: CellDir, tmp_path: Path) -> None:
    cell.write("file", bytes(100) + b"abc")
    assert cell.read("file", 103).endswith(b"abc")
    with pytest.raises(CellError, match="more than 102 bytes"):
        cell.read("file", 102)
    assert cell.tail("file", 2) == b"bc"
    assert cell.copy_out("file", tmp_path / "whole", 103) is True
    assert (tmp_path / "whole").read_bytes() == bytes(100) + b"abc"
    assert cell.copy_out("file", tmp_path / "ends", 6) is False
    assert (tmp_path / "ends").read_bytes() == (
        bytes(3) + b"\n[... 97 bytes are left out ...]\nabc")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "cell"
    place.mkdir()
    yield place
    subprocess.run(["rm", "-rf", place], check=True)  # pytest itself cannot


@pytest.mark.parametrize("depth", [3, 1500])
def test_whatever_is_left_is_removed(place: Path, victim: Path, depth: int) -> None:
    """As deep as it likes, with modes that forbid it, and links in it that lead away."""
    fd = os.open(place, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        os.symlink(victim.parent, "link", dir_fd=fd)
        os.mkfifo("fifo", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.fchmod(fd, 0)
        os.close(fd)
        fd = inner
    os.close(fd)
    remove_tree(place)
    assert not place.exists()
    assert victim.read_text() == SECRET


def test_a_temporary_directory_is_gone_whatever_is_in_it() -> None:
    with temporary("bootmatrix-test-") as place:
        (place / "closed" / "deep").mkdir(parents=True)
        (place / "closed").chmod(0)
    assert not place.exists()


AS_A_PLAIN_USER = """
import sys
from pathlib import Path
from bootmatrix.errors import CellError
from bootmatrix.files import cell_files

cell_files.MOST_NAMES = 2
place = Path(sys.argv[1])
with cell_files.CellDir(place) as cell:
    print(cell.excess())
    for mode in (0o444, 0):
        (place / "d" / str(mode)).mkdir()
        place.chmod(mode)
        try:
            cell.exists("d")
        except CellError as error:
            print(error)
        print(cell.excess())
    place.chmod(0)
    cell.empty()
    print(list(place.iterdir()))
"""


def test_a_cell_closed_by_its_program_is_looked_at_and_emptied(place: Path) -> None:
    """Where the harness is no root; a program that stands in a directory below can go on there."""
    plain = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if not os.getuid() else []
    (place / "d").mkdir()
    done = subprocess.run([*plain, sys.executable, "-c", AS_A_PLAIN_USER, place],
                          capture_output=True, text=True, timeout=300, check=True)
    refused = f"{place}/d: nothing is there (Permission denied)"
    assert done.stdout.splitlines() == [
        "None", refused, "None", refused, "more than 2 names", "[]"]


def test_what_is_closed_again_and_again_is_too_much(
    cell: CellDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended each look before it had seen what else is there."""
    (cell.path / "d").mkdir()
    entered = cell_files._entered

    def closed(entry: int) -> int:
        if Path(f"/proc/self/fd/{entry}").readlink().name == "d":
            raise PermissionError
        return entered(entry)

    monkeypatch.setattr(cell_files, "_entered", closed)
    assert cell.excess() == "what cannot be looked at"


# ---- no other way ------------------------------------------------------------------------------

# What takes a path, and does something to what lies there.
BY_PATH = {
    "open", "read_bytes", "read_text", "write_bytes", "write_text", "stat", "lstat", "exists",
    "is_file", "is_dir", "is_symlink", "iterdir", "glob", "rglob", "mkdir", "rmdir", "unlink",
    "rename", "chmod", "touch", "symlink_to", "hardlink_to", "copyfile", "copy", "copytree",
    "rmtree", "move", "listdir", "scandir", "walk", "fwalk", "makedirs", "remove", "chown",
    "symlink", "link", "bind", "TemporaryDirectory", "mkdtemp", "mkfifo", "truncate",
}  # fmt: skip
# The modules that have to do with a cell's directory, and what of that each does to files that no
# sandbox can write, by function. What is new here has to be answered for: why is it none of those?
OURS: dict[str, set[str]] = {
    "builds/asking": set(),
    "builds/source": {  # the cache of builds, its work directories, and logs, which are copied out
        "Sources._build: chmod", "Sources._build: mkdir", "Sources._build: open",
        "Sources._build: read_bytes", "Sources._build: write_bytes", "_keep_ccache: glob",
        "_keep_ccache: mkdir", "_keep_ccache: stat", "_keep_ccache: unlink",
        "Sources._failed: exists", "Sources._failed: read_text",
        "Sources._keep_log: glob", "Sources._keep_log: mkdir", "Sources._keep_log: stat",
        "Sources._keep_log: unlink", "Sources._toolchain.fill: exists",
        "Sources._toolchain.fill: mkdir", "Sources._toolchain.fill: symlink_to",
        "Sources._toolchain.fill: write_text", "Sources._toolchain: read_text", "_copied: chmod",
    },
    "diagnose/attach": set(),
    "machines/console": {  # kept/
        "_Log.__init__: open", "Console.tail: open", "Console.tail: stat",
    },
    "diagnose/doctor": {  # the host's
        "_mend_kvm: exists", "_disk: is_dir", "_disk: exists", "_disk: is_symlink",
    },
    "engines/confinement": {  # devices of the host's and /proc
        "_complaint: open", "devices: stat", "reprioritise: write_text",
        "reprioritise: iterdir",
    },
    "engines/launcher": set(),
    "engines/peers": {"descends: read_bytes", "descends: stat"},  # /proc
    "engines/warm": {"WarmEngine._lend: stat"},  # the directories themselves, for their inodes
    "machines/qemu/swap": set(),
    "diagnose/fw_cfg_survey": {  # shown/, and a file of the user's
        "_brought_inside: write_bytes", "_brought_inside: read_bytes", "_brought_inside: chmod",
        "opened: write_bytes", "opened: chmod",
    },
    "machines/fake": {  # kept/, and files that no sandbox has
        "firmware: write_bytes", "FakeMachine.start: mkdir", "FakeHosts.program: read_bytes",
    },
    "machines/qemu/machine": set(),
    "machines/qemu/tpm": set(),
    "machines/qemu/files": {  # shown/, and the images' cache
        "GuestFiles.__init__: mkdir", "GuestFiles.code: read_bytes", "GuestFiles.keep: mkdir",
        "GuestFiles._nvram_for: read_bytes", "GuestFiles.take_up: iterdir",
        "_put: write_bytes", "_put: chmod",
        "_show: copyfile", "_show: chmod",
        "_show_large: exists", "_show_large: hardlink_to", "_show_large: chmod",
    },
    "lab": {"Lab.guest: mkdir"},
    "machines/board": {  # kept/, the images' cache, and directories of its own
        "BoardMachine.start: mkdir",
        "BoardHosts.begin: write_bytes", "BoardHosts.begin: read_bytes",
        "BoardHosts.install: read_bytes", "BoardHosts.clear: read_bytes",
        "BoardHosts.launch: read_bytes", "_Flashrom._fetch: open",
        "_file: TemporaryDirectory",
    },
    "machines/qemu/migration/file": {"_receive: open", "_send: open"},  # kept/
    "nvram/store": set(),
    "nvram/repair": {"inspect: open"},  # System().open, for the command line
    "diagnose/preflight": {  # kept/ and the scratch directory
        "_facts: read_bytes", "_facts: open", "_facts: stat", "_stopped: write_bytes",
        "_loaded: write_bytes",
    },
    "run/runner": {  # the run directory
        "Runner.__init__: mkdir", "Runner.__init__: open", "keep_logs: exists",
        "Runner.beginning: mkdir",
    },
    "run/faults": set(),
    "run/steps/upgrade_nvram": {"stage: read_bytes"},  # the images' cache
    "engines/scratch": {  # kept/, shown/ and artifacts
        "Scratch.__init__: mkdir", "Scratch.__init__: chmod",
        "Scratch.keep_logs: mkdir", "Scratch.keep_logs: iterdir",
        "Scratch.keep_logs: is_dir", "Scratch.keep_logs: exists", "Scratch.keep_logs: rename",
        "Scratch.empty: iterdir", "_made: is_dir", "_made: mkdir", "_made: chmod",
    },
    "machines/qemu/process": {  # kept/ and shown/
        "Qemu.__init__: mkdir", "listen: open", "listen: bind", "listen: chmod", "listen: unlink",
    },
}  # fmt: skip
# Whose methods have such names, too: the way that is left, and files that are open already.
SAFE = {"cell", "_cell", "system", "_system", "file", "_file", "_opened"}


def by_path(module: str) -> set[str]:
    """``function: call`` of all that a module does to files by their paths."""
    found: set[str] = set()

    def visit(node: ast.AST, where: tuple[str, ...]) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            where = (*where, node.name)
        if isinstance(node, ast.Call):
            function = node.func
            name = function.id if isinstance(function, ast.Name) else \
                function.attr if isinstance(function, ast.Attribute) else ""
            on = ""
            if isinstance(function, ast.Attribute):
                holder = function.value
                on = holder.id if isinstance(holder, ast.Name) else \
                    holder.attr if isinstance(holder, ast.Attribute) else ""
            if name in BY_PATH and on not in SAFE:
                found.add(f"{'.'.join(where)}: {name}")
        for child in ast.iter_child_nodes(node):
            visit(child, where)

    visit(ast.parse((HARNESS / f"{module}.py").read_text()), ())
    return found


@pytest.mark.parametrize("module", OURS)
def test_no_other_way_to_a_file_of_a_cell(module: str) -> None:
    assert by_path(module) == OURS[module]


def test_whoever_has_to_do_with_cells_is_looked_at() -> None:
    """All that name the cell's directory, or have somebody who does."""
    names = {"CELL", "CellDir", "cell_dir", "cell_files", "Scratch"}
    known = {*OURS, "files/cell_files", "errors", "engines/__init__", "engines/docker",
             "engines/bubblewrap", "run/resume", "builds/own_qemu", "builds/host",
             "nvram/file"}  # fmt: skip
    for file in HARNESS.rglob("*.py"):
        module = str(file.relative_to(HARNESS)).removesuffix(".py")
        said = {node.id for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.Name)}
        assert module in known or not said & names, module


# What is removed by its path, a tree at once, and why nothing in it can be of a sandbox's making.
REMOVED_BY_PATH = {
    "cli/nvram": "read by a command of this host's, which writes one file",
    "cli/run": "empty",
    "engines/bubblewrap": "seen by `true`",
    "engines/docker": "a device node, in no sandbox's sight",
    "guests/linux": "Debian's packages, unpacked",
    "guests/tools": "a guest of ours, compiled",
    "builds/swtpm": "Debian's packages, on their way into the cache",
    "machines/qemu/migration/credentials": "certificates, made here by openssl",
    "machines/board": "a chip's image, for the programmer's command; there is no sandbox",
    "run/sharing": "copies of single files, by names of ours",
}


def test_what_a_sandbox_has_written_is_removed_by_descriptors_alone() -> None:
    """A tree can be deeper than rmtree goes, and chmod by path can be led away (CVE-2023-6597)."""
    found = set()
    for file in HARNESS.rglob("*.py"):
        module = str(file.relative_to(HARNESS)).removesuffix(".py")
        calls = {call.rpartition(" ")[2] for call in by_path(module)}
        if calls & {"rmtree", "TemporaryDirectory"}:
            found.add(module)
    assert found == set(REMOVED_BY_PATH)
