"""What 10,000 records cost: the page, its first moment in a browser, the gate. No QEMU runs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .meter import Figure

HOSTS, SCENARIOS, POLICIES = 21, 5, ("stock", "guest-owned", "guest-owned-versioned",
                                     "machine-owned", "reread")
CONSOLE = "SeaBIOS (version 1.14.0-2)\r\nBooting from Hard Disk..\r\nBOOTMATRIX up boot=1\r\n"


def report(runs: int, count: int = 10_000) -> Iterator[tuple[str, Figure]]:
    """The figures of this file, in the form that ``make bench`` shows."""
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        one = _write(here / "old" / "records.jsonl", count, consoles=False)
        other = _write(here / "new" / "records.jsonl", count, consoles=True)
        made = [_command("report", str(other), "-o", str(here / "out")) for _ in range(runs)]
        yield (f"report of {count:,} records",
               Figure(statistics.median(seconds for seconds, _ in made), 5, "s", runs))
        yield (f"report of {count:,} records, memory",
               Figure(max(memory for _, memory in made), 200, "MB", runs))
        page = here / "out" / "index.html"
        yield "its page", Figure(page.stat().st_size / 1e6, None, "MB", 1)
        yield ("its page interactive, headless Chromium",
               Figure(statistics.median(_interactive(page) for _ in range(runs)), 1, "s", runs))
        gate = [_command("gate", "--baseline", str(one), str(other))[0] for _ in range(runs)]
        yield (f"gate of {count:,} against {count:,}",
               Figure(statistics.median(gate), 2, "s", runs))
        accepted = here / "baseline.jsonl"
        _command("gate", "--accept", "--baseline", str(accepted), str(one))
        gate = [_command("gate", "--baseline", str(accepted), str(other))[0] for _ in range(runs)]
        yield (f"gate of {count:,} against an accepted baseline",
               Figure(statistics.median(gate), None, "s", runs))


def _write(path: Path, count: int, *, consoles: bool) -> Path:
    """Records as real runs write them, 10 kB each: with all packages of each host."""
    path.parent.mkdir()
    hosts = [{"host": f"h{n}", "qemu": f"{5 + n}.{n % 3}.0", "build": f"build-{n}",
              "firmware": f"seabios-1.{14 + n % 4}.0-{n % 3}", "firmware_sha256": f"{n:064x}",
              "packages": {f"libsomething-{n}-{k}": f"1:{k}.2-3+deb{n}u1" for k in range(105)},
              "digest": f"{n:064x}"} for n in range(HOSTS)]
    pairs = [(a, b) for a in hosts for b in hosts if a is not b]
    with path.open("w") as file:
        for number in range(count):
            pair, rest = divmod(number, len(POLICIES) * SCENARIOS)
            record = _record(*pairs[pair % len(pairs)], POLICIES[rest % len(POLICIES)],
                             f"scenario-{rest // len(POLICIES)}", number)
            file.write(json.dumps(record) + "\n")
            if consoles:
                for process in ("1-source", "2-destination"):
                    log = path.parent / record["artifacts"] / process / "console.log"
                    log.parent.mkdir(parents=True)
                    log.write_text(CONSOLE)
    return path


def _record(
    source: dict[str, Any], destination: dict[str, Any], policy: str, scenario: str, number: int
) -> dict[str, Any]:
    cell = (f"{source['host']}-to-{destination['host']},pc-q35-5.2,{policy},{scenario},ahci")
    bad = number % 97 == 0
    boots = [
        {"n": n, "step": step, "host": host, "expected": source["firmware"],
         "console": None if bad and n == 2 else source["firmware"], "rom": source["firmware"],
         "up": not (bad and n == 2), "seconds": 0.1, "banners": ["1.14.0-2"],
         "rom_sha256": source["firmware_sha256"], "console_candidates": [source["firmware"]],
         "disk": "A", "expected_disk": "A", "counter": n, "smbios": ["SeaBIOS", "1.14.0-2"]}
        for n, step, host in ((1, "start", "source"), (2, "reset", "destination"))]
    argv = ["/usr/bin/qemu-system-x86_64", "-nodefaults", "-machine", "pc-q35-5.2", "-m", "32",
            "-chardev", "socket,id=monitor,path=/cell/1-source/monitor.sock,server=off"] * 3
    return {
        "schema": 1, "cell": {
            "id": cell, "source": source, "destination": destination, "machine": "pc-q35-5.2",
            "policy": policy, "scenario": scenario, "accel": "tcg", "disk": "ahci"},
        "verdict": "silent" if bad else "pass",
        "reason": "boot 2 (reset on destination): nothing on the console within 3.0 s" if bad
        else "seabios (start on source), then seabios (reset on destination)",
        "known": None, "boots": boots,
        "steps": [{"step": step, "seconds": 0.1, "outcome": outcome, "host": host,
                   **({"rom": source["firmware"]} if step == "migrate" else {})}
                  for step, outcome, host in (("start", "ok", "source"),
                                              ("migrate", "completed", "destination"),
                                              ("reset", "ok", "destination"))],
        "qemus": [{"role": role, "version": "5.2.0", "argv": argv}
                  for role in ("source", "destination")],
        "engine": "bubblewrap", "seconds": 0.4, "artifacts": f"cells/{cell}",
        "matrix": "matrices/many.yaml"}


def _command(*arguments: str) -> tuple[float, float]:
    """(wall seconds, most memory in MB) of a command, with Python's own start."""
    code = ("import resource, sys; from bootmatrix.cli.main import main; "
            "status = main(sys.argv[1:]);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr);"
            "sys.exit(status if status > 1 else 0)")
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True,
                          text=True, check=True)
    return time.monotonic() - begun, int(done.stderr.split()[-1]) * 1024 / 1e6


def _interactive(page: Path) -> float:
    """Seconds from navigation until the heat map is drawn and the filters answer."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from helpers.browser import browser

    with browser() as chromium:
        chromium.open(page)
        milliseconds = chromium.until("document.documentElement.dataset.ready", seconds=30)
    return int(milliseconds) / 1000


if __name__ == "__main__":
    for label, figure in report(3):
        print(f"{label:<48} {figure.value:8.2f} {figure.unit:<3} goal {figure.goal} {figure.met}")
