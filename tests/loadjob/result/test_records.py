"""Requests of a real client through a real sidecar: the split of their TTFT and the audit of the meter."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import msgspec
import pytest

from llmendpoint_common.contracts.loadrun import Api, RunDocument, RunLoad, RunTarget
from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.results.join import PARTS, split
from llmendpoint_common.results.summary import summarize
from llmendpoint_loadjob.client.client import Client
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.result.reading import client_request_of
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import Sample
from support.servers import StartSidecar, StartSimulator


async def ask(client: Client, index: int) -> Sample:
    sample = Sample(f"request-{index}", f"q{index}", "Math", time.perf_counter())
    await client.send(Prompt(f"q{index}", "Math", (("user", f"What is {index} + 1?"),)), sample)
    return sample


@pytest.mark.parametrize("api", list(Api))
async def test_the_parts_of_every_ttft_add_up_and_every_token_was_metered(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, api: Api
) -> None:
    simulator = await start_simulator(ttft=0.1, inter_token=0.005, tokens=6, parallel=2)
    sidecar = await start_sidecar(simulator.port, parallel=2)
    document = RunDocument(RunTarget(f"http://127.0.0.1:{sidecar.port}", api), "simulated", RunLoad(concurrency=6))
    client = Client(parse_target(document.target.url), document, clock=time.perf_counter)
    recorder = Recorder(document)
    begin = time.perf_counter()
    recorder.begin(begin, begin)
    samples = await asyncio.gather(*(ask(client, index) for index in range(6)))
    client.close()
    for sample in samples:
        recorder.record(sample)
        url = f"http://127.0.0.1:{sidecar.admin_port}/status/requests/{sample.request_id}"
        async with http.get(url) as response:
            record = msgspec.json.decode(await response.read(), type=RequestRecord)
        request = client_request_of(sample)
        parts = split(request, record)
        assert parts is not None
        assert sum(parts.values()) == pytest.approx(sample.ttft_scheduled, abs=1e-9)
        assert parts["network"] < 0.3
        recorder.join(request, record)
    summary = summarize(recorder.finish(time.perf_counter()), document)
    assert summary.meter_audit is not None
    assert (summary.meter_audit.requests, summary.meter_audit.found, summary.meter_audit.differing) == (6, 6, 0)
    assert summary.meter_audit.client_tokens == summary.meter_audit.metered_tokens > 6 * 6
    assert [part.name for part in summary.ttft_split] == list(PARTS)
    assert summary.server_queue is not None
    if api is not Api.OPENAI_CHAT:
        # Six requests at the same time and two slots: the last ones waited for two others.
        assert summary.server_queue.max > 0.2
        prefill = next(part for part in summary.ttft_split if part.name == "prefill")
        assert prefill.latency.p50 == pytest.approx(0.1, abs=0.05)
