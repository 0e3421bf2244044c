"""The metric names that other components read are exposed by the sidecar."""

from __future__ import annotations

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from llmendpoint_common.contracts.sidecar import METRIC_PREFIX, Metric
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually


async def test_a_sidecar_exposes_every_name(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    body = {"model": "simulated", "messages": [{"role": "user", "content": "hello"}]}
    async with http.post(f"http://127.0.0.1:{sidecar.port}/api/chat", json=body) as response:
        await response.read()
    await eventually(lambda: sidecar.runtime.metrics.total("requests") == 1)
    async with http.get(f"http://127.0.0.1:{sidecar.admin_port}/metrics") as response:
        text = await response.text()
    samples = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    for name in Metric:
        assert name.startswith(METRIC_PREFIX)
        assert name in samples or f"{name}_count" in samples
