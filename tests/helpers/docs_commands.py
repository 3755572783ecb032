"""The commands of README.md and docs/: read out of the pages, and run as they are printed.

    python tests/helpers/docs_commands.py [--warm] [PAGE ...]

The pages' commands run in order in one clone, with one cache that is empty at first (--warm: the
user's) and one virtual environment: README.md's `make demo` makes them. What another page had
just so is not run again. At the end come the shipped matrices that no page runs. It takes long:
`make check-docs`. tests/project/test_docs.py parses the same commands at each `make test`.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from bootmatrix.engines.confinement import kvm_complaint
from bootmatrix.errors import Status
from bootmatrix.terminal import echo

HERE = Path(__file__).resolve().parents[2]
README = HERE / "README.md"
PAGES = [README, *sorted((HERE / "docs").glob("*.md"))]
CELL = "bullseye-to-sid,pc-q35-5.2,stock,migrate-reset,ahci"
HOUR = 3600

# A block of code, a line that is indented as one, or code within a line of text.
_CODE = re.compile(
    r"^```(?P<language>\w*)\n(?P<block>.*?)^```$"
    r"|^ {4}(?P<line>(?:make|bootmatrix|pytest) [^\n]+)$"
    r"|`(?P<inline>(?:make|bootmatrix|pytest) [^`\n]+)`", re.DOTALL | re.MULTILINE)
# Text speaks of `bootmatrix run` and `bootmatrix fwcfg diff`: a command's name is no command.
_NAME = re.compile(r"bootmatrix (?!doctor)[\w-]+( [a-z_]+)?")


@dataclass(frozen=True)
class Preparation:
    """What a command needs before it can be run as it is printed, and why."""

    part: str
    """A part of the commands that need it."""
    why: str
    shell: str = ""
    replace: dict[str, str] = field(default_factory=dict)
    status: int = 0
    skipped: bool = False


def fences(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return [found["block"] for found in _CODE.finditer(page.read_text())
            if found["language"] == language]


def _saved(text: str, file: str) -> str:
    return f"printf %s {shlex.quote(text)} >{file}"


_RUN = f"bootmatrix run matrices/quickstart.yaml --cell {CELL} --run-dir"
_EARLIER = (f"test -d runs/earlier || {{ first=$(ls -d runs/2* | head -1) && test -n \"$first\" && "
            f"cp -r $first runs/earlier; }} || {_RUN} runs/earlier")
_REMOVE = ("bootmatrix images rm own; bootmatrix images rm $(bootmatrix images list --json | "
           "jq -r '.[] | select(.built).name')")
PREPARED = (
    Preparation("../qemu/build", "a build tree of QEMU: bookworm's binaries, laid out as one",
                "bootmatrix images build debian-bookworm && "
                "{ test -d ../qemu/build || .venv/bin/python -c 'import sys; sys.path[:0] = "
                '["tests"]; from pathlib import Path; from helpers.own_builds import build_tree; '
                "from bootmatrix.builds.image_store import ImageStore; build_tree(ImageStore(), "
                "Path(\"../qemu/build\"))'; }"),
    Preparation("test=out/bios.bin", "a SeaBIOS of one's own: Debian's",
                "bootmatrix images build debian-sid && mkdir -p out && .venv/bin/python -c "
                "'from bootmatrix.builds.image_store import ImageStore; "
                "print(ImageStore().beside(\"debian-sid\", \"seabios\").path)' | "
                "xargs -I{} cp {} out/bios.bin"),
    Preparation("matrices/mine.yaml", "README's matrix, saved as it says",
                _saved(fences(README, "yaml")[0], "matrices/mine.yaml")),
    Preparation(" my.yaml", "a matrix: that of the page",
                _saved(fences(HERE / "docs" / "matrix-file.md", "yaml")[0], "my.yaml")),
    Preparation("run M ", "a matrix", replace={"run M ": "run matrices/quickstart.yaml "}),
    Preparation("run MATRIX --cell ID", "a matrix, and a cell's id",
                replace={"MATRIX --cell ID": f"matrices/quickstart.yaml --cell {CELL}"}),
    Preparation("run --json FILE", "a matrix, and a file",
                replace={"run --json FILE": f"run matrices/quickstart.yaml --cell {CELL} "
                                            "--json file.jsonl"}),
    Preparation("runs/2026-", "the directory of an earlier run", _EARLIER,
                {r"runs/2026-[-0-9a-fT]+": "runs/earlier"}),
    Preparation("RECORDS", "the records of a run", _EARLIER,
                {"RECORDS": "runs/earlier/records.jsonl"}),
    Preparation("report --which-policy", "the records of a run", _EARLIER,
                {"$": " runs/earlier/records.jsonl"}),
    Preparation(" CELL", "a cell's id", replace={" CELL": f" {CELL}"}),
    Preparation(" NAME", "a build's name", replace={" NAME": " debian-trixie"}),
    Preparation("repro records.jsonl", "the records of a run",
                f"test -f records.jsonl || {_RUN} runs/kept --json records.jsonl"),
    Preparation("runs/*/records.jsonl", "a run", _EARLIER),
    Preparation("--baseline base.jsonl records.jsonl", "the records of two runs",
                f"test -f records.jsonl || {_RUN} runs/kept --json records.jsonl; "
                "cp records.jsonl base.jsonl"),
    Preparation("report latest", "a run", _EARLIER),
    Preparation("report old.jsonl new.jsonl", "the records of two runs",
                f"test -f records.jsonl || {_RUN} runs/kept --json records.jsonl; "
                "cp records.jsonl old.jsonl; cp records.jsonl new.jsonl"),
    Preparation("ci/baseline.jsonl", "the release's records",
                "mkdir -p ci && test -f ci/baseline.jsonl || cp new.jsonl ci/baseline.jsonl"),
    Preparation("matrices/kvm.yaml", "KVM: without it no cell can be run",
                status=Status.USER_ERROR if kvm_complaint() else Status.GREEN),
    Preparation("bash repro.sh", "a guest that stays down: it says so by its status", status=1),
    Preparation("install bootmatrix", "tests/project/test_package.py installs what this tree makes",
                skipped=True),
    Preparation("apt-get install mmdebstrap", "images/setup.sh has done it", skipped=True),
    Preparation("bootmatrix completion", "is a shell's configuration", skipped=True),
    Preparation("--sha256 DIGEST", "what the other machine has printed", replace={
        " DIGEST": ' "$(sha256sum images.tar.gz | cut -c-64)"'}),
    Preparation("./build-qemu", "a repository of QEMU and its build script", skipped=True),
    Preparation("--attach", "a person at a terminal", skipped=True),
    Preparation("bench doctor", "switches a board", skipped=True),
    Preparation("bench console", "a person at a terminal, and a board", skipped=True),
    Preparation("run matrices/bench.yaml", "boards, which make demo-bench has", skipped=True),
    Preparation("bootmatrix explore", "explores for minutes, and may find something", skipped=True),
    Preparation("findings/finding-1.yaml", "what an exploration has found", replace={
        "runs/mine/findings/finding-1.yaml": "matrices/quickstart.yaml"}, skipped=True),
    Preparation("bootmatrix worker", "serves until it is ended", skipped=True),
    Preparation("--cluster t", "a scheduler, and workers on other machines", skipped=True),
    Preparation("make test", "is the suite, which runs this script's other half", skipped=True),
    Preparation("make check", "is part of the suite", skipped=True),
    Preparation("make bench", "measures, as root and on an idle machine", skipped=True),
    Preparation("make which-policy", "writes a page anew from runs of minutes", skipped=True),
    Preparation("preflight --measure", "writes a page anew from runs of minutes", skipped=True),
)


def commands(page: Path) -> Iterator[str]:
    """The shell commands of a page, in order: all of sh, what follows a prompt, and in the text."""
    for found in _CODE.finditer(page.read_text()):
        for line in (found["block"] or "").splitlines():
            if found["language"] == "console" and line.startswith("$ "):
                yield line.removeprefix("$ ")
            elif found["language"] == "sh" and line.strip() and not line.startswith(("#", " ")):
                yield line
        if found["line"] or (found["inline"] and not _NAME.fullmatch(found["inline"])):
            yield found["line"] or found["inline"]


def prepared(printed: str) -> tuple[str, list[Preparation]]:
    """A command with the page's placeholders filled in and without comment, and what it needs."""
    needed = [one for one in PREPARED if one.part in printed]
    command = re.sub(r"\s+# .*", "", printed)
    for one in needed:
        for old, new in one.replace.items():
            command = re.sub(old, new, command)
    return command, needed


