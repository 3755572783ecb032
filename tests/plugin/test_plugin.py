"""The pytest face, in real pytest sessions with planted verdicts."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_import_brings_in_nothing_heavy() -> None:
    heavy = ("pydantic", "ruamel", "docker", "rich", "qemu", "pexpect", "asyncio",
             "bootmatrix.matrix.expansion", "bootmatrix.builds.image_store",
             "bootmatrix.run.runner", "bootmatrix.report.table")
    code = ("import pytest, sys; before = set(sys.modules); import bootmatrix.plugin; "
            "print(*sorted(set(sys.modules) - before))")
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         check=True).stdout.split()
    assert "bootmatrix.plugin" in new
    assert [name for name in new if name in heavy or name.split(".")[0] in heavy] == []


def test_a_session_without_a_matrix_stays_light(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import sys
        def test_light():
            assert not {"ruamel.yaml", "docker", "bootmatrix.matrix.expansion"} & set(sys.modules)
    """)
    pytester.makefile(".yaml", other="services: {web: {image: x}}")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert not (pytester.path / "runs").exists()
