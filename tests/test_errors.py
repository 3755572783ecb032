"""What the two kinds of error tell a reader."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from bootmatrix import errors
from bootmatrix.errors import (
    DeadlineExceeded,
    EngineError,
    GdbError,
    HarnessError,
    ImageError,
    MonitorError,
    QemuError,
    UserError,
)

CHILDREN = [DeadlineExceeded, EngineError, GdbError, ImageError, MonitorError, QemuError]


def test_the_rig_and_the_user_are_never_mixed_up() -> None:
    assert all(issubclass(child, HarnessError) for child in CHILDREN)
    assert not issubclass(UserError, HarnessError)
    assert not issubclass(HarnessError, UserError)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, Exception) and (
                value.__module__ == errors.__name__):
            assert f"{name} " in errors.__doc__


@pytest.mark.parametrize("kind", [HarnessError, *CHILDREN])
def test_all_that_a_reader_needs_is_told(kind: type[HarnessError]) -> None:
    error = kind("it ended", argv=["qemu", "-M", "q35"], status=1, tail="one\ntwo\n\n")
    assert (error.message, error.argv, error.status) == ("it ended", ("qemu", "-M", "q35"), 1)
    assert str(error) == (
        "it ended\nexit status: 1\ncommand: qemu -M q35\nlast output:\none\ntwo"
    )


def test_what_is_not_known_is_left_out() -> None:
    assert str(QemuError("it ended")) == "it ended"
    assert str(QemuError("it ended", status=0)) == "it ended\nexit status: 0"
    assert str(QemuError("it ended", tail="words")) == "it ended\nlast output:\nwords"


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "no such host"),
        ({"file": "m.yaml"}, "m.yaml: no such host"),
        ({"file": Path("a/m.yaml"), "line": 3}, "a/m.yaml:3: no such host"),
        ({"file": "m.yaml", "line": 3, "column": 7}, "m.yaml:3:7: no such host"),
        # without a file a line leads nowhere
        ({"line": 3, "column": 7}, "no such host"),
        ({"file": "m.yaml", "column": 7}, "m.yaml: no such host"),
    ],
)
def test_a_users_mistake_is_one_line(place: dict[str, object], text: str) -> None:
    assert str(UserError("no such host", **place)) == text  # type: ignore[arg-type]
    hinted = UserError("no such host", hint="accepted: a, b", **place)  # type: ignore[arg-type]
    assert str(hinted) == f"{text} (accepted: a, b)"
    assert (hinted.file, hinted.line, hinted.column) == (
        place.get("file"), place.get("line"), place.get("column"),
    )  # fmt: skip
