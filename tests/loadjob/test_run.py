"""Load runs against the simulator, whose timing is known, and their verdicts."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from itertools import pairwise

import pytest

from llmendpoint_common.contracts.loadrun import (
    Api,
    Arrivals,
    ErrorClass,
    RunDocument,
    RunLoad,
    RunRequest,
    RunTarget,
)
from llmendpoint_common.contracts.loadrun.notation import parse_objective
from llmendpoint_loadjob.load.window import Ending
from support.load import load_runs
from support.load.load_runs import Driven
from support.servers import StartSimulator

#: The runs measure times and rates, which other processes disturb.
pytestmark = pytest.mark.alone


async def drive(url: str, load: RunLoad, api: Api = Api.OLLAMA_CHAT, request: RunRequest | None = None) -> Driven:
    document = RunDocument(RunTarget(url, api), "simulated", load, request=request or RunRequest())
    return await load_runs.drive(document)


@pytest.mark.parametrize("api", list(Api))
async def test_timings_are_those_of_the_server(start_simulator: StartSimulator, api: Api) -> None:
    simulator = await start_simulator(ttft=0.2, inter_token=0.02, tokens=10, parallel=8)
    outcome = await drive(simulator.url, RunLoad(concurrency=4, max_requests=8), api)
    assert [sample.error for sample in outcome.samples] == [None] * 8
    assert statistics.median(s.ttft or 0 for s in outcome.samples) == pytest.approx(0.2, abs=0.03)
    assert statistics.median(s.tpot or 0 for s in outcome.samples) == pytest.approx(0.02, rel=0.1)
    assert {sample.output_tokens for sample in outcome.samples} == {10}


async def test_answers_that_are_not_streamed_have_tokens_and_a_latency(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(ttft=0.05, tokens=3)
    outcome = await drive(
        simulator.url, RunLoad(concurrency=1, max_requests=2), Api.OPENAI_CHAT, RunRequest(stream=False)
    )
    assert {sample.output_tokens for sample in outcome.samples} == {3}
    assert all(sample.request_latency >= 0.049 for sample in outcome.samples)


async def test_a_closed_loop_keeps_exactly_its_users_busy(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(ttft=0.05, tokens=2, parallel=100)
    run = asyncio.create_task(drive(simulator.url, RunLoad(concurrency=7, duration_seconds=0.6)))
    seen = set()
    while not run.done():
        slots = next(iter(simulator.simulator.store.slots.values()))
        seen.add(slots.running)
        await asyncio.sleep(0.001)
    await run
    assert max(seen) == 7


async def test_an_open_loop_does_not_wait_for_answers(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(ttft=2.0, tokens=1, parallel=100)
    outcome = await drive(simulator.url, RunLoad(rate=10, arrivals=Arrivals.CONSTANT, duration_seconds=3.0))
    assert len(outcome.samples) == 30
    received = [entry.received_at for entry in simulator.simulator.ledger.entries]
    gaps = [later - earlier for earlier, later in pairwise(received)]
    assert statistics.mean(gaps) == pytest.approx(1 / 10, rel=0.01)
    # The median of the deviations, scaled to the standard deviation: a busy machine delays some requests.
    assert 1.4826 * statistics.median(abs(gap - 0.1) for gap in gaps) / 0.1 < 0.05


async def test_random_arrivals_follow_their_law_as_the_server_sees_them(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1, parallel=1000)
    await drive(simulator.url, RunLoad(rate=40, duration_seconds=6.0, seed=5))
    received = [entry.received_at for entry in simulator.simulator.ledger.entries]
    gaps = sorted(later - earlier for earlier, later in pairwise(received))
    law = [1 - math.exp(-40 * gap) for gap in gaps]
    distance = max(max((i + 1) / len(gaps) - share, share - i / len(gaps)) for i, share in enumerate(law))
    # The test of Kolmogorov and Smirnov at 1 %.
    assert distance < 1.63 / math.sqrt(len(gaps))


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        ({"fault": "status_500"}, ErrorClass.SERVER_ERROR),
        ({"fault": "stream_error"}, ErrorClass.STREAM_ERROR),
        ({"fault": "no_done"}, ErrorClass.TRUNCATED),
        ({"fault": "reset", "inter_token": 0.01}, ErrorClass.RESET),
        ({"models": ["another:1b"]}, ErrorClass.CLIENT_ERROR),
        ({"parallel": 1, "max_queue": 0, "ttft": 0.3}, ErrorClass.UNAVAILABLE),
        ({"ttft": 5.0}, ErrorClass.TIMEOUT),
    ],
)
async def test_errors_are_told_apart(
    start_simulator: StartSimulator, behaviour: dict[str, object], error: ErrorClass
) -> None:
    simulator = await start_simulator(**behaviour)
    outcome = await drive(
        simulator.url, RunLoad(concurrency=2, max_requests=2), request=RunRequest(timeout_seconds=0.6)
    )
    assert error in {sample.error for sample in outcome.samples}


async def test_a_server_that_is_not_there_is_refused(unused_tcp_port: int) -> None:
    outcome = await drive(f"http://127.0.0.1:{unused_tcp_port}", RunLoad(concurrency=1, max_requests=2))
    assert {sample.error for sample in outcome.samples} == {ErrorClass.REFUSED}


async def test_a_server_that_is_not_there_ends_the_run_within_seconds(unused_tcp_port: int) -> None:
    begun = time.monotonic()
    outcome = await drive(f"http://127.0.0.1:{unused_tcp_port}", RunLoad(concurrency=2, duration_seconds=600.0))
    assert outcome.run.ending is Ending.UNREACHABLE
    assert len(outcome.samples) < 50
    assert 3 <= time.monotonic() - begun < 8


async def test_connections_are_open_before_the_first_request(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1, parallel=100)
    outcome = await drive(simulator.url, RunLoad(concurrency=20, max_requests=100))
    assert {sample.connect for sample in outcome.samples} == {None}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("ttft=1s", "has no percentile"), ("error_rate:p95=1%", "must not have a percentile"), ("speed:p95=1s", "write it like"),
     ("ttft:p95=fast", "not a duration"), ("error_rate=1", "not a share")],
)  # fmt: skip
def test_a_wrong_objective_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_objective(text)
