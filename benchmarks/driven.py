"""A process that runs one cell whenever it is told to, for pairwise measuring.

    python -m benchmarks.driven plain SOURCE DESTINATION FIRMWARE
    python -m benchmarks.driven docker|bubblewrap SOURCE DESTINATION FIRMWARE

Each line on standard input runs a cell; the answer is a line with the CPU seconds that the
harness's containers have used so far (docker; 0 elsewhere). "plain" is benchmarks/plain.py, the
others are pytest with the plugin, a matrix, records, table and all.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from bootmatrix import guests
from bootmatrix.boards import known_board
from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore, cache_home
from bootmatrix.machines.qemu import command_line
from bootmatrix.model import Accel, Arch, Disk, HostSpec, Interface

from . import plain

MACHINE = "pc-i440fx-5.2"
HOSTS = 500
MATRIX = """
schema: 1
hosts:
{copies}
axes:
  source: [{sources}]
  destination: [{names}]
  machine: pc-i440fx-5.2
  policy: stock
  scenario: migrate-reset
  disk: ide
boot-timeout: 60
"""


def matrix(source: str, destination: str, cells: int, firmware: str = "seabios") -> str:
    """A matrix of so many cells that are alike but for the names of their hosts.

    More than HOSTS of them are a multiple of that: a matrix file has a bounded number of values.
    """
    across = min(cells, HOSTS)
    if cells % across:
        raise ValueError(f"{cells} cells are no multiple of {across}")
    sources = [f"s{number}" for number in range(cells // across)]
    names = [f"d{number}" for number in range(across)]
    copies = "\n".join(
        f"  {name}: {{qemu: {build}, firmware: {firmware}}}"
        for build, group in ((source, sources), (destination, names)) for name in group
    )
    return MATRIX.format(copies=copies, sources=", ".join(sources), names=", ".join(names))


def _plain(source: str, destination: str, firmware: str) -> None:
    builds = Builds(ImageStore())
    files: dict[str, Path] = {}
    board = known_board(MACHINE, Arch.X86_64)

    def launch(build: str, role: str, name: str, incoming: bool) -> tuple[Path, tuple[str, ...]]:
        host = builds.host(HostSpec(role, build, firmware))
        code, variables = f"{role}/code.fd", f"{role}/vars.fd"
        files[code] = host.firmware.path
        uefi = host.firmware.interface is Interface.UEFI
        flash: str | command_line.Flash = f"/cell/{code}"
        if host.firmware.variables is not None:
            files[variables] = host.firmware.variables
            size = host.firmware.variables.stat().st_size
            flash = (
                command_line.FlashWindow(f"/cell/{code}", 0, host.firmware.size, read_only=True),
                command_line.FlashWindow(f"/cell/{variables}", 0, size),
            )
        disk = (guests.uefi_disk if uefi else guests.probe_disk)("A", cache_home())
        files["disk.img"] = disk
        return host.qemu.root, command_line.qemu_argv(command_line.Launch(
            host.qemu.binary, MACHINE, board, Accel.TCG, Disk.IDE, "/cell/disk.img", flash,
            f"/cell/{name}", incoming=incoming, memory_mib=board.memory_mib(host.firmware),
        ))  # fmt: skip

    one = launch(source, "source", "1-source", False)
    two = launch(destination, "destination", "2-destination", True)
    for _ in sys.stdin:
        plain.run(one, two, files)
        print(0, flush=True)


class _Gate:
    """Lets pytest go on to its next item when a line comes in, and tells when it is done."""

    def __init__(self, answers: int, engine: str) -> None:
        self._answers = answers
        self._engine = engine
        self._counters: list[Path] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # the plugin's own answers for its cells
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if not sys.stdin.readline():
            pytest.exit("whoever measures has enough")
        return (yield)

    def pytest_runtest_logfinish(self) -> None:
        os.write(self._answers, f"{self._used()}\n".encode())

    def _used(self) -> float:
        if self._engine != "docker":
            return 0.0
        if not self._counters:  # both containers are there after the first cell
            import docker

            client = docker.from_env()
            mine = {"label": f"bootmatrix.owner={os.getpid()}"}
            containers = [each["Id"] for each in client.api.containers(filters=mine)]
            client.close()
            # A container can be counted in both versions' hierarchies: once is enough.
            found = {
                container: path
                for path in Path("/sys/fs/cgroup").glob("**/cpu*") for container in containers
                if path.name in ("cpuacct.usage", "cpu.stat") and container in path.parent.name
                and cpu_seconds(path) > 0
            }  # fmt: skip
            self._counters = list(found.values())
        return sum(cpu_seconds(path) for path in self._counters)


def cpu_seconds(counter: Path) -> float:
    """What a control group has used, by its counter: cpuacct.usage (v1) or cpu.stat (v2)."""
    text = counter.read_text()
    if counter.name == "cpuacct.usage":
        return int(text) / 1e9
    words = text.split()
    return int(words[words.index("usage_usec") + 1]) / 1e6 if "usage_usec" in words else 0.0


def _harness(engine: str, source: str, destination: str, firmware: str) -> None:
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "same.yaml"
        file.write_text(matrix(source, destination, 2000, firmware))
        pytest.main(
            [str(file), "-q", "-p", "no:cacheprovider", "--bootmatrix-engine", engine,
             "--bootmatrix-run-dir", f"{place}/run", "-s"],
            plugins=[_Gate(answers, engine)],
        )  # fmt: skip


if __name__ == "__main__":
    kind, *builds = sys.argv[1:]
    if kind == "plain":
        _plain(*builds)
    else:
        _harness(kind, *builds)
