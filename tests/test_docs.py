"""The documentation fits the code: keys, modules, classes, commands, links and examples."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cells import cell

from harness import matrix, refusals
from harness.cli import _parser
from harness.lab import Lab
from harness.model import Known, Verdict, role_index
from harness.runner import Runner

HERE = Path(__file__).parent.parent
DOCS = HERE / "docs"
PAGES = sorted([HERE / "README.md", *DOCS.glob("*.md")])




def fences(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def rows(page: Path, heading: str | None = None) -> list[list[str]]:
    """The cells of the table rows of a page, or of one of its sections."""
    text = page.read_text()
    if heading is not None:
        text = re.split(rf"^## {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
        text = re.split(r"^## ", text, flags=re.MULTILINE)[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[part.strip() for part in line.strip("|").split(" | ")] for line in lines]


def code(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


# ---- record.md ------------------------------------------------------------------------------

SECTIONS = ("The record", "cell", "A host of the cell", "boots", "steps", "qemus")
RARE = {"The record": {"console_truncated", "error", "fingerprint", "known_state",
                       "layout_mismatch", "matrix", "options", "repeat", "retried", "shared"},
        "A host of the cell": {"root"}, "steps": {"flash", "told"}}  # not in every record


def documented(section: str) -> set[str]:
    """The keys that a section of record.md describes."""
    return {key for row in rows(DOCS / "record.md", section) for key in code(row[0])}


def is_role(key: str) -> bool:
    try:
        role_index(key)
    except ValueError:
        return False
    return True


def occurring(record: Mapping[str, Any]) -> dict[str, set[str]]:
    """The keys of a record, by the section of record.md that describes them."""
    roles = [value for key, value in record["cell"].items() if is_role(key)]
    groups: dict[str, Sequence[Mapping[str, Any]]] = {
        "The record": [record], "cell": [record["cell"]], "A host of the cell": roles,
        "boots": record["boots"], "steps": record["steps"], "qemus": record["qemus"],
    }  # fmt: skip
    return {section: {key for item in items for key in item} for section, items in groups.items()}


def test_every_key_of_a_record_is_documented_and_no_other(runner: Runner) -> None:
    known = Known((("machine", ("*",)),), (Verdict.SILENT,), "passes")
    record = runner.run(cell("bullseye sid", "guest-owned"), [known]).to_json()
    assert record["verdict"] == "pass", record["reason"]
    for section, keys in occurring(record).items():
        described = documented(section)
        assert keys <= described, f"record.md, {section}: not described"
        ours = {key for key in described if not is_role(key)} - RARE.get(section, set())
        # A cell of two hosts has no host-3, and what its steps had to tell differs.
        assert ours <= keys, f"record.md, {section}: described, but not there"
    guest = next(step["guest"] for step in record["steps"] if "guest" in step)
    told = {row[0]: row[2] for row in rows(DOCS / "record.md", "steps")}["`guest`"]
    assert set(guest) == set(code(told))


def test_a_key_that_is_not_documented_is_found(runner: Runner) -> None:
    record = runner.run(cell("sid", "stock", "cold-boot")).to_json()
    record["boots"][0]["planted"] = 1
    assert occurring(record)["boots"] - documented("boots") == {"planted"}


def test_the_rare_keys(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise OSError("planted")

    monkeypatch.setattr("harness.runner.run_steps", broken)
    broken_record = runner.run(cell("sid", "stock", "cold-boot")).to_json()
    unsupported = runner.run(replace(cell("sid", "stock", "cold-boot"), machine="none")).to_json()
    assert "error" in broken_record
    for record in (broken_record, unsupported):
        for section, keys in occurring(record).items():
            assert keys <= documented(section)


# ---- architecture.md, refusals.md -----------------------------------------------------------


def test_the_architecture_has_every_room_and_in_the_layers_of_the_contract() -> None:
    # The contract is exhaustive: import-linter fails for a module that it does not name.
    contract = (HERE / "pyproject.toml").read_text().split("\nlayers = [")[1].split("\n]")[0]
    layers = [re.findall(r"\w+", line) for line in re.findall(r'^ *"(.*)",', contract, re.M)]
    described = [code(row[1]) for row in rows(DOCS / "architecture.md", "Layers")
                 if row[1].startswith("`")]  # fmt: skip
    height = {name: index for index, layer in enumerate(layers) for name in layer}
    there = {path.stem for path in (HERE / "harness").glob("[a-z]*.py")} & set(height)
    named = {name for row in described for name in row}
    assert there <= named, "docs/architecture.md, Layers: rooms that are not named"
    assert named <= set(height), "docs/architecture.md, Layers: rooms that there are not"
    order = [{height[name] for name in row} for row in described]
    for above, below in itertools.pairwise(order):
        assert max(above) <= min(below), "docs/architecture.md, Layers: another order than ours"


def test_every_module_of_a_package_is_in_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text()
    for package in (HERE / "harness").glob("*/__init__.py"):
        for path in package.parent.glob("[a-z]*.py"):
            assert f"`{path.stem}`" in text, f"{path.relative_to(HERE)}"


def test_every_class_of_refusal_is_documented_with_an_example_of_it() -> None:
    table = {code(row[0])[0]: code(row[1])[0] for row in rows(DOCS / "refusals.md")
             if code(row[0])}  # fmt: skip
    kinds = {kind for kind, _ in refusals._CLASSES}
    assert set(table) == kinds | {"rom-size", "other"}  # the harness finds rom-size itself
    for kind, example in table.items():
        if kind != "rom-size":
            assert refusals.classify(f"qemu-system-x86_64: {example}\n").kind == kind


def test_every_verdict_is_documented() -> None:
    described = {code(row[0])[0] for row in rows(DOCS / "model.md", "Verdicts") if code(row[0])}
    assert described == {verdict.value for verdict in Verdict}


# ---- commands, examples, links --------------------------------------------------------------


def commands(program: str) -> list[tuple[str, list[str]]]:
    """(page, argv) of the shell commands in all pages' console blocks."""
    found = []
    for page in PAGES:
        for line in "".join(fences(page, "console")).splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0] == program:
                found.append((page.name, words[1:]))
    return found


