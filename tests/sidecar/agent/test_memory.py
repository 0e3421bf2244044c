"""The agent's memory: it outlives the process, and a folder that cannot be used is not a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmendpoint_sidecar.agent.memory import Made, Memory, ReadFile


def test_it_outlives_the_process_and_finds_a_model_by_each_of_its_names(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "state")
    memory.note_made("Tiny:latest", Made("definition", "digest"))
    memory.note_file("/a.gguf", ReadFile(1, 2, "sha256:3"))
    memory.note_preloaded(["b:1", "a:1"])
    later = Memory(tmp_path / "state")
    assert later.made("library/tiny") == Made("definition", "digest")
    assert later.file("/a.gguf") == ReadFile(1, 2, "sha256:3")
    assert later.preloaded == ("a:1", "b:1")
    later.forget("TINY:latest")
    assert Memory(tmp_path / "state").made("tiny:latest") is None
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["agent.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"models": 3}', b"\xff"])
def test_a_file_that_is_not_readable_counts_as_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "agent.json").write_bytes(content)
    memory = Memory(tmp_path)
    assert memory.made("a:1") is None
    memory.note_made("a:1", Made("x", "y"))
    assert Memory(tmp_path).made("a:1") == Made("x", "y")


def test_without_a_writable_folder_it_lasts_as_long_as_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (None, tmp_path / "file"):
        memory = Memory(folder)
        memory.note_made("a:1", Made("x", "y"))
        assert memory.made("a:1") == Made("x", "y")
