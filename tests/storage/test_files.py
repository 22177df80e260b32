"""Files are written whole or not at all, and JSON is read back or named as damaged."""

import os
import stat

import pytest

from hvax.storage.files import append, fsync_folder, write_atomically
from hvax.storage.json_files import read_json
from hvax.storage.logs import read_log


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_content_is_written_and_replaced(tmp_path):
    path = tmp_path / "file"
    for content in (b"first", b"", b"the third\0\n"):
        write_atomically(path, content)
        assert path.read_bytes() == content
        assert names(tmp_path) == ["file"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("step", ["fsync", "fdopen", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch, step, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_a_failure_leaves_nothing_where_there_was_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        write_atomically(tmp_path / "file", b"new")
    assert names(tmp_path) == []


def test_content_is_on_disk_before_the_name_points_to_it(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, original=original: (calls.append(name), original(*a))
        )
    write_atomically(tmp_path / "file", b"x")
    assert calls == ["fsync", "replace", "fsync"]  # the content, the rename, the folder


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "no" / "file", b"x")
    with pytest.raises(FileNotFoundError):
        fsync_folder(tmp_path / "no")


# JSON


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[1]", "it holds no JSON object"),
        (b"{", "line 1"),
        (b"[" * 10**5, "it is nested too deeply"),
        (b'{"a": 1' + b"0" * 400 + b"}", "an integer of 401 digits"),
        (b'{"a": [-1' + b"0" * 5000 + b"]}", "an integer of 5001 digits"),
        (b'{"a": 1e400}', "1e400, which no float holds"),
        (b'{"a": NaN}', "NaN, which is no JSON"),
        (b'{"a": -Infinity}', "-Infinity, which is no JSON"),
    ],
)
def test_json_that_hvax_has_not_written_is_told_by_its_file(content, says, tmp_path):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"results.json is damaged: .*{says}"):
        read_json(tmp_path / "results.json")


def test_the_largest_integers_are_read(tmp_path):
    (tmp_path / "a.json").write_text(f'{{"a": [{2**64 - 1}, {-(2**63)}], "b": 1e308}}')
    assert read_json(tmp_path / "a.json") == {"a": [2**64 - 1, -(2**63)], "b": 1e308}


# Logs


def test_a_damaged_line_of_a_log_is_an_error_or_left_out(tmp_path):
    log = tmp_path / "skipped.jsonl"
    append(log, '{"step": 1, "epoch": 1}\n{"step": 2}\n[\n{"step": 3, "epoch": 1}\n{"step"')
    assert [row["step"] for row in read_log(log, leave_out_damaged=True)] == [1, 3]
    with pytest.raises(
        ValueError, match=r"skipped\.jsonl is damaged in line 2: it must hold a step"
    ):
        read_log(log)
    assert read_log(tmp_path / "metrics.jsonl") == []


# Windows


def test_windows_flushes_no_folder(tmp_path, monkeypatch):
    """It cannot be opened there, so nothing can be warned of."""
    folder = tmp_path / "missing"
    monkeypatch.setattr(os, "name", "nt")
    fsync_folder(folder)


def test_lines_end_alike_on_every_system(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")
    append(tmp_path / "log", "a\nb\n")
    assert (tmp_path / "log").read_bytes() == b"a\nb\n"
