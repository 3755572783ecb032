"""The fixtures that tests of one's own get, and what they share with the cells of the session."""

from __future__ import annotations

import pytest

from bootmatrix.builds.image_store import ImageStore
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


@pytest.mark.parametrize("more", [
    (), pytest.param(("-n", "1"), marks=pytest.mark.thorough)], ids=["here", "worker"])
def test_a_test_that_fails_tells_what_a_cell_that_fails_tells(
    pytester: pytest.Pytester, more: tuple[str, ...], store: ImageStore
) -> None:
    """Of each guest its QEMUs, the end of its console and its logs; and how to go on."""
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        def guest(bootmatrix):
            made = bootmatrix.guest("debian-sid", machine="pc-i440fx-5.2")
            assert made.start().up
            return made

        def test_passes(guest):
            pass

        def test_fails(bootmatrix, guest):
            bootmatrix.guest("debian-sid", machine="pc-q35-5.2")
            assert guest.reset().firmware == "another"

        @pytest.fixture
        def broken(guest):
            assert 0

        def test_breaks(broken):
            pass
    """)
    result = pytester.runpytest_subprocess(
        "--bootmatrix-engine", "bubblewrap", "--bootmatrix-run-dir", "out", *more)
    result.assert_outcomes(passed=1, failed=1, errors=1)
    told = result.stdout.str()
    assert told.count("bootmatrix guest 1") == 2
    assert told.count("bootmatrix guest 2") == 1
    assert told.count("the console's last lines:") == 2
    assert told.count("    BOOTMATRIX up boot=2 ") == 1
    assert told.count("    SeaBIOS (version 1.17.0") >= 2
    for test in ("fails", "breaks"):
        logs = f"out/tests/test_{test}/logs-1"
        assert f"logs: {logs}\n" in told
        assert (pytester.path / logs / "1-source" / "console.log").is_file()
        again = ("again: pytest --bootmatrix-engine=bubblewrap "
                 "test_a_test_that_fails_tells_what_a_cell_that_fails_tells.py"
                 f"::test_{test}\n")
        assert again in told
    assert "source: /usr/bin/qemu-system-x86_64 -nodefaults " in told
