"""The documentation fits the code: keys, modules, classes, commands, links and examples."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bootmatrix
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cli.main import main, parser
from bootmatrix.firmware import names as firmware_names
from bootmatrix.lab import Lab
from bootmatrix.matrix import expansion
from bootmatrix.model import Known, Verdict, role_index
from bootmatrix.run.runner import Runner
from bootmatrix.steps import STEPS
from bootmatrix.witnesses import refusal
from helpers import docs_commands
from helpers.cells import cell
from helpers.docs_commands import HERE, PAGES, fences
from helpers.own_builds import linked_cache

DOCS = HERE / "docs"
MATRICES = sorted((HERE / "matrices").glob("*.yaml"))


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
# Not in every record.
RARE = {"The record": {"black_box", "console_truncated", "error", "matrix_name", "fingerprint",
                       "ended", "failed_step", "known_link", "known_state", "layout_mismatch",
                       "logs_cut", "matrix", "options", "repeat", "retried", "run", "run_again",
                       "shard", "shared", "waited", "went_round", "worker", "attempts"},
        "cell": {"memory", "arguments", "devices", "tpm", "words", "limits"},
        "A host of the cell": {"root", "saved", "arguments"},
        "boots": {"usual", "wall_seconds", "pci", "blocks", "net", "tpm", "program"},
        "steps": {"ended", "flash", "told", "wall_seconds"},
        "qemus": {"banners_cut", "clock", "events_cut", "tpm"}}


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
    record = runner.run(cell("bullseye sid", "guest-owned"), [known])
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
    record = runner.run(cell("sid", "stock", "cold-boot"))
    boot: dict[str, Any] = {**record["boots"][0], "planted": 1}
    assert occurring({**record, "boots": [boot]})["boots"] - documented("boots") == {"planted"}


def test_the_rare_keys(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise OSError("planted")

    monkeypatch.setattr("bootmatrix.run.runner.run_steps", broken)
    broken_record = runner.run(cell("sid", "stock", "cold-boot"))
    unsupported = runner.run(replace(cell("sid", "stock", "cold-boot"), machine="none"))
    assert "error" in broken_record
    for record in (broken_record, unsupported):
        for section, keys in occurring(record).items():
            assert keys <= documented(section)


# ---- architecture.md, refusal.md -----------------------------------------------------------


PACKAGE = Path(bootmatrix.__file__).parent


def test_the_architecture_has_every_package_in_the_layers_of_the_contract() -> None:
    # The contract is exhaustive: import-linter fails for a package that it does not name.
    contract = (HERE / "pyproject.toml").read_text().split("\nlayers = [")[1].split("\n]")[0]
    layers = [re.findall(r"\w+", line) for line in re.findall(r'^ *"(.*)",', contract, re.M)]
    described = [code(row[1]) for row in rows(DOCS / "architecture.md", "Layers")
                 if row[1].startswith("`")]  # fmt: skip
    assert described == [[*layer] for layer in layers]


def modules(package: Path) -> set[str]:
    return {path.stem for path in package.glob("*.py")} - {"__init__"}


def test_the_architecture_has_the_modules_of_each_package() -> None:
    described: dict[str, set[str]] = {}
    package = ""
    for row in rows(DOCS / "architecture.md", "Packages")[2:]:
        package = code(row[0])[0] if code(row[0]) else package
        described.setdefault(package, set()).update(code(row[1]))
    there = {".".join(init.parent.relative_to(PACKAGE).parts): modules(init.parent)
             for init in PACKAGE.rglob("*/__init__.py")}
    assert described == {package: names for package, names in there.items() if names}


def test_every_class_of_refusal_is_documented_with_an_example_of_it() -> None:
    table = {code(row[0])[0]: code(row[1])[0] for row in rows(DOCS / "refusals.md")
             if code(row[0])}  # fmt: skip
    kinds = {kind for kind, _ in refusal._CLASSES}
    assert set(table) == kinds | {"rom-size", "other"}  # the harness finds rom-size itself
    for kind, example in table.items():
        if kind != "rom-size":
            assert refusal.classify(f"qemu-system-x86_64: {example}\n").kind == kind


def test_every_verdict_is_documented() -> None:
    described = {code(row[0])[0] for row in rows(DOCS / "model.md", "Verdicts") if code(row[0])}
    assert described == {verdict.value for verdict in Verdict}


def test_every_step_is_documented_with_its_options_and_no_other() -> None:
    page = (DOCS / "matrix-file.md").read_text()
    table = page.split("\n| step | options | left out |\n")[1].split("\n\n")[0]
    described: dict[str, list[str]] = {}
    name = ""
    for step, option in re.findall(r"^\| (.*?) ?\| (.*?) ?\|", table, re.MULTILINE)[1:]:
        name = code(step)[0] if step else name
        described.setdefault(name, []).extend(re.findall(r"^`([\w-]+)`:", option))
    assert described == {kind: [option.name for option in step.options]
                         for kind, step in STEPS.items()}


# ---- commands, examples, links --------------------------------------------------------------


def commands(program: str) -> list[tuple[str, list[str]]]:
    """(page, argv) of the shell commands in all pages."""
    found = []
    for page in PAGES:
        for line in docs_commands.commands(page):
            filled_in, _ = docs_commands.prepared(line)
            words = shlex.split(re.split(" > | && ", filled_in)[0])
            if words and words[0] == program:
                found.append((page.name, words[1:]))
    return found


@pytest.mark.parametrize(("page", "argv"), commands("bootmatrix"), ids=str)
def test_bootmatrix_commands_parse(page: str, argv: list[str]) -> None:
    options = parser().parse_args(argv)
    for path in getattr(options, "matrices", []):
        assert (HERE / path).is_file() or path.name in ("mine.yaml", "my.yaml")


@pytest.mark.parametrize(("page", "argv"), commands("pytest"), ids=str)
def test_pytest_commands_collect_something(page: str, argv: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *argv, "--collect-only", "-q", "-p", "no:cacheprovider",
         "--bootmatrix-run-dir", str(tmp_path)],
        cwd=HERE, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_preparation_is_for_a_command_that_there_is() -> None:
    printed = [command for page in PAGES for command in docs_commands.commands(page)]
    for preparation in docs_commands.PREPARED:
        assert any(preparation.part in command for command in printed), preparation.part


@pytest.mark.parametrize("path", MATRICES, ids=lambda path: path.stem)
def test_no_upload_breaks_a_shipped_matrix(path: Path, store: ImageStore) -> None:
    """Not a suite's next security update, nor a new upstream version in sid."""
    named = {str(host.firmware) for host in expansion.load(path).hosts if host.firmware}
    assert [name for name in named if re.search(r"-\d[\w.]*\.\w+[-+]", name)] == []
    sids = [store.beside("debian-sid", kind).name for kind in store.kinds("debian-sid")]
    assert [name for name in named if not firmware_names.GLOB.search(name)
            and any(firmware_names.means(name, sid) for sid in sids)] == []


