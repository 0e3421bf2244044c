"""The load generator as a program, with a run document."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LoadResult:
    """What a run wrote: its summary, its request lines and its exit code."""

    summary: dict[str, Any]
    lines: list[dict[str, Any]]
    code: int


@dataclass(frozen=True)
class RunningLoad:
    """A load generator that runs, and writes into the folder `out`."""

    process: subprocess.Popen[str]
    out: Path

    @property
    def answers(self) -> int:
        """Number of requests that have ended and are on disk."""
        lines = self.out / "requests.jsonl"
        return lines.read_text().count("\n") if lines.exists() else 0

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def result(self, seconds: float = 100.0) -> LoadResult:
        """Wait for the end of the run, and return what it wrote."""
        _, error = self.process.communicate(timeout=seconds)
        assert (self.out / "summary.json").exists(), error[-2000:]
        lines = [json.loads(line) for line in (self.out / "requests.jsonl").read_text().splitlines()]
        return LoadResult(json.loads((self.out / "summary.json").read_text()), lines, self.process.returncode)


@contextmanager
def running_load(folder: Path, url: str, load: dict[str, Any], **document: Any) -> Iterator[RunningLoad]:
    """Start the load generator, and end it with the block. `document` has other fields of the run document."""
    fields = {"target": {"url": url, "api": "openai-chat"}, "model": "any", "load": load, **document}
    run, out = folder / "run.json", folder / "out"
    run.write_text(json.dumps(fields))
    flags = ["--run", str(run), "--out", str(out), "--log-level", "error"]
    process = subprocess.Popen(
        [sys.executable, "-m", "llmendpoint_loadjob", *flags],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield RunningLoad(process, out)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate()


def run_load(folder: Path, url: str, load: dict[str, Any], **document: Any) -> LoadResult:
    """Run the load generator until it ends. `document` has other fields of the run document."""
    with running_load(folder, url, load, **document) as running:
        return running.result()
