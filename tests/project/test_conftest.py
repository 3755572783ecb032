"""The suite's own rules: what not every machine has, and waiting for a child process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.engines import confinement
from helpers.leavings import wait_for

CONFTEST = Path(__file__).parents[2] / "conftest.py"


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{pytester.path}/no.sock")
    monkeypatch.delenv("BOOTMATRIX_REQUIRE_DOCKER", raising=False)
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makeini("[pytest]\naddopts = -p no:hypothesispytest\n")
    pytester.makepyfile("""
        import pytest
        def test_one(): pass
        @pytest.mark.docker
        def test_two(): pass
        @pytest.mark.docker
        def test_three(): pass
    """)
    return pytester


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_without_an_engine_the_rest_runs(suite: pytest.Pytester, workers: tuple[str, ...]) -> None:
    result = suite.runpytest(*workers)
    result.assert_outcomes(passed=1, deselected=0 if workers else 2)
    named = [line for line in result.outlines if "Docker engine" in line]
    assert named == ["not run without a Docker engine: 2 tests"]


def test_a_required_engine_that_is_missing_fails_at_once(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTMATRIX_REQUIRE_DOCKER", "1")
    result = suite.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: BOOTMATRIX_REQUIRE_DOCKER=1, but docker: no engine*"])


@pytest.fixture
def without_kvm(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setattr(confinement, "KVM", "/dev/not-there")
    monkeypatch.delenv("BOOTMATRIX_REQUIRE_KVM", raising=False)
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile("""
        import pytest
        def test_one(): pass
        @pytest.mark.kvm
        def test_two(): pass
    """)
    return pytester


def test_without_kvm_the_rest_runs(without_kvm: pytest.Pytester) -> None:
    result = without_kvm.runpytest()
    result.assert_outcomes(passed=1, deselected=1)
    assert "not run without KVM: 1 tests" in result.outlines


def test_required_kvm_that_is_missing_fails_at_once(
    without_kvm: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTMATRIX_REQUIRE_KVM", "1")
    result = without_kvm.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([
        "ERROR: BOOTMATRIX_REQUIRE_KVM=1, but this host has no /dev/not-there"])


def test_without_such_tests_nothing_is_said(suite: pytest.Pytester) -> None:
    result = suite.runpytest("-k", "one")
    result.assert_outcomes(passed=1, deselected=2)
    assert "Docker engine" not in result.stdout.str()


@pytest.mark.parametrize("then", ["", "sys.stdin.read()"])
def test_a_child_that_does_not_do_it_has_said_why(then: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", f"import sys; print('no image', flush=True); {then}"], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with pytest.raises(pytest.fail.Exception, match="and it has said: no image"):
        wait_for(child, lambda: False, 1 if then else 300)
    assert child.returncode is not None