@pytest.mark.parametrize(("page", "argv"), commands("bootmatrix"), ids=str)
def test_bootmatrix_commands_parse(page: str, argv: list[str]) -> None:
    options = _parser().parse_args(argv)
    for path in getattr(options, "matrices", []):
        assert (HERE / path).is_file() or path == Path("matrices/mine.yaml")


@pytest.mark.parametrize(("page", "argv"), commands("pytest"), ids=str)
def test_pytest_commands_collect_something(page: str, argv: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *argv, "--collect-only", "-q", "-p", "no:cacheprovider",
         "--bootmatrix-run-dir", str(tmp_path)],
        cwd=HERE, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_commands_to_check() -> None:
    assert len(commands("bootmatrix")) >= 5
    assert len(commands("pytest")) >= 2


def test_make_targets_exist() -> None:
    text = (HERE / "README.md").read_text()
    targets = set(re.findall(r"make (demo|test|check)\b", text))
    assert targets >= {"demo", "test"}
    makefile = (HERE / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def slug(heading: str) -> str:
    """A heading's anchor, as the usual renderers make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def broken_links(page: Path, text: str) -> list[str]:
    """The relative links of a page that lead nowhere."""
    broken = []
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists():
            broken.append(link)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            if anchor not in map(slug, headings):
                broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken_links(page, page.read_text())


def test_a_broken_link_is_found() -> None:
    text = "[a](docs/model.md#verdicts) [b](docs/none.md) [c](docs/model.md#none)"
    assert broken_links(HERE / "README.md", text) == ["docs/none.md", "docs/model.md#none"]


def test_the_index_has_every_page() -> None:
    text = (DOCS / "index.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in text


def test_the_readmes_example_is_the_example() -> None:
    (block,) = fences(HERE / "README.md", "python")
    test = block.partition("\n\n\n")[2]
    assert test
    assert test in (HERE / "examples" / "test_own_guest.py").read_text()


def test_the_readmes_matrix_is_one(tmp_path: Path) -> None:
    whole, known = fences(HERE / "README.md", "yaml")
    file = tmp_path / "mine.yaml"
    file.write_text(whole + known)
    loaded = matrix.load(file)
    machines = {"debian-bookworm": ("pc-q35-7.2",), "debian-sid": ("pc-q35-7.2", "pc-q35-11.1")}
    assert len(loaded.cells(lambda host: machines[str(host.qemu)])) == 2 * 5
    assert len(loaded.known) == 1


@pytest.mark.parametrize("block", fences(DOCS / "writing-tests.md", "python"),
                         ids=lambda block: re.findall(r"def (\w+)", block)[-1])
def test_examples_of_writing_tests_pass(lab: Lab, tmp_path: Path, block: str) -> None:
    scope: dict[str, Any] = {}
    exec(compile(block, "writing-tests.md", "exec"), scope)
    functions = [name for name in scope if name.startswith("test_")]
    for name in functions:
        scope[name](lab)
    if not functions:
        assert scope["look"](tmp_path / "look") == "seabios-1.17.0-1"
