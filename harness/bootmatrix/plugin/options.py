"""The options and markers that pytest has from us."""

from __future__ import annotations

import pytest

from bootmatrix.cell import AXES
from bootmatrix.run.options import RUN, SELECTION

_HOST_MARKERS = {
    "host": "a host that the guest runs on",
    "source": "the host that the guest starts on",
    "destination": "the host that the guest moves to",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options with a long prefix, so that no other plugin's can collide with them."""
    group = parser.getgroup("bootmatrix", "firmware matrices (bootmatrix)")
    for option in (*RUN, *SELECTION):
        if option.ours:
            text = option.help.replace(f"{option.flag} ", f"{option.pytest} ")
            group.addoption(option.pytest, help=text, **option.how)


def add_markers(config: pytest.Config) -> None:
    """A marker for each axis, and for the hosts."""
    meanings = _HOST_MARKERS | {name: axis.meaning for name, axis in AXES.items()}
    for axis, meaning in meanings.items():
        config.addinivalue_line("markers", f"{axis}(name): {meaning}, in cells of a matrix")
    # pyserial's, of the port of a board on the network.
    config.addinivalue_line(
        "filterwarnings", r"ignore:set(Daemon|Name)\(\) is deprecated:DeprecationWarning")
