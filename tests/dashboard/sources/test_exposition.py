"""The reader of metrics pages, compared with the parser of prometheus_client on pages of a real sidecar."""

from __future__ import annotations

from collections import defaultdict

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from llmendpoint_dashboard.sources.exposition import BUCKETS, Gauge, Key, Kind, PageReader
from support.servers import StartSidecar, StartSimulator


async def test_a_page_of_a_sidecar_is_read_as_by_the_reference_parser(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(ttft=0.02, inter_token=0.005, tokens=8)
    sidecar = await start_sidecar(simulator.port)
    for path in ("generate", "chat"):
        body = {"model": "simulated", "prompt": "a", "messages": [{"role": "user", "content": "a"}]}
        async with http.post(f"http://127.0.0.1:{sidecar.port}/api/{path}", json=body) as response:
            await response.read()
    async with http.get(f"http://127.0.0.1:{sidecar.admin_port}/metrics") as response:
        text = await response.read()

    page = PageReader().read(text)
    sums: dict[tuple[Kind, str, str, str, float], float] = defaultdict(float)
    gauges: dict[tuple[Gauge, str], float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            name = sample.name.removeprefix("llmendpoint_")
            labels = sample.labels
            if name in Gauge.__members__.values():
                gauges[Gauge(name), labels["model_name"]] = sample.value
            elif name in Kind.__members__.values():
                kind = Kind(name)
                bound = float(labels["le"]) if kind in BUCKETS else 0.0
                outcome = labels.get("outcome", "")
                sums[kind, labels["model_name"], labels.get("tenant", ""), outcome, bound] += sample.value
    assert {(gauge, model): value for gauge, by in page.gauges.items() for model, value in by.items()} == gauges
    read: dict[tuple[Kind, str, str, str, float], float] = {}
    for key, count in page.counters.items():
        if key.kind not in BUCKETS:
            read[key.kind, key.model, key.tenant, key.detail, 0.0] = count
    assert read == {key: value for key, value in sums.items() if key[0] not in BUCKETS}
    # The buckets of a page are cumulative: each contains those below it.
    for (kind, model, _, _, bound), value in sums.items():
        if kind in BUCKETS:
            below = sum(
                count
                for one, count in page.counters.items()
                if one.kind is kind and one.model == model and one.high <= bound
            )
            assert below == value, (kind, bound)
    assert sum(count for key, count in page.counters.items() if key.kind is Kind.TTFT) == 2


def test_labels_are_unescaped_and_other_lines_are_left_out() -> None:
    text = rb"""# HELP llmendpoint_requests_total Requests.
# TYPE llmendpoint_requests_total counter
llmendpoint_requests_total{model_name="a\"b\\c}\nd",operation="chat",code="200",outcome="ok",tenant="t"} 3.0
llmendpoint_requests_total{model_name="m",operation="chat",code="200",outcome="ok",tenant=""} NaN
llmendpoint_requests_total{model_name="m",operation="chat",code="200",outcome="ok",tenant=""} many
llmendpoint_requests_created{model_name="m"} 1.0
llmendpoint_time_to_first_token_seconds_bucket{le="wide",model_name="m",operation="chat"} 1.0
other_requests_total{model_name="m"} 4.0
llmendpoint_model_loaded{model_name="m"} 1.0
"""
    page = PageReader().read(text)
    assert page.counters == {Key(Kind.REQUESTS, 'a"b\\c}\nd', "t", "ok"): 3}
    assert page.gauges == {Gauge.LOADED: {"m": 1.0}}


def test_operations_and_codes_are_added_up() -> None:
    line = 'llmendpoint_requests_total{model_name="m",operation="%s",code="%d",outcome="ok",tenant=""} 2.0\n'
    page = PageReader().read((line % ("chat", 200) + line % ("generate", 201)).encode())
    assert page.counters == {Key(Kind.REQUESTS, "m", "", "ok"): 4}


def test_a_page_that_is_not_one_has_no_values() -> None:
    for text in (b"", b"<html>", b"\xff\xfe", b"llmendpoint_requests_total"):
        assert not PageReader().read(text).counters
