"""Machines for tests of clusters: network namespaces with addresses of their own on one bridge.

Each has its own cache and its own process tree. It needs root, as CI has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore, cache_home
from bootmatrix.cell import Cell
from bootmatrix.cluster.model import HostData, Task
from bootmatrix.cluster.slot import TABLE
from bootmatrix.cluster.table import Packing, Table
from bootmatrix.model import HostSpec
from bootmatrix.policies import Policy
from bootmatrix.steps.library import LIBRARY, written
from helpers import planted_slot

SLOT = [sys.executable, planted_slot.__file__]
_WORKER = """
import sys
from bootmatrix.cluster import slots
if {slot!r}:
    slots.SLOT = tuple({slot!r})
    slots.HUNG_SECONDS = 5.0
from bootmatrix.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Network:
    """A switch, which the test itself is on, and machines behind it. Leaving it ends all.

    The switch is in a namespace of its own: a firewall of this machine's would filter what goes
    through a bridge here, as Docker's does.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._mark = f"bm{os.getpid() % 100000}"
        self._subnet = f"10.{77 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
        self._names: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def switch(self) -> str:
        """The namespace of the switch."""
        return f"{self._mark}-switch"

    def __enter__(self) -> Network:
        _ip("netns", "add", self.switch)
        self._names.append(self.switch)
        _ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "bridge", "up")
        self.plug(f"{self._mark}t", 1)
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self.processes[::-1]:
            end(process)
        for name in self._names[::-1]:
            _ip("netns", "del", name)  # and with its end of a cable goes the other

    def plug(self, cable: str, number: int, namespace: str | None = None) -> str:
        """Connect a namespace with the switch; its address."""
        there = ["-n", namespace] if namespace else []
        _ip("-n", self.switch, "link", "add", f"port{number}", "type", "veth", "peer", "name",
            cable, "netns", namespace or "1")
        _ip("-n", self.switch, "link", "set", f"port{number}", "master", "bridge", "up")
        _ip(*there, "addr", "add", f"{self._subnet}.{number}/24", "dev", cable)
        _ip(*there, "link", "set", cable, "up")
        return f"{self._subnet}.{number}"

    def machine(self, number: int) -> Machine:
        """A machine with a number from 2 on."""
        name = f"{self._mark}-{number}"
        _ip("netns", "add", name)
        self._names.append(name)
        _ip("-n", name, "link", "set", "lo", "up")
        return Machine(self, name, f"port{number}", self.plug("eth0", number, name))


class Machine:
    """A network namespace, as a machine."""

    def __init__(self, network: Network, name: str, outside: str, address: str) -> None:
        self.network = network
        self.name = name
        self.address = address
        self._outside = outside
        self.cache = network.home / name / "cache"
        (self.cache / "bootmatrix").mkdir(parents=True)

    def with_roots(self) -> Machine:
        """Let it have the images that the machine of the test has."""
        (self.cache / "bootmatrix" / "roots").symlink_to(cache_home() / "roots")
        return self

    def start(self, argv: Sequence[str], environment: Mapping[str, str] | None = None,
              **how: Any) -> subprocess.Popen[bytes]:
        """Start a program there."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *argv], start_new_session=True,
            env={**os.environ, "XDG_CACHE_HOME": str(self.cache), **(environment or {})}, **how)
        self.network.processes.append(process)
        return process

    def scheduler(self, certificates: Path | None = None) -> Scheduler:
        """A scheduler, by dask's own command."""
        protocol, words = "tcp", []
        if certificates is not None:
            protocol, words = "tls", [
                "--protocol", "tls", "--tls-ca-file", str(certificates / "ca.pem"),
                "--tls-cert", str(certificates / "cert.pem"),
                "--tls-key", str(certificates / "key.pem")]
        with (self.network.home / f"{self.name}-scheduler.log").open("wb") as log:
            process = self.start(
                [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", self.address,
                 "--port", "8786", "--no-dashboard", *words], stdout=log, stderr=log,
                cwd=self.network.home)
        return Scheduler(f"{protocol}://{self.address}:8786", process)

    def worker(self, address: str, name: str, slots: int = 2, plan: Path | None = None,
               *words: str) -> subprocess.Popen[bytes]:
        """A worker; with a plan, one that boots nothing."""
        environment = {"BOOTMATRIX_TEST_MACHINE": name}
        if plan is not None:
            environment[planted_slot.PLAN] = str(plan)
            environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        script = _WORKER.format(slot=SLOT if plan is not None else [])
        with (self.network.home / f"{name}.log").open("ab") as log:
            return self.start(
                [sys.executable, "-c", script, "worker", address, "--name", name, "-n",
                 str(slots), "--engine", "bubblewrap", "--insecure", "--no-doctor", *words],
                environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def cut(self) -> None:
        """Take its link down."""
        _ip("-n", self.network.switch, "link", "set", self._outside, "down")

    def mend(self) -> None:
        """Put its link up."""
        _ip("-n", self.network.switch, "link", "set", self._outside, "up")


class Scheduler:
    """A scheduler that was started."""

    def __init__(self, address: str, process: subprocess.Popen[bytes]) -> None:
        self.address = address
        self.process = process


RUN = "0123456789abcdef"
CELL = "old-to-new,pc-i440fx-5.2,stock,migrate-reset,ahci"


def a_task(home: Path, **changes: Any) -> tuple[Task, Packing, Table]:
    """A cell as a task, with the builds of its run, which are written to ``home``, too."""
    store = ImageStore()
    builds, packing = Builds(store), Packing()
    specs = [HostSpec("old", "debian-bullseye"), HostSpec("new", "debian-bookworm")]
    cell = Cell(tuple(specs), "pc-i440fx-5.2", Policy.STOCK, LIBRARY["migrate-reset"])
    assert cell.id == CELL
    hosts = [HostData(name=spec.name, builds=packing.key(builds.host(spec)), arch="x86_64")
             for spec in specs]
    table = packing.table(builds.firmwares())
    (home / TABLE).write_text(table.model_dump_json())
    steps: Any = [written(step) for step in cell.scenario.steps]  # it reads them as they come
    task = Task(
        run=RUN, matrix="m.yaml", id=cell.id, hosts=hosts, values=cell.values, words={}, guest=None,
        steps=steps, seconds=5.0, patience=None, debug_log=True, known=[], repeat=1, engine=None,
        share=False, all_artifacts=False, attempt=1)
    return task.model_copy(update=changes), packing, table


class Loopback:
    """A scheduler and workers on this machine alone, which boot nothing. Leaving it ends all."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.plan = plan_in(home)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.schedule()

    def schedule(self, port: int = 0) -> Scheduler:
        """Start a scheduler."""
        process = subprocess.Popen(
            [sys.executable, "-c", f"from bootmatrix.cluster.local import main; main({port})"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.processes.append(process)
        assert process.stdout is not None
        return Scheduler(process.stdout.readline().decode().strip(), process)

    def worker(self, name: str, slots: int = 2) -> subprocess.Popen[bytes]:
        """Start a worker."""
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _WORKER.format(slot=SLOT), "worker",
                 self.scheduler.address, "--name", name, "-n", str(slots), "--engine",
                 "bubblewrap", "--no-doctor"],
                env={**os.environ, planted_slot.PLAN: str(self.plan),
                     "PYTHONPATH": str(Path(__file__).parents[1])},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self.processes[::-1]:
            end(process)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


HEAD = """
schema: 1
hosts: {old: {qemu: debian-bullseye}, new: {qemu: debian-bookworm}}
axes:
  source: old
  destination: new
"""
"""What the matrices of planted cells begin with."""


def wait(seconds: float, come: Callable[[], object]) -> None:
    """Until it has come. What processes of others do has no event here."""
    begun = time.monotonic()
    while not come():
        assert time.monotonic() - begun < seconds
        time.sleep(0.1)


def plan_in(place: Path, **plan: Any) -> Path:
    """A plan for planted slots, in a file."""
    file = place / "plan.json"
    new = file.with_suffix(".new")
    new.write_text(json.dumps(plan))
    new.replace(file)
    return file


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """End a process that a test has started, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)
        os.kill(process.pid, number)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def below(pid: int) -> list[int]:
    """A process's children, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *below(child)]
    return found


@contextmanager
def until(seconds: float, what: str) -> Iterator[None]:
    """Fail where the block, a loop that ends by itself, has taken longer."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds, what
