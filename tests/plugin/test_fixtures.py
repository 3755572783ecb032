"""The fixtures that tests of one's own get, and what they share with the cells of the session."""

from __future__ import annotations

import pytest

from helpers.planting import plant

TESTS = """
def test_one(request, bootmatrix_store, bootmatrix_builds, bootmatrix_engine):
    from bootmatrix.plugin.session import rig_of
    rig = rig_of(request.config)
    assert bootmatrix_store is rig.store
    assert bootmatrix_builds is rig.builds
    assert bootmatrix_engine is rig.engine
    assert bootmatrix_engine.name == "bubblewrap"
    assert bootmatrix_store.names()
"""


def test_they_are_those_of_the_session(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest("--bootmatrix-engine", "bubblewrap")
    result.assert_outcomes(passed=1)


def test_each_test_has_a_directory_of_its_name(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.parametrize("name", ["test_it-a-b-", "test_it-c-d-"], ids=["a/b", "c d"])
        def test_it(bootmatrix, request, name):
            directory = request.config.rootpath / "out" / "tests" / name
            assert bootmatrix._directory == directory
    """)
    result = pytester.runpytest(
        "--bootmatrix-engine", "bubblewrap", "--bootmatrix-run-dir", "out")
    result.assert_outcomes(passed=2)


def test_help_names_them(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    lines = pytester.runpytest("--fixtures").stdout.str()
    for name in ("bootmatrix_store", "bootmatrix_builds", "bootmatrix_engine", "bootmatrix "):
        assert name in lines
