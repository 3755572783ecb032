"""The pytest face: what pytest calls, and the fixtures, from the modules that have them.

They import only what pytest has loaded anyway until a matrix is collected. The command line
imports them before pytest does, which needs no rewriting of asserts here: PYTEST_DONT_REWRITE.
"""

from bootmatrix.plugin.cells import (
    pytest_internalerror,
    pytest_keyboard_interrupt,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    pytest_runtestloop,
)
from bootmatrix.plugin.collection import (
    pytest_collect_file,
    pytest_collection_finish,
    pytest_collection_modifyitems,
)
from bootmatrix.plugin.fixtures import (
    bootmatrix,
    bootmatrix_builds,
    bootmatrix_engine,
    bootmatrix_store,
)
from bootmatrix.plugin.options import pytest_addoption
from bootmatrix.plugin.recorder import (
    pytest_configure,
    pytest_configure_node,
    pytest_xdist_auto_num_workers,
)

__all__ = [
    "bootmatrix", "bootmatrix_builds", "bootmatrix_engine", "bootmatrix_store",
    "pytest_addoption", "pytest_collect_file", "pytest_collection_finish",
    "pytest_collection_modifyitems", "pytest_configure", "pytest_configure_node",
    "pytest_internalerror", "pytest_keyboard_interrupt",
    "pytest_runtest_makereport", "pytest_runtest_protocol", "pytest_runtestloop",
    "pytest_xdist_auto_num_workers",
]  # fmt: skip
