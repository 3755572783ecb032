"""A process that runs one cell whenever it is told to, for pairwise measuring.

    python -m benchmarks.driven plain SOURCE DESTINATION
    python -m benchmarks.driven docker|bubblewrap SOURCE DESTINATION

Each line on standard input runs a cell; the answer is a line with the CPU seconds that the
harness's containers have used so far (docker; 0 elsewhere). "plain" is benchmarks/plain.py, the
others are pytest with the plugin, a matrix, records, table and all.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import cmdline, guests
from harness.images import ImageStore, cache_home
from harness.model import Accel, Disk

from . import plain

MACHINE = "pc-i440fx-5.2"
MATRIX = """
schema: 1
hosts:
  source: {{qemu: {source}}}
{copies}
axes:
  source: source
  destination: [{names}]
  machine: pc-i440fx-5.2
  policy: stock
  scenario: migrate-reset
  disk: ide
boot-timeout: 20
"""


def matrix(source: str, destination: str, cells: int) -> str:
    """A matrix of so many cells that are alike but for the name of their destination."""
    names = [f"d{number}" for number in range(cells)]
    copies = "\n".join(f"  {name}: {{qemu: {destination}}}" for name in names)
    return MATRIX.format(source=source, copies=copies, names=", ".join(names))


def _plain(source: str, destination: str) -> None:
    store = ImageStore()

    def launch(build: str, role: str, name: str, incoming: bool) -> tuple[Path, tuple[str, ...]]:
        qemu = store.qemu(build)
        return qemu.root, cmdline.qemu_argv(cmdline.Launch(
            qemu.binary, MACHINE, Accel.TCG, Disk.IDE, "/cell/disk.img",
            f"/cell/{role}/bios.bin", f"/cell/{name}", incoming=incoming,
        ))  # fmt: skip

    one = launch(source, "source", "1-source", False)
    two = launch(destination, "destination", "2-destination", True)
    files = {"disk.img": guests.probe_disk("A", cache_home())} | {
        f"{role}/bios.bin": store.firmware(store.qemu(build).firmware).path
        for role, build in (("source", source), ("destination", destination))
    }
    for _ in sys.stdin:
        plain.run(one, two, files)
        print(0, flush=True)


class _Gate:
    """Lets pytest go on to its next item when a line comes in, and tells when it is done."""

    def __init__(self, answers: int, engine: str) -> None:
        self._answers = answers
        self._engine = engine
        self._counters: list[Path] = []

    def pytest_runtest_protocol(self, item: Any) -> None:
        if not sys.stdin.readline():
            item.session.shouldstop = "enough"

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


def _harness(engine: str, source: str, destination: str) -> None:
    import pytest

    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "same.yaml"
        file.write_text(matrix(source, destination, 2000))
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
