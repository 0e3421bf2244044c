"""How long a trace is replayed, and what the summary says about it."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from llmendpoint_common.api.loadtest.spec import parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget, run_document
from llmendpoint_common.contracts.loadrun import MAX_SECONDS, Api, RunTrace
from support.servers import StartSimulator

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:17:{second:02d}.0000000,5,2\n" for second in range(30)
)


@pytest.mark.parametrize(
    ("flags", "requests", "seconds"),
    [
        # 0.2 s at this scale are the first 2 s of the trace: requests at 0 s and 1 s.
        (["--time-scale=0.1", "--duration=200ms"], 2, 0.2),
        (["--time-scale=0.01"], 30, 0.29),
        (["--time-scale=0.01", "--warmup=90ms", "--duration=10m"], 21, 0.2),
    ],
)
async def test_the_duration_of_a_trace_is_that_of_its_replay(
    start_simulator: StartSimulator, tmp_path: Path, flags: list[str], requests: int, seconds: float
) -> None:
    simulator = await start_simulator(ttft=0, tokens=1, parallel=100)
    (tmp_path / "trace.csv").write_text(AZURE)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmendpoint_loadjob", f"--url={simulator.url}", "--model=simulated", f"--trace={tmp_path / 'trace.csv'}", f"--out={tmp_path / 'out'}", *flags,
        stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    await asyncio.wait_for(process.communicate(), 30)
    summary = json.loads((tmp_path / "out/summary.json").read_bytes())
    assert summary["requests"] == requests
    assert summary["run"]["load"]["durationSeconds"] == pytest.approx(seconds)
    assert summary["duration"]["value"] == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize(
    ("fields", "replayed", "longest"),
    [
        ({}, None, MAX_SECONDS),
        ({"load": {"duration": "20s"}}, 20.0, 20.0),
        ({"scenario": "Smoke"}, None, MAX_SECONDS),
        ({"scenario": "Smoke", "load": {"duration": "20s"}}, 20.0, 20.0),
    ],
)
def test_the_duration_of_a_load_test_limits_its_trace(
    fields: dict[str, object], replayed: float | None, longest: float
) -> None:
    """A scenario does not: its duration is that of its own load."""
    trace = {"trace": {"configMapKeyRef": {"name": "t", "key": "t.csv"}, "timeScale": "0.5"}}
    spec = parse_spec({"spec": {"endpointRef": {"name": "a"}, "dataset": trace, **fields}})
    document = run_document(spec, ResolvedTarget("http://x", Api.OLLAMA_CHAT, "m"))
    assert document.trace == RunTrace(0.5, replayed)
    assert document.load.duration_seconds == longest
