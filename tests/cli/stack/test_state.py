"""State files: private, replaced as a whole, and in memory while the disk is full."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.state import (
    Kind,
    ProcessRecord,
    Stack,
    read_process,
    read_processes,
    read_stack,
    remove_state,
    write_process,
    write_stack,
)

STACK = Stack("1", 1.5, {"--simulator": True}, (), ())
RECORD = ProcessRecord("sidecar", 1, 2, ("python",), "localhost:1", 3.0, Kind.SIDECAR)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    folders = Folders(tmp_path / "state")
    folders.create()
    return folders


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Provide a folder on a real file system without space. It is a small one in memory, which root can mount."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir(mode=0o700)
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        (folder / "state").mkdir()
        with pytest.raises(OSError, match="space"):
            (folder / "filler").write_bytes(bytes(128 * 1024))
        yield folder / "state"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_files_and_folders_are_for_the_user_only(folders: Folders) -> None:
    write_stack(folders, STACK)
    write_process(folders, RECORD)
    for path in folders.root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert stat.S_IMODE(folders.root.stat().st_mode) == 0o700


def test_what_was_written_is_read(folders: Folders) -> None:
    write_stack(folders, STACK)
    write_process(folders, RECORD)
    assert read_stack(folders) == STACK
    assert read_processes(folders) == {"sidecar": RECORD}
    remove_state(folders)
    assert read_stack(folders) is None
    assert read_processes(folders) == {}


@pytest.mark.parametrize("text", ["", "{", "null", '{"version": 1}', "\x00" * 50, "[" * 100_000])
def test_a_damaged_file_counts_as_absent(folders: Folders, text: str) -> None:
    (folders.root / "stack.json").write_text(text)
    (folders.processes / "sidecar.json").write_text(text)
    assert read_stack(folders) is None
    assert read_process(folders, "sidecar") is None
    write_stack(folders, STACK)
    assert read_stack(folders) == STACK


def test_on_a_full_disk_the_state_is_in_memory(full_disk: Path) -> None:
    folders = Folders(full_disk)
    folders.create()
    assert folders.configs.is_relative_to(full_disk.parents[1] / "runtime")
    write_stack(folders, STACK)
    write_process(folders, RECORD)
    again = Folders(full_disk)
    assert read_stack(again) == STACK
    assert read_process(again, "sidecar") == RECORD
    (full_disk.parent / "filler").unlink()
    write_stack(again, STACK)
    assert (full_disk / "stack.json").exists()
    remove_state(again)
    assert read_stack(again) is None
    assert read_processes(again) == {}


def test_a_folder_of_another_user_in_memory_is_not_used(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    spare = folders.places[1]
    assert spare.parent == tmp_path
    spare.mkdir(mode=0o755)
    assert spare not in folders.places
    spare.chmod(0o700)
    assert spare in folders.places


def test_other_errors_are_not_hidden(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        write_stack(folders, STACK)
    assert not list(folders.root.glob(".stack.json*"))
