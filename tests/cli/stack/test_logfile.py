"""Logs are rotated while a process writes, keep what a full disk refused, and can be followed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from llmendpoint_cli.stack.logfile import PARTS, LogFile, tail_of
from llmendpoint_cli.stack.loglines import Follower, Line, last_lines, readable


def content(path: Path) -> str:
    """Return all parts of a log, the oldest first."""
    parts = [path.with_name(f"{path.name}.{part}") for part in range(PARTS - 1, 0, -1)]
    return "".join(part.read_text() for part in (*parts, path) if part.exists())


class FullDisk:
    """Replaces os.write: it takes `free` more bytes, and then fails as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        self.free = free
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, number: int, data: bytes) -> int:
        if self.free <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = self._write(number, data[: self.free])
        self.free -= count
        return count


def test_only_the_user_can_read_a_log(tmp_path: Path) -> None:
    LogFile(tmp_path / "a.log").write(b"line\n")
    assert stat.S_IMODE((tmp_path / "a.log").stat().st_mode) == 0o600


def test_rotation_loses_no_line_and_cuts_none(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", max_bytes=1000)
    lines = [f"line {number} {'x' * (number % 40)}\n" for number in range(90)]
    text = "".join(lines)
    for start in range(0, len(text), 37):
        log.write(text[start : start + 37].encode())
    assert content(log.path) == text
    parts = sorted(tmp_path.iterdir())
    assert len(parts) > 2
    # A part may be larger by the rest of its last line.
    assert all(part.stat().st_size <= 1000 + 60 for part in parts)
    assert all(part.read_text().endswith("\n") for part in parts if part != log.path)


def test_the_size_of_all_parts_is_bounded(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", max_bytes=1000)
    for number in range(1000):
        log.write(f"line {number}\n".encode())
    log.write(b"y" * 4321)
    assert len(list(tmp_path.iterdir())) == PARTS
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * PARTS * 1000


def test_a_full_disk_loses_nothing_that_fits_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(tmp_path / "a.log")
    disk = FullDisk(monkeypatch, free=25)
    text = "".join(f"line {number}\n" for number in range(1000))
    for line in text.splitlines(keepends=True):
        log.write(line.encode())
    assert len(content(log.path)) == 25
    disk.free = 10**9
    log.flush()
    assert content(log.path) == text


def test_what_does_not_fit_into_memory_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(tmp_path / "a.log")
    disk = FullDisk(monkeypatch, free=0)
    for _ in range(30):
        log.write(b"z" * 99_999 + b"\n")
    disk.free = 10**9
    log.write(b"last\n")
    assert "2000000 bytes of this log were lost" in content(log.path)
    assert content(log.path).endswith("last\n")


def test_a_log_that_was_removed_is_created_again(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    log.write(b"one\n")
    log.path.unlink()
    log.write(b"two\n")
    assert log.path.read_text() == "two\n"


def test_the_tail_reaches_into_older_parts(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", max_bytes=20)
    for number in range(10):
        log.write(f"line {number}\n".encode())
    assert tail_of(log.path, 5).split() == ["line", "5", "line", "6", "line", "7", "line", "8", "line", "9"]


def test_following_reads_every_line_through_rotations(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", max_bytes=100)
    log.write(b"before\n")
    follower = Follower(tmp_path, "a")
    seen: list[Line] = []
    for number in range(200):
        log.write(f"line {number}\n".encode())
        if number % 11 == 0:
            seen += follower.read()
    seen += follower.read()
    assert [line.text for line in seen] == [f"line {number}" for number in range(200)]
    follower.close()


def test_following_begins_before_the_log_exists(tmp_path: Path) -> None:
    follower = Follower(tmp_path, "a")
    assert list(follower.read()) == []
    LogFile(tmp_path / "a.log").write(b"first\n")
    assert list(follower.read()) == [Line("a", "first")]
    follower.close()


def test_logs_are_merged_by_time_and_lines_without_one_stay_in_place(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("2026-01-01T00:00:01 a1\n  traceback\n2026-01-01T00:00:04 a2\n")
    (tmp_path / "b.log").write_text('{"time": "2026-01-01T00:00:02.5+00:00"}\n2026-01-01T00:00:03 b2\n')
    found = [line.text for line in last_lines(tmp_path, ["a", "b"], 10)]
    assert found == ["2026-01-01T00:00:01 a1", "  traceback", '{"time": "2026-01-01T00:00:02.5+00:00"}',
                     "2026-01-01T00:00:03 b2", "2026-01-01T00:00:04 a2"]  # fmt: skip
    assert [line.text for line in last_lines(tmp_path, ["a", "b"], 2)] == found[-2:]


def test_a_line_cannot_control_the_terminal() -> None:
    assert readable("red \x1b[31m \u202e") == "red \\x1b[31m \\u202e"
    assert readable(
        '{"time": "2026-01-01T10:20:30Z", "level": "info", "logger": "x", "message": "hi", "run": "1"}'
    ) == ("10:20:30 INFO    hi run=1")