class Checked:
    """A clone in which commands have been run, and what came of them."""

    def __init__(self, where: Path, environment: dict[str, str], warm: bool = False) -> None:
        self.where = where
        self.warm = warm
        self.environment = environment
        self.done: set[str] = set()
        self.failed: list[str] = []

    def run(self, command: str) -> int:
        """A command's exit status. Says how long it took."""
        echo(f"$ {command}")
        begun = monotonic()
        ended = subprocess.run(["bash", "-c", command], cwd=self.where, env=self.environment,
                               timeout=HOUR, stdin=subprocess.DEVNULL).returncode
        echo(f"  exit status {ended} after {monotonic() - begun:.0f} s")
        return ended

    def check(self, place: str, printed: str) -> None:
        """Run a command that is printed somewhere, unless it has been run just so."""
        command, needed = prepared(printed)
        why = [one.why for one in needed if one.skipped]
        if self.warm and "images rm" in command:
            why.append("would empty the user's cache")
        if why or command in self.done:
            echo(f"{place}: left out: {printed}: {why[0] if why else 'was run before'}")
            return
        self.done.add(command)
        for one in needed:
            if one.shell and self.run(one.shell):
                self.failed.append(f"{place}: {printed}: not prepared: {one.why}")
        status = sum(one.status for one in needed)
        if (ended := self.run(command)) != status:
            self.failed.append(f"{place}: {printed}: exit status {ended}, not {status}")


