"""The folders of load tests in the state folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llmendpoint_cli.commands.load import command_line
from llmendpoint_cli.stack.runs import remove_old_runs, use_stack
from llmendpoint_cli.stack.state import SidecarAddress, Stack
from llmendpoint_common.process.folder_lock import try_lock


def test_old_runs_are_removed_except_those_whose_folder_is_locked(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "running", "killed")):
        run = tmp_path / name
        run.mkdir()
        # The process ID of a run that was killed may belong to another process by now.
        (run / "progress.json").write_text(json.dumps({"state": "running", "pid": os.getpid()}))
        os.utime(run, (1000 - age, 1000 - age))
    lock = try_lock(tmp_path / "running")
    assert lock is not None
    remove_old_runs(tmp_path, 1)
    os.close(lock)
    assert {run.name for run in tmp_path.iterdir()} == {"new", "running"}


@pytest.mark.parametrize(
    ("url", "records"),
    [
        ("http://127.0.0.1:20001", "http://127.0.0.1:20002"),
        ("http://LOCALHOST:20001/v1", "http://127.0.0.1:20002"),
        ("http://[::1]:20001/", "http://127.0.0.1:20002"),
        ("http://127.0.0.1:20002", None),
        ("http://192.0.2.1:20001", None),
    ],
)
def test_a_run_through_a_proxy_of_the_stack_uses_its_records(
    monkeypatch: pytest.MonkeyPatch, url: str, records: str | None
) -> None:
    sidecar = SidecarAddress("one", "http://127.0.0.1:20001", "http://127.0.0.1:20002", "http://127.0.0.1:11434")
    stack = Stack("0", 0.0, {}, (sidecar,), ())
    monkeypatch.setattr("llmendpoint_cli.stack.runs.running_stack", lambda _: stack)
    options = command_line().parse([f"--url={url}"], environment={})
    use_stack(options)
    assert options.sidecar == records
