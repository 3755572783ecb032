"""Tests mirror the folders: each module with logic has a test file of its name, beside no other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, TESTS = ROOT / "harness" / "bootmatrix", ROOT / "tests"

# What has nothing that a test could turn red but by repeating it.
DECLARATIONS = {
    "boards/aarch64.py": "rows of boards, which tests/boards look at",
    "boards/loongarch64.py": "rows of boards",
    "boards/ppc64.py": "rows of boards",
    "boards/riscv64.py": "rows of boards",
    "boards/s390x.py": "rows of boards",
    "boards/sparc64.py": "rows of boards",
    "boards/x86_64.py": "rows of boards",
    "guests/base.py": "two dataclasses without methods",
    "witnesses/observation.py": "dataclasses without methods",
}


def modules() -> Iterator[Path]:
    """Each module, but packages of which there is no more than what they are called."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE)
        if path.name != "__init__.py" or has_logic(path):
            yield module


def has_logic(path: Path) -> bool:
    """Whether a package's own file has a function or a class, and not only names and tables."""
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef)
               for node in ast.walk(ast.parse(path.read_text())))


def test_of(module: Path) -> Path:
    """The file that must have a module's tests: a package's is called as the package."""
    name = module.parent.name if module.name == "__init__.py" else module.stem
    return module.parent / f"test_{name}.py"


test_of.__test__ = False  # type: ignore[attr-defined]  # it is none


def untested(found: Iterator[Path], tests: Path) -> list[str]:
    """The modules that have no test file of their name and stand in neither table."""
    return [str(module) for module in found
            if str(module) not in DECLARATIONS
            and not (tests / test_of(module)).is_file()]


def test_each_module_has_a_test_file_of_its_name() -> None:
    assert untested(modules(), TESTS) == []


def test_a_module_without_one_is_found(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "test_guest.py").touch()
    found = iter([Path("run/guest.py"), Path("run/new.py"), Path("boards/x86_64.py")])
    assert untested(found, tmp_path) == ["run/new.py"]
    assert test_of(Path("run/steps/__init__.py")) == Path("run/steps/test_steps.py")


@pytest.mark.parametrize("module", DECLARATIONS)
def test_the_tables_name_modules_that_need_to_stand_there(module: str) -> None:
    assert (PACKAGE / module).is_file(), f"{module} is gone: its row can go, too"
    assert not (TESTS / test_of(Path(module))).is_file(), f"{module} has tests: its row can go"


@pytest.mark.parametrize("module", DECLARATIONS)
def test_declarations_decide_nothing(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text())
    deciding = (ast.FunctionDef, ast.Lambda, ast.While, ast.For, ast.IfExp)
    assert not [node for node in ast.walk(tree) if isinstance(node, deciding)]


@pytest.mark.parametrize("folder", sorted({path.parent for path in TESTS.rglob("test_*.py")}),
                         ids=lambda folder: str(folder.relative_to(TESTS)))
def test_a_folder_of_tests_is_one_of_the_package_s(folder: Path) -> None:
    inside = folder.relative_to(TESTS)
    assert inside.parts[:1] in (("on_qemu",), ("project",)) or (PACKAGE / inside).is_dir()
