"""States of the dashboard as its sources write them: a busy machine, a cluster with many endpoints, an idle machine."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from llmendpoint_dashboard import contract as c
from llmendpoint_dashboard.state import Hub

MODELS = ("llama3.2:3b", "qwen2.5-coder:7b")
TENANTS = ("support", "search")
_GIB = 2**30


def fill_machine(hub: Hub) -> None:
    """Write the state of a machine with traffic, a pull, load tests, requests and findings."""
    hub.set_section("about", about())
    hub.set_section("overview", busy_overview())
    hub.upsert("models", models())
    hub.upsert("loadtests", load_tests())
    hub.upsert("requests", requests())
    hub.upsert("doctor", findings())


def fill_cluster(hub: Hub, count: int = 12) -> None:
    """Write the state of a cluster with `count` endpoints, of which every fifth is not ready."""
    hub.set_section("about", about(mode=c.Mode.CLUSTER, can_start_load_tests=False, prometheus=True))
    hub.set_section("overview", busy_overview())
    hub.upsert("models", models())
    hub.upsert("endpoints", endpoints(range(count)))
    hub.upsert("loadtests", load_tests(origin=c.Origin.CLUSTER))
    hub.upsert("requests", requests())
    hub.upsert("doctor", findings())


def fill_idle(hub: Hub) -> None:
    """Write the state of a machine on which nothing has happened yet."""
    hub.set_section("about", about(simulated=False))
    hub.set_section("overview", c.Overview(time=time.time(), window_seconds=30, total=_traffic(0)))


def about(
    mode: c.Mode = c.Mode.MACHINE,
    *,
    simulated: bool = True,
    prometheus: bool = False,
    can_start_load_tests: bool = True,
    has_load_key: bool = False,
    state: c.SourceState = c.SourceState.OK,
) -> c.About:
    """Return the section `about` with one source."""
    source = c.Source(
        name="ollama",
        url="http://127.0.0.1:8001",
        simulated=simulated,
        state=state,
        last_seen=None if state is c.SourceState.OK else time.time() - 47,
        message="" if state is c.SourceState.OK else "The sidecar at http://127.0.0.1:8001 refuses connections.",
    )
    return c.About(
        version="0.1.0", mode=mode, prometheus=prometheus, can_start_load_tests=can_start_load_tests,
        has_load_key=has_load_key, sources=(source,),
    )  # fmt: skip


def busy_overview(rate: float = 4.0, now: float | None = None) -> c.Overview:
    """Return the section `overview` with `rate` requests per second for the first model."""
    return c.Overview(
        time=time.time() if now is None else now,
        window_seconds=30,
        total=_traffic(rate * 1.5, running=7, waiting=3, latency=0.31),
        models=tuple(
            c.ModelTraffic(
                model=name, **_fields(rate / (index + 1), running=5 - index, waiting=3 * index, latency=0.31)
            )
            for index, name in enumerate(MODELS)
        ),
        tenants=tuple(
            c.TenantTraffic(tenant=name, **_fields(rate / (index + 1))) for index, name in enumerate(TENANTS)
        ),
    )


def _traffic(rate: float, running: int = 0, waiting: int = 0, latency: float | None = None) -> c.Traffic:
    return c.Traffic(**_fields(rate, running, waiting, latency))


def _fields(
    rate: float, running: int | None = None, waiting: int | None = None, latency: float | None = None
) -> dict[str, Any]:
    return {
        "prompt_tokens_per_second": rate * 26,
        "generation_tokens_per_second": rate * 50,
        "requests_per_second": rate,
        "running": running,
        "waiting": waiting,
        "ttft": None if latency is None else _percentiles(latency),
        "inter_chunk": None if latency is None else _percentiles(latency / 15),
        "outcomes": {"ok": rate * 0.97, "upstream_5xx": rate * 0.02, "rejected_queue": rate * 0.01} if rate else {},
    }


def _percentiles(median: float) -> c.Percentiles:
    return c.Percentiles(p50=median, p95=median * 2.4, p99=median * 3.7)


def models() -> Iterable[c.ModelRow]:
    """Return models in each state."""
    now = time.time()
    yield _model("llama3.2:3b", c.ModelState.LOADED, 2.6, vram=2.6, expires=now + 262, loads=3, evictions=2)
    yield _model("qwen2.5-coder:7b", c.ModelState.LOADED, 5.9, vram=4.1, loads=0, loaded_before=True)
    yield _model("nomic-embed-text:latest", c.ModelState.AVAILABLE, 0.26)
    yield _model(
        "gemma3:12b", c.ModelState.PULLING, 0,
        pull=c.Pull(completed_bytes=3 * _GIB, total_bytes=8 * _GIB, bytes_per_second=92e6, seconds_left=58),
    )  # fmt: skip
    yield _model(
        "private/support:1", c.ModelState.FAILED, 0,
        message="The registry refused the pull of private/support:1 with 401. Set a pull key that may read it.",
    )  # fmt: skip


def _model(name: str, state: c.ModelState, size: float, *, vram: float | None = None, **fields: object) -> c.ModelRow:
    return c.ModelRow(
        key=f"ollama/{name}", source="ollama", name=name, state=state,
        digest="sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72" if size else "",
        size_bytes=int(size * _GIB) if size else None,
        vram_bytes=None if vram is None else int(vram * _GIB),
        gpu_share=None if vram is None else vram / size,
        context_length=8192 if vram else None,
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def endpoints(numbers: Iterable[int], message: str = "") -> Iterable[c.EndpointRow]:
    """Return endpoints; every fifth is not ready."""
    for number in numbers:
        bad = number % 5 == 3
        name, namespace = f"assistant-{number:03}", f"team-{number % 4}"
        reason = "ReplicasUnavailable" if bad else "ModelsAnswer"
        text = message or (
            f"0/4 nodes are available: 4 Insufficient nvidia.com/gpu. Pod {name}-0 waits for a node."
            if bad
            else "All models of all replicas answer."
        )
        yield c.EndpointRow(
            key=f"{namespace}/{name}", namespace=namespace, name=name, ready="False" if bad else "True", reason=reason,
            message=text, url=f"http://{name}.{namespace}.svc:11434", models=MODELS[: 1 + number % 2], replicas=2,
            ready_replicas=0 if bad else 2, gpu="1 nvidia.com/gpu",
            conditions=(
                c.Condition(type="Ready", status="False" if bad else "True", reason=reason, message=text,
                            last_transition_time="2026-01-10T09:12:00Z"),
                c.Condition(type="ModelsLoaded", status="Unknown" if bad else "True",
                            reason="SidecarUnreachable" if bad else "AllLoaded", message="",
                            last_transition_time="2026-01-10T09:12:00Z"),
                c.Condition(type="Degraded", status="False", reason="AsWanted", message="",
                            last_transition_time="2026-01-10T09:12:00Z"),
            ),
            advice="Add a node with a free GPU, or lower spec.replicas." if bad else "",
        )  # fmt: skip


def load_tests(origin: c.Origin = c.Origin.MACHINE) -> Iterable[c.LoadTestRow]:
    """Return a load test that runs, one that passed, one that failed and one that is invalid."""
    now = time.time()
    prefix = "team-0/" if origin is c.Origin.CLUSTER else ""
    common: dict[str, Any] = {"origin": origin, "namespace": "team-0" if prefix else "", "target": "http://127.0.0.1:11435",
              "model": MODELS[0]}  # fmt: skip
    yield c.LoadTestRow(
        key=f"{prefix}evening", name="evening", state=c.RunState.RUNNING, started=now - 41, percent=68, in_flight=4,
        requests=163, errors=1, requests_per_second=3.98, load="4 users for 60 s.", can_stop=not prefix,
        objectives=(
            c.ObjectiveState(text="TTFT p95 ≤ 2 s", measured="412 ms", met=True),
            c.ObjectiveState(text="error rate ≤ 0.5 %", measured="0.61 %", met=False),
        ), **common,
    )  # fmt: skip
    verdicts = (
        ("passed", "Passed", "ObjectivesMet", True, "All objectives were met."),
        ("failed", "Failed", "ObjectivesMissed", False, "TTFT p95 was 2.9 s, above 2 s."),
        ("invalid", "Invalid", "TooFewRequests", None, "9 requests are too few to judge a p95."),
    )
    for index, (name, verdict, reason, met, message) in enumerate(verdicts):
        yield c.LoadTestRow(
            key=f"{prefix}{name}", name=name, state=c.RunState.ENDED, started=now - 3600 * (index + 1),
            ended=now - 3600 * (index + 1) + 61, percent=100, requests=240 - index * 90, errors=index,
            requests_per_second=3.9 - index, load="4 users for 60 s.", verdict=verdict, reason=reason, message=message,
            objectives=(c.ObjectiveState(text="TTFT p95 ≤ 2 s", measured="2.9 s" if met is False else "412 ms", met=met),),
            ttft=_percentiles(0.2 + index * 0.4), has_report=True, **common,
        )  # fmt: skip


def requests(count: int = 24) -> Iterable[c.RequestRow]:
    """Return requests, among them a slow load, one that waited long and two that failed."""
    now = time.time()
    for number in range(count):
        outcome = "upstream_5xx" if number == 5 else "client_cancelled" if number == 11 else "ok"
        load, queue, decode = (
            (3.2 if number == 8 else 0.001),
            (1.4 if number == 15 else 0.02),
            0.6 + (number % 7) * 0.35,
        )
        good = outcome == "ok"
        yield c.RequestRow(
            key=f"ollama/{number}", time=now - number * 2.7, source="ollama", request_id=f"req-{number}",
            model=MODELS[number % 3 == 2], tenant=TENANTS[number % 2], operation="chat", code=200 if good else 503,
            outcome=outcome, duration=(load + queue + decode + 0.19) if good else 0.4, ttft=0.19 + load + queue,
            queue=queue if good else None, load=load if good else None, prefill=0.15 if good else None,
            decode=decode if good else None, prompt_tokens=26 if good else None, generation_tokens=50 if good else None,
        )  # fmt: skip


def findings() -> Iterable[c.DoctorRow]:
    """Return a finding of each severity."""
    yield c.DoctorRow(
        key="error", severity=c.Severity.ERROR, subject="model gemma3:12b", cause="ModelMissing",
        sentence="The model gemma3:12b is declared, but Ollama at http://127.0.0.1:11434 does not have it.",
        advice="Pull it.", command="ollama pull gemma3:12b",
    )  # fmt: skip
    yield c.DoctorRow(
        key="warning", severity=c.Severity.WARNING, subject="model qwen2.5-coder:7b", cause="PartlyOnCpu",
        sentence="30 % of qwen2.5-coder:7b is on the CPU, because the GPU has 1.8 GiB too little free memory.",
        advice="Shorten its context, or unload another model.", command="ollama stop llama3.2:3b",
    )  # fmt: skip
    yield c.DoctorRow(
        key="info", severity=c.Severity.INFO, subject="Prometheus", cause="PrometheusMissing",
        sentence="There is no Prometheus, so charts show at most the last hour.", advice="Install it, and start again.",
        command="llmendpoint up",
    )  # fmt: skip


def history(
    seconds: float,
    step: float,
    now: float | None = None,
    known: float | None = None,
    silent: float = 0.0,
    errors: float = 0.05,
) -> c.History:
    """Return a history with all series. If `known` is set, only its last seconds are known, except the `silent` ones."""
    end = time.time() if now is None else now
    times = [end - seconds + step * (index + 1) for index in range(int(seconds / step))]
    wave = [1 + 0.4 * math.sin(index / 9) + 0.15 * math.sin(index / 2.3) for index in range(len(times))]

    unknown = 0 if known is None else len(times) - math.ceil(known / step)

    def series(name: c.SeriesName, scale: float, outcome: str = "") -> c.Series:
        values = [*[None] * unknown, *(scale * value for value in wave[unknown:])]
        missing = int(silent / step)
        return c.Series(name=name, values=[*values[: len(values) - missing], *[None] * missing], outcome=outcome)

    return c.History(
        range="15m", step=step, source=c.HistorySource.SIDECARS, times=times,
        series=[
            series(c.SeriesName.PROMPT_TOKENS, 104), series(c.SeriesName.GENERATION_TOKENS, 200),
            series(c.SeriesName.RUNNING, 5), series(c.SeriesName.WAITING, 2),
            series(c.SeriesName.TTFT_P50, 0.31), series(c.SeriesName.TTFT_P95, 0.74),
            series(c.SeriesName.INTER_CHUNK_P50, 0.021), series(c.SeriesName.INTER_CHUNK_P95, 0.049),
            series(c.SeriesName.ERRORS, errors, "upstream_5xx"), series(c.SeriesName.ERRORS, errors * 0.4, "rejected_queue"),
        ],
    )  # fmt: skip
