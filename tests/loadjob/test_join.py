"""The measurements of the load generator and the sidecar's records of the same requests, joined by request ID."""

from __future__ import annotations

import aiohttp
import msgspec
import pytest

from llmendpoint_common.contracts.loadrun import Api, RunDocument, RunLoad, RunTarget
from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.sidecar_join import SidecarJoin
from support.load.load_runs import drive
from support.load.runs import answered, document_of
from support.servers import StartSidecar, StartSimulator

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("api", list(Api))
async def test_every_request_of_a_run_can_be_split_into_its_parts(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, api: Api
) -> None:
    simulator = await start_simulator(ttft=0.1, inter_token=0.005, tokens=6, parallel=2)
    sidecar = await start_sidecar(simulator.port, parallel=2)
    target = RunTarget(f"http://127.0.0.1:{sidecar.port}", api)
    document = RunDocument(target, "simulated", RunLoad(concurrency=4, max_requests=12))
    outcome = await drive(document)
    assert len(outcome.samples) == 12
    waited = 0
    for sample in outcome.samples:
        url = f"http://127.0.0.1:{sidecar.admin_port}/status/requests/{sample.request_id}"
        async with http.get(url) as response:
            record = msgspec.json.decode(await response.read(), type=RequestRecord)
        assert (record.prompt_tokens, record.generation_tokens) == (sample.input_tokens, sample.output_tokens)
        assert record.time_to_first_token is not None
        assert sample.ttft is not None
        # The latency of the client is the duration in the sidecar, and the way between them.
        assert 0 <= sample.ttft - record.time_to_first_token < 0.05
        assert record.duration <= sample.request_latency + 0.01
        if api is Api.OLLAMA_CHAT:
            parts = (record.overhead, record.queue, record.load, record.prefill)
            known = sum(part for part in parts if part is not None)
            assert known == pytest.approx(record.time_to_first_token, abs=0.06)
            waited += (record.queue or 0.0) > 0.05
    if api is Api.OLLAMA_CHAT:
        # Four concurrent requests and two slots: some requests waited, and their records show it.
        assert waited


async def looked_up(url: str) -> str:
    """Look up one request of a run at an address, and return why its record could not be read."""
    recorder = Recorder(document_of())
    lookups = SidecarJoin(url, recorder)
    lookups.add(answered())
    await lookups.finish()
    assert recorder.measurements.join.requests == 1
    return recorder.measurements.join.failure


async def test_an_address_without_a_sidecar_is_named(start_simulator: StartSimulator, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    assert await looked_up(url) == f"{url} could not be read: Connection refused"
    simulator = await start_simulator()
    assert await looked_up(simulator.url) == f"{simulator.url} is not the admin port of a sidecar"
    assert (await looked_up("http://sidecar.invalid:8001")).startswith("sidecar.invalid does not resolve: ")


async def test_a_sidecar_without_the_record_is_not_an_address_that_could_not_be_read(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar((await start_simulator()).port)
    assert not await looked_up(f"http://127.0.0.1:{sidecar.admin_port}")
    proxy = f"http://127.0.0.1:{sidecar.port}"
    assert await looked_up(proxy)
