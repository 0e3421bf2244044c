"""The API tests in several processes: each module runs once, and the last process sees the audit logs of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.api_server.parts import Part, part_of


def test_a_module_runs_in_the_process_that_claims_it_first(tmp_path: Path) -> None:
    first, second = Part(1, 2, tmp_path), Part(2, 2, tmp_path)
    assert first.claims("test_a.py")
    assert not second.claims("test_a.py")
    assert second.claims("test_b.py")
    assert not first.claims("test_b.py")
    # Each test of a module asks again.
    assert first.claims("test_a.py")
    assert second.claims("test_b.py")


def test_the_last_process_gets_the_logs_of_the_others(tmp_path: Path) -> None:
    first, second, last = (Part(number, 3, tmp_path) for number in (1, 2, 3))
    logs = [tmp_path / name for name in ("one", "two")]
    for log in logs:
        log.write_text(f"requests of {log.name}")
    first.leave(logs)
    # pytest deletes the folders of tests when other runs have ended.
    for log in logs:
        log.unlink()
    with pytest.raises(AssertionError):
        last.others(seconds=0.1)
    second.leave([])
    assert [log.read_text() for log in last.others(seconds=0.1)] == ["requests of one", "requests of two"]
    assert (first.is_last, second.is_last, last.is_last) == (False, False, True)


def test_without_a_part_one_process_runs_everything() -> None:
    part = part_of({})
    assert part.claims("test_a.py")
    assert part.is_last
    assert part.others(seconds=0) == []


def test_the_environment_names_the_part(tmp_path: Path) -> None:
    assert not part_of({"LLMENDPOINT_API_PART": "2/3", "LLMENDPOINT_API_FOLDER": str(tmp_path)}).is_last
    assert part_of({"LLMENDPOINT_API_PART": "3/3", "LLMENDPOINT_API_FOLDER": str(tmp_path)}).is_last
