"""The command can be asked to end from its first moment on."""

from __future__ import annotations

import signal
import sys

import pytest

from bootmatrix import ending
from bootmatrix.__main__ import main
from bootmatrix.ending import ENDING
from bootmatrix.errors import Status


def test_there_is_a_command_to_end_before_all_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Importing:
        def find_spec(self, name: str, *others: object) -> None:
            if name == "bootmatrix.cli.main":
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ending, "_asked", False)
    handlers = {number: signal.getsignal(number) for number in ENDING}
    monkeypatch.delitem(sys.modules, "bootmatrix.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Importing(), *sys.meta_path])
    try:
        assert main() == Status.INTERRUPTED
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert capsys.readouterr().err == "bootmatrix: interrupted\n"
