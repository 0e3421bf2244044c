"""The load generator as a program, with a run document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LoadResult:
    """What a run wrote: its summary, its request lines and its exit code."""

    summary: dict[str, Any]
    lines: list[dict[str, Any]]
    code: int


def run_load(folder: Path, url: str, load: dict[str, Any], **document: Any) -> LoadResult:
    """Run the load generator until it ends. `document` has other fields of the run document."""
    fields = {"target": {"url": url, "api": "openai-chat"}, "model": "any", "load": load, **document}
    run, out = folder / "run.json", folder / "out"
    run.write_text(json.dumps(fields))
    command = [
        sys.executable,
        "-m",
        "llmendpoint_loadjob",
        "--run",
        str(run),
        "--out",
        str(out),
        "--log-level",
        "error",
    ]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True,
                           text=True, timeout=100, check=False)  # fmt: skip
    assert (out / "summary.json").exists(), ended.stderr[-2000:]
    lines = [json.loads(line) for line in (out / "requests.jsonl").read_text().splitlines()]
    return LoadResult(json.loads((out / "summary.json").read_text()), lines, ended.returncode)