@pytest.mark.parametrize("path", MATRICES, ids=lambda path: path.stem)
def test_a_shipped_matrix_can_be_listed_where_the_demo_was_run(
    path: Path, store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    linked_cache(store, tmp_path / "bootmatrix", *store.names())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["list", str(path)]) == 0, capsys.readouterr().err
    assert re.search(r"^\d+ cells$", capsys.readouterr().out, re.MULTILINE)


def test_there_are_commands_to_check() -> None:
    assert len(commands("bootmatrix")) >= 60
    assert len(commands("pytest")) >= 3


def test_commands_are_found_wherever_they_are_printed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Say `make demo`, or `bootmatrix run` as in `bootmatrix fwcfg diff`:\n\n"
        "    make demo\n\n```console\n$ bootmatrix doctor\nok\n```\n"
        "| see | `bootmatrix repro CELL` ([page](x)) |\n```sh\n# no\ncat x\n```\n"
        "```yaml\nx: `make test`\n```\n")
    assert list(docs_commands.commands(page)) == [
        "make demo", "make demo", "bootmatrix doctor", "bootmatrix repro CELL", "cat x"]
    assert {"make demo", "bootmatrix run matrices/mine.yaml", "pytest examples"} <= set(
        docs_commands.commands(HERE / "README.md"))


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
    loaded = expansion.load(file)
    machines = {"debian-bookworm": ("pc-q35-7.2",), "debian-sid": ("pc-q35-7.2", "pc-q35-11.1")}
    assert len(loaded.cells(lambda host: machines[str(host.qemu)])) == 2 * 5
    assert len(loaded.known) == 1


@pytest.mark.parametrize("block", fences(DOCS / "writing-tests.md", "python"),
                         ids=lambda block: re.findall(r"def (\w+)", block)[-1])
def test_examples_of_writing_tests_pass(
    lab: Lab, store: ImageStore, tmp_path: Path, block: str
) -> None:
    scope: dict[str, Any] = {}
    exec(compile(block, "writing-tests.md", "exec"), scope)
    functions = [name for name in scope if name.startswith("test_")]
    for name in functions:
        scope[name](lab)
    if not functions:
        assert scope["look"](tmp_path / "look") == store.qemu("debian-sid").firmware
