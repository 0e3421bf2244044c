"""The folders of load tests in the state folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from llmendpoint_cli.stack.runs import remove_old_runs
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
