"""The command line in a process of its own, with planted verdicts and a store without images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helpers import forked

M = "matrices/m.yaml"
# The store of a machine with some images, without those images.
SCRIPT = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import bootmatrix.builds.image_store
from bootmatrix.errors import ImageError, UserError

class Store:
    def __init__(self):
        self._built = Path("built.json")
        self._there = json.loads(self._built.read_text())
    def names(self, arch=None):
        return ("debian-bullseye", "debian-bookworm", "debian-sid")
    def for_arch(self, name, arch):
        return name
    def kinds(self, name=None):
        return ()
    def is_built(self, name):
        return name in self._there
    def check(self, name):
        pass
    def build(self, names, progress, jobs=2):
        for name in names:
            if name == "debian-bookworm":
                raise ImageError("mmdebstrap failed", status=1, tail="no such suite")
            progress(f"{name}: built")
        self._there += names
        self._built.write_text(json.dumps(self._there))
    def qemu(self, name):
        return SimpleNamespace(name=name, firmware="seabios-1")
    def firmware(self, name):
        return None
    def firmwares(self):
        return ()
    def listing(self):
        return tuple(bootmatrix.builds.image_store.BuildRow(
            name, name[7:], name in self._there, "5.2.0", "seabios-1",
            185_000_000, "ab" * 32, "2026-01-01") for name in self.names())
    def check_unused(self, names):
        pass
    def remove(self, names):
        return 185_000_000

real = bootmatrix.builds.image_store.ImageStore
for name, module in list(sys.modules.items()):
    if name.startswith("bootmatrix.") and getattr(module, "ImageStore", None) is real:
        module.ImageStore = Store
# The real one has images of the real store's, in use by other tests; and takes long to import.
sys.modules["bootmatrix.engines.docker"] = SimpleNamespace(
    remove_images=lambda names, home: len(names))
from bootmatrix.__main__ import main
sys.exit(main())
"""

NOT_RUN = {"verdict": "unsupported", "reason": "QEMU 11.1.3 has no machine pc-q35-5.2"}


def place(directory: Path) -> Path:
    """A directory with the command in it, and two images."""
    (directory / "command.py").write_text(SCRIPT)
    (directory / "built.json").write_text('["debian-bullseye", "debian-sid"]')
    return directory


def command(*arguments: str) -> list[str]:
    return [sys.executable, "command.py", *arguments]


def bootmatrix(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("PYTEST_", "COLUMNS"))}
    environment["XDG_CACHE_HOME"] = str(here / "cache")
    return forked.run(["command.py", *arguments], cwd=here, env=environment,
                      program=(here / "command.py").read_text())


def ran(here: Path) -> list[str]:
    lines = (here / "rig.log").read_text().splitlines()
    return [line.removeprefix("run ") for line in lines if line.startswith("run ")]


def shell(here: Path, script: str) -> subprocess.CompletedProcess[str]:
    """A script of bash in which ``$B`` is the command; its status is the command's."""
    environment = os.environ | {"B": f"{sys.executable} command.py", "M": M,
                                "XDG_CACHE_HOME": str(here / "cache")}
    environment.pop("PYTEST_CURRENT_TEST", None)
    return subprocess.run(["bash", "-c", f"{script}; exit ${{PIPESTATUS[0]}}"], cwd=here,
                          capture_output=True, text=True, timeout=300, env=environment)


def finished(here: Path) -> int:
    (path,) = here.glob("runs/*/records.jsonl")
    return len(path.read_text().splitlines())
