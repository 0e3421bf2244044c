"""Records of single requests: their content, records by ID, the access log, transfers and overhead."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from pathlib import Path

import aiohttp
import msgspec
import pytest

from llmendpoint_common.contracts.sidecar import Operation, Outcome, RequestList, RequestRecord, SidecarConfig
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from llmendpoint_sidecar.records.access_log import AccessLog
from llmendpoint_sidecar.records.journal import Journal, is_plain_id
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

CHAT = {"model": "simulated", "messages": [{"role": "user", "content": "one two three"}]}


async def test_a_request_is_found_by_its_id(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(tokens=4)
    sidecar = await start_sidecar(simulator.port)
    admin = f"http://127.0.0.1:{sidecar.admin_port}/status/requests"
    async with http.post(
        f"http://127.0.0.1:{sidecar.port}/api/chat", json=CHAT, headers={"X-Request-ID": "mine-1"}
    ) as response:
        await response.read()
    await eventually(lambda: bool(sidecar.runtime.meter.find("mine-1")))
    async with http.get(f"{admin}/mine-1") as response:
        record = await response.json()
    assert (record["modelName"], record["operation"], record["outcome"], record["code"]) == (
        "simulated:latest",
        "chat",
        "ok",
        200,
    )
    assert (record["promptTokens"], record["generationTokens"]) == (3, 4)
    assert 0 < record["timeToFirstToken"] <= record["duration"]
    assert 0 <= record["overhead"] < record["duration"]
    assert record["queue"] >= 0
    async with http.get(f"{admin}/other") as response:
        assert response.status == 404


async def test_records_of_the_last_requests_are_written_when_the_process_stops(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, access_log=True)
    for _ in range(3):
        async with http.post(f"http://127.0.0.1:{sidecar.port}/api/chat", json=CHAT) as response:
            await response.read()
    # Its client leaves because the sidecar stops.
    simulator.behave(ttft=30.0)
    body = json.dumps(CHAT).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    await eventually(lambda: sum(sidecar.runtime.meter.in_flight.counts().values()) == 1)
    await sidecar.stop()
    writer.close()
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["outcome"] for line in lines] == ["ok", "ok", "ok", "client_cancelled"]


async def test_only_a_stream_has_times_of_tokens(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(tokens=4, ttft=0.01, inter_token=0.005)
    sidecar = await start_sidecar(simulator.port)
    for index, stream in enumerate((True, False)):
        body, headers = {**CHAT, "stream": stream}, {"X-Request-ID": f"mine-{index}"}
        async with http.post(f"http://127.0.0.1:{sidecar.port}/api/chat", json=body, headers=headers) as response:
            await response.read()
    meter = sidecar.runtime.meter
    await eventually(lambda: bool(meter.find("mine-0") and meter.find("mine-1")))
    (streamed,), (whole,) = meter.find("mine-0"), meter.find("mine-1")
    assert streamed.time_to_first_token is not None
    assert streamed.time_per_output_token is not None
    assert 0.003 < streamed.time_per_output_token < streamed.duration
    assert (whole.time_to_first_token, whole.time_per_output_token) == (None, None)
    series = sidecar.runtime.metrics.series("simulated:latest", "chat")
    for name in ("time_to_first_token_seconds", "request_time_per_output_token_seconds"):
        assert sum(series[name].counts) == 1, name


async def test_the_last_requests_are_listed_in_order_also_those_without_an_id(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(tokens=4)
    sidecar = await start_sidecar(simulator.port)
    admin = f"http://127.0.0.1:{sidecar.admin_port}/status/requests"

    async def listed(query: str = "") -> list[RequestRecord]:
        async with http.get(admin + query) as response:
            assert response.status == 200
            return list(msgspec.json.decode(await response.read(), type=RequestList).requests)

    assert await listed() == []
    for name in ("a", "b", "not a plain id", "d"):
        async with http.post(
            f"http://127.0.0.1:{sidecar.port}/api/chat", json=CHAT, headers={"X-Request-ID": name}
        ) as response:
            await response.read()
    await eventually(lambda: len(sidecar.runtime.meter.last(0, 200)) == 4)
    everything = await listed()
    assert [record.request_id for record in everything] == ["a", "b", "", "d"]
    assert [record.request_id for record in await listed("?limit=2")] == ["", "d"]
    after = everything[1].time
    assert [record.request_id for record in await listed(f"?after={after!r}")] == ["", "d"]
    assert await listed(f"?after={everything[-1].time!r}") == []


@pytest.mark.parametrize("query", ["after=yesterday", "after=nan", "limit=0", "limit=201", "limit=-1", "limit=%C2%B2"])
async def test_a_wrong_range_of_requests_is_refused_with_a_sentence(
    start_sidecar: StartSidecar, http: aiohttp.ClientSession, query: str
) -> None:
    sidecar = await start_sidecar(1)
    async with http.get(f"http://127.0.0.1:{sidecar.admin_port}/status/requests?{query}") as response:
        assert response.status == 400
        assert query.partition("=")[0] in (await response.json())["error"]


def test_the_list_of_the_last_requests_is_bounded_and_sorted_by_their_ends() -> None:
    journal = Journal(lambda: 0.0)
    for index in range(1000):
        # A request may be recorded after one that ended later.
        journal.add(msgspec.structs.replace(record_of(f"id-{index}"), time=float(index ^ 1)), 0.0)
    listed = journal.last(0.0, 200)
    assert [record.time for record in listed] == [float(index) for index in range(800, 1000)]
    assert [record.time for record in journal.last(997.0, 200)] == [998.0, 999.0]


def record_of(request_id: str, tenant: str = "", model: str = "m") -> RequestRecord:
    return RequestRecord(0.0, request_id, tenant, model, Operation.CHAT, 200, Outcome.OK, 1.0)


def test_records_are_bounded_in_number_and_time() -> None:
    now = [0.0]
    journal = Journal(lambda: now[0])
    for index in range(5000):
        journal.add(record_of(f"id-{index}"), now[0])
    assert journal.find("id-0") == []
    assert len(journal.find("id-4999")) == 1
    now[0] = 121.0
    assert journal.find("id-4999") == []


def test_the_first_record_of_a_tenant_and_an_id_stays_while_it_is_kept() -> None:
    now = [0.0]
    journal = Journal(lambda: now[0])
    for tenant, model in (("a", "first"), ("b", "of b"), ("a", "second"), ("", "of nobody")):
        journal.add(record_of("same", tenant, model), now[0])
    assert {(found.tenant, found.model_name) for found in journal.find("same")} == {
        ("a", "first"), ("b", "of b"), ("", "of nobody"),
    }  # fmt: skip
    assert [found.model_name for found in journal.find("same", "a")] == ["first"]
    assert [found.model_name for found in journal.find("same", "")] == ["of nobody"]
    assert journal.find("same", "c") == []
    now[0] = 121.0
    journal.add(record_of("same", "a", "much later"), now[0])
    assert [found.model_name for found in journal.find("same")] == ["much later"]


def test_a_tenant_with_many_requests_displaces_only_its_own_records() -> None:
    journal = Journal(lambda: 0.0)
    journal.add(record_of("quiet", "a"), 0.0)
    for index in range(10_000):
        journal.add(record_of(f"id-{index}", "b"), 0.0)
    assert len(journal.find("quiet")) == 1
    assert journal.find("id-0") == []
    assert len(journal.find("id-9999")) == 1


def test_a_failing_listener_costs_neither_the_record_nor_the_other_listeners() -> None:
    journal = Journal(lambda: 0.0)
    heard: list[RequestRecord] = []

    def explode(_: RequestRecord) -> None:
        raise RuntimeError("injected")

    journal.listeners += [explode, heard.append]
    with pytest.raises(RuntimeError, match="injected"):
        journal.add(record_of("x"), 0.0)
    assert heard == journal.find("x")


async def test_tenants_that_use_one_id_are_told_apart_by_a_parameter(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    for tenant in ("a", "b"):
        (tmp_path / tenant).write_text(f"key-of-{tenant}")
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, keys=[tmp_path])
    admin = f"http://127.0.0.1:{sidecar.admin_port}/status/requests/same"
    for tenant, path in (("a", "chat"), ("a", "generate"), ("b", "generate")):
        headers = {"X-Request-ID": "same", "x-api-key": f"key-of-{tenant}"}
        body = {**CHAT, "prompt": "x"}
        async with http.post(f"http://127.0.0.1:{sidecar.port}/api/{path}", json=body, headers=headers) as response:
            assert response.status == 200
            await response.read()
    await eventually(lambda: len(sidecar.runtime.meter.find("same")) == 2)
    async with http.get(admin) as response:
        assert response.status == 409
        assert "?tenant=NAME" in (await response.json())["error"]
    for tenant, operation in (("a", "chat"), ("b", "generate")):
        async with http.get(admin, params={"tenant": tenant}) as response:
            record = await response.json()
        assert (record["tenant"], record["operation"]) == (tenant, operation)
    async with http.get(admin, params={"tenant": "c"}) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("text", "plain"), [("abc-1.2:x_y", True), ("", False), ("a b", False), ("x" * 129, False), ("é", False)]
)
def test_only_plain_ids_are_kept(text: str, plain: bool) -> None:
    assert is_plain_id(text) is plain


async def test_pulls_and_uploads_are_counted_in_bytes_and_by_their_end(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(registry=["new:1b"])
    sidecar = await start_sidecar(simulator.port)
    url = f"http://127.0.0.1:{sidecar.port}"
    for model in ("new:1b", "missing:1b"):
        async with http.post(f"{url}/api/pull", json={"model": model}) as response:
            await response.read()
    blob = bytes(900_000)
    for _ in range(2):  # the second time it exists, and its body is not read
        async with http.post(f"{url}/api/blobs/sha256:{hashlib.sha256(blob).hexdigest()}", data=blob) as response:
            assert response.status in (200, 201)
            await response.read()
    await eventually(lambda: sidecar.runtime.metrics.total("requests") == 4)
    assert dict(sidecar.runtime.metrics.totals_by("transfer_bytes", "operation")) == {
        "pull": 1_000_000,
        "blob": 900_000,
    }
    outcomes = dict(sidecar.runtime.metrics.totals_by("requests", "outcome"))
    assert (outcomes["ok"], outcomes["stream_error"]) == (3, 1)


async def test_models_that_run_elsewhere_hold_no_slot_here() -> None:
    model_labels = ModelLabels(lambda: None)
    model_labels.list(["gpt-oss:120b-cloud", "tiny:latest"], remote=["gpt-oss:120b-cloud"])
    from llmendpoint_sidecar.meter.meter import Meter  # noqa: PLC0415
    from llmendpoint_sidecar.meter.metrics import Metrics  # noqa: PLC0415

    meter = Meter(Metrics(), model_labels, lambda: 0.0, parallel=1)
    meter.in_flight.replace([{"gpt-oss:120b-cloud": 2, "tiny:latest": 3}, {"gpt-oss:120b-cloud": 3}])
    assert meter.in_flight.running() == {"tiny:latest": 1}
    assert meter.in_flight.waiting() == {"tiny:latest": 2}


CANARIES = (
    "canary-prompt",
    "canary-answer",
    "canary-key",
    "canary-query",
    "canary-path",
    "canary-id canary",
    "canary-agent",
    "canary-model",
)


async def test_nothing_that_a_client_said_leaks(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, tmp_path: Path,
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (tmp_path / "tenant").write_text("canary-key")
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, SidecarConfig(max_waiting=9), keys=[tmp_path], access_log=True)
    written = io.BytesIO()
    listener = AccessLog(written)
    sidecar.runtime.meter.journal.listeners[:] = [listener.add]
    headers = {"Authorization": "Bearer canary-key", "X-Request-ID": "canary-id canary", "User-Agent": "canary-agent"}
    bodies = [
        {"model": "simulated", "prompt": "canary-prompt", "messages": [{"role": "user", "content": "canary-prompt"}]},
        {"model": "canary-model", "prompt": "canary-prompt"},
        "canary-prompt",
    ]
    paths = [
        "/api/chat?q=canary-query",
        "/api/generate",
        "/v1/chat/completions",
        "/v1/messages",
        "/canary-path",
        "/api/pull",
    ]
    for path in paths:
        for body in bodies:
            for sent in (headers, {**headers, "Authorization": "Bearer canary-key2"}):
                async with http.post(f"http://127.0.0.1:{sidecar.port}{path}", json=body, headers=sent) as response:
                    await response.read()
    await eventually(lambda: sidecar.runtime.metrics.total("requests") == 36)
    listener.flush()
    told = written.getvalue().decode()
    assert told.count("\n") == 36
    for page in ("metrics", "status"):
        async with http.get(f"http://127.0.0.1:{sidecar.admin_port}/{page}") as response:
            told += await response.text()
    out, err = capfd.readouterr()
    told += out + err + caplog.text
    assert "rejected_auth" in told
    for canary in CANARIES:
        assert canary not in told, canary
    assert json.loads(written.getvalue().splitlines()[0])["tenant"] in ("tenant", "")
