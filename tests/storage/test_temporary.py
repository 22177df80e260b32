"""Temporary files of killed processes are removed, and those of living ones stay."""

import errno
import fcntl
import os
import subprocess
import sys
import time

import pytest

from hvax.storage import files, temporary
from hvax.storage.files import write_atomically
from hvax.storage.temporary import create_temporary, is_temporary, remove_stale_temporaries


def names(folder):
    return sorted(path.name for path in folder.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from hvax.storage.files import write_atomically
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path(sys.argv[1]) / "file", b"half")
"""


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    """In whatever folder; a real kill, at the first flush."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert done.returncode == -9
    (left,) = names(tmp_path)
    assert is_temporary(left) and (tmp_path / left).read_bytes() == b"half"
    write_atomically(tmp_path / "other", b"x")
    assert names(tmp_path) == ["other"]


def test_what_a_living_process_writes_stays(tmp_path):
    path, descriptor = create_temporary(tmp_path)
    try:
        write_atomically(tmp_path / "other", b"x")
        assert path.exists()
    finally:
        os.close(descriptor)
    remove_stale_temporaries(tmp_path)
    assert names(tmp_path) == ["other"]


def test_files_of_others_are_not_swept(tmp_path):
    theirs = [".hvax-notes.tmp", ".file.x1y2z3", ".000000000002.json.x1y2z3", "hvax-0.tmp", ".env"]
    for name in theirs:
        (tmp_path / name).write_text("mine")
    digits = ".hvax-0123456789abcdef.tmp"
    (tmp_path / digits).symlink_to(".env")
    (tmp_path / f"{digits[:-5]}0.tmp").mkdir()
    before = names(tmp_path)
    remove_stale_temporaries(tmp_path)
    remove_stale_temporaries(tmp_path / "missing")
    assert names(tmp_path) == before


def test_without_locks_nothing_is_swept(tmp_path, monkeypatch):
    path, descriptor = create_temporary(tmp_path)
    os.close(descriptor)

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    remove_stale_temporaries(tmp_path)
    assert path.exists()


@pytest.fixture
def windows(monkeypatch):
    """A system that neither renames nor removes a file that is open."""
    for module in (files, temporary):
        monkeypatch.setattr(module, "REMOVES_OPEN_FILES", False)


def test_windows_closes_a_file_before_it_is_renamed(windows, tmp_path, monkeypatch):
    opened, replace = [], os.replace

    def is_closed(source, target):
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        opened.append(any(os.path.realpath(link) == str(source) for link in links))
        replace(source, target)

    monkeypatch.setattr(os, "replace", is_closed)
    write_atomically(tmp_path / "file", b"x")
    assert opened == [False] and (tmp_path / "file").read_bytes() == b"x"


def test_windows_keeps_young_temporaries(windows, tmp_path):
    """One may be closed only to be renamed."""
    path, descriptor = create_temporary(tmp_path)
    os.close(descriptor)
    remove_stale_temporaries(tmp_path)
    assert path.exists()
    os.utime(path, (time.time() - 3600,) * 2)
    remove_stale_temporaries(tmp_path)
    assert not path.exists()
