"""Records in files: each line as it arrives, and whose file it is."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.records import jsonl
from bootmatrix.records.jsonl import RecordWriter, read_records, replace_records
from helpers.records import record


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "records.jsonl"
    with RecordWriter(path) as writer:
        assert not path.exists()
        writer.write(record())
        assert len(list(read_records(path))) == 1  # at once, not when the file is closed
        writer.write(record(policy="stock"))
    assert list(read_records(path)) == [record(), record(policy="stock")]


@pytest.mark.parametrize("line", ["{", "[]", '{"verdict": "pass"}'])
def test_what_is_no_record_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        writer.write(record())
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"records\.jsonl:2: no "):
        list(read_records(path))


def test_a_file_is_made_anew_or_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for append, lines in ((False, 1), (True, 2), (False, 1)):
        with RecordWriter(path, append=append) as writer:
            writer.write(record())
        assert len(path.read_bytes().splitlines()) == lines


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        writer.write(record())
        with pytest.raises(UserError, match="another run writes into this file"):
            RecordWriter(path).open()
        assert len(list(read_records(path))) == 1, "the other one has emptied nothing"
    with RecordWriter(path, append=True) as writer:
        writer.write(record())


@pytest.mark.parametrize(("deed", "words"), [
    (lambda path: path.unlink(), "the records have gone: No such file or directory"),
    (lambda path: path.write_text(""), "the records were changed by somebody else"),
    (lambda path: path.write_bytes(2 * path.read_bytes()), "the records were changed by somebody"),
    # another file of the same size
    (lambda path: (path.with_name("x").write_bytes(path.read_bytes()),
                   path.with_name("x").replace(path)), "the records were changed by somebody"),
])
def test_what_somebody_else_did_to_the_file(
    tmp_path: Path, deed: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        writer.check()  # there is nothing yet that could be changed
        writer.write(record())
        writer.check()
        deed(path)
        with pytest.raises(UserError, match=words):
            writer.check()
        with pytest.raises(UserError, match=words):
            writer.write(record())


def test_a_record_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "records.jsonl", os.write
    room = [10**6]

    def full(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = write(fd, data[: min(room[0], 100)])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", full)
    with RecordWriter(path) as writer:
        writer.write(record())
        before = path.read_bytes()
        room[0] = 150
        with pytest.raises(UserError, match="cannot write records: No space left on device"):
            writer.write(record())
        assert path.read_bytes() == before
        room[0] = 10**6
        writer.write(record(policy="stock"))
    assert list(read_records(path)) == [record(), record(policy="stock")]


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with RecordWriter(path) as writer, pytest.raises(UserError, match="nobody reads this pipe"):
        writer.open()


def test_a_pipe_takes_records_too(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(reader, "rb", buffering=0) as pipe, RecordWriter(path) as writer:
        writer.write(record())
        writer.check()
        assert json.loads(pipe.read(1 << 20)) == record()


def test_where_no_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/r\.jsonl: cannot write records: File exists"):
        RecordWriter(tmp_path / "file" / "r.jsonl").open()
    with pytest.raises(UserError, match="cannot write records: Is a directory"):
        RecordWriter(tmp_path).open()


def test_a_last_line_that_was_cut_off_is_left_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    line = json.dumps(record()).encode()
    path.write_bytes(line + b"\n\n" + line[:-40])
    told: list[str] = []
    assert list(read_records(path, told.append)) == [record()]
    assert told == [f"{path}:3: the last record was cut off, and is left out"]
    # A whole line that is none, and the last one whole but without its end:
    path.write_bytes(line[:-40] + b"\n" + line)
    with pytest.raises(UserError, match=":1: no JSON"):
        list(read_records(path, told.append))
    path.write_bytes(line)
    assert list(read_records(path)) == [record()]
    path.write_bytes(b"[]")
    with pytest.raises(UserError, match=":1: no run record"):
        list(read_records(path))


def test_a_line_of_the_longest_length_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    line = json.dumps(record()).encode() + b"\n"
    path.write_bytes(line)
    monkeypatch.setattr(jsonl, "LONGEST_LINE", len(line))
    assert len(list(read_records(path))) == 1
    monkeypatch.setattr(jsonl, "LONGEST_LINE", len(line) - 1)
    with pytest.raises(UserError, match=":1: a line of more than 0 MiB is no record"):
        list(read_records(path))


def test_records_are_replaced_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    replace_records(path, [record(), record(policy="stock")])
    replace_records(path, [record(policy="reread")])
    assert list(read_records(path)) == [record(policy="reread")]
    monkeypatch.setattr(Path, "rename", lambda *paths: Path("/none/x").touch())
    with pytest.raises(UserError, match="cannot be written: No such file"):
        replace_records(path, [record()])
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"
    assert list(read_records(path)) == [record(policy="reread")]


def test_what_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        writer.write(record(reason="\udc80 → é"))
    assert "? → é" in path.read_text("utf-8")


def test_how_many_values_a_file_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes far more of memory than of the file: two bytes are a list."""
    path = tmp_path / "records.jsonl"
    line = json.dumps(record()).encode() + b"\n"
    path.write_bytes(line * 3)
    most = 3 * sum(map(line.count, (b",", b"[", b"{")))
    monkeypatch.setattr(jsonl, "MOST_VALUES", most)
    assert len(list(read_records(path))) == 3
    monkeypatch.setattr(jsonl, "MOST_VALUES", most - 1)
    with pytest.raises(UserError, match=f":3: more than {most - 1} values up to here"):
        list(read_records(path))
