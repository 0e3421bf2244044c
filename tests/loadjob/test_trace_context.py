"""Synthetic prompts and those of traces that exceed the context: they are cut if it is known, and the result says so."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from support.servers import StartSimulator

TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:17:00.{index}000000,{tokens},2\n" for index, tokens in enumerate([50, 5000, 90, 900])
)
SENTENCE = (
    "The input of 2 of 4 requests was cut to fit into the context of the model (num_ctx), so the load was not that of the "
    "trace"
)


async def replay(url: str, folder: Path, *flags: str) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """Replay the trace, and return the summary, the lines of the requests, and what was printed."""
    (folder / "trace.csv").write_text(TRACE)
    return await load(url, folder, f"--trace={folder / 'trace.csv'}", *flags)


async def load(url: str, folder: Path, *flags: str) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """Run a load test, and return what `replay` returns."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmendpoint_loadjob", f"--url={url}", "--model=simulated", f"--out={folder / 'out'}", *flags,
        stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    lines = [json.loads(line) for line in (folder / "out/requests.jsonl").read_bytes().splitlines()]
    return json.loads((folder / "out/summary.json").read_bytes()), lines, printed.decode()


@pytest.mark.parametrize("cache", ["shared", "unique"])
async def test_requests_are_cut_to_the_context_that_the_run_sets(
    start_simulator: StartSimulator, tmp_path: Path, cache: str
) -> None:
    simulator = await start_simulator(ttft=0, tokens=1, parallel=100)
    summary, lines, printed = await replay(simulator.url, tmp_path, "--option=num_ctx=100", f"--prefix-cache={cache}")
    assert [line["is_cut"] for line in sorted(lines, key=lambda line: line["scheduled"])] == [False, True, False, True]
    assert SENTENCE in summary["unknown"]
    assert SENTENCE in printed


async def test_requests_are_sent_as_they_are_if_the_context_is_not_known(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator(ttft=0, tokens=1, parallel=100)
    summary, lines, _ = await replay(simulator.url, tmp_path)
    assert not any(line["is_cut"] for line in lines)
    assert not any("was cut" in sentence for sentence in summary["unknown"])


async def test_synthetic_prompts_are_cut_too_and_answers_that_are_far_too_short_are_told(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator(ttft=0, tokens=1, parallel=100)
    flags = ["--input-tokens=500", "--output-tokens=50", "--num-prompts=4", "--warmup=0s", "--option=num_ctx=100"]
    summary, lines, _ = await load(simulator.url, tmp_path, *flags)
    assert all(line["is_cut"] for line in lines)
    assert [sentence for sentence in summary["unknown"] if "cached" not in sentence and "TPOT" not in sentence] == [
        "The input of 4 of 4 requests was cut to fit into the context of the model (num_ctx), so the load was not that of "
        "the run document",
        "The answers have 2% of the output tokens that the run asked for: a model stops when it has said everything, and "
        "the load would be higher with longer answers",
    ]
