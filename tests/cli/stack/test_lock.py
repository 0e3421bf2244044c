"""Locks on folders: one holder, no file, and a short look at the lock does not disturb."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from llmendpoint_cli.stack.lock import exclusive, wait_for_lock
from llmendpoint_common.process.errors import StackError
from llmendpoint_common.process.folder_lock import is_locked, try_lock


def test_a_lock_has_one_holder_and_ends_with_it(tmp_path: Path) -> None:
    first = try_lock(tmp_path)
    assert first is not None
    assert is_locked(tmp_path)
    assert try_lock(tmp_path) is None
    os.close(first)
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_whoever_needs_the_lock_waits_until_a_look_at_it_is_over(tmp_path: Path) -> None:
    looking = try_lock(tmp_path)
    assert looking is not None
    timer = threading.Timer(0.1, os.close, (looking,))
    timer.start()
    number = wait_for_lock(tmp_path, 10)
    timer.join()
    assert number is not None
    os.close(number)


def test_a_command_that_cannot_get_the_lock_says_why(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(StackError, match="another `llmendpoint up`"), exclusive(tmp_path, 0.05):
        pass


def test_a_command_that_waits_for_another_one_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holding = try_lock(tmp_path)
    assert holding is not None
    timer = threading.Timer(1.5, os.close, (holding,))
    timer.start()
    with exclusive(tmp_path, 30):
        pass
    timer.join()
    said = f"waiting for another `llmendpoint up`, `down` or `traffic`, which is using {tmp_path}, 30 s at most\n"
    assert capsys.readouterr().err == said
