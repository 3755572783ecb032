"""The suite's rule for tests that need a Docker engine: run, named in one line, or a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent.parent / "conftest.py"


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


def test_without_such_tests_nothing_is_said(suite: pytest.Pytester) -> None:
    result = suite.runpytest("-k", "one")
    result.assert_outcomes(passed=1, deselected=2)
    assert "Docker engine" not in result.stdout.str()