def _check(checked: Checked, pages: Sequence[Path]) -> None:
    if pages[0] != README:  # whose first command is `make demo`
        checked.check("Makefile", "make --quiet setup")
    for page in pages:
        for printed in commands(page):
            checked.check(page.name, printed)
    if pages == PAGES:
        for matrix in sorted((checked.where / "matrices").glob("*.yaml")):
            checked.check(matrix.name, f"bootmatrix run matrices/{matrix.name}")


def main() -> int:
    """Run them all, and list each that failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--warm", action="store_true", help="use the cache that is there")
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES, metavar="PAGE")
    options = parser.parse_args()
    begun = monotonic()
    with tempfile.TemporaryDirectory(prefix="docs-commands-") as scratch:
        clone = Path(scratch, "bootmatrix")
        environment = {**os.environ, "PATH": f"{clone}/.venv/bin:{os.environ['PATH']}",
                       "XDG_STATE_HOME": f"{scratch}/state", "TMPDIR": scratch}
        if not options.warm:
            environment["XDG_CACHE_HOME"] = f"{scratch}/cache"
        subprocess.run(["git", "clone", "--quiet", HERE, clone], check=True)
        checked = Checked(clone, environment, options.warm)
        try:
            _check(checked, list(map(Path.resolve, options.pages)))
        finally:
            if not options.warm:  # a Docker engine has a copy of what is in the cache
                checked.run(_REMOVE)
    for line in checked.failed:
        echo(f"FAILED {line}")
    echo(f"{len(checked.done)} commands in {(monotonic() - begun) / 60:.0f} min, "
        f"{len(checked.failed)} failed")
    return 1 if checked.failed else 0


if __name__ == "__main__":
    sys.exit(main())
