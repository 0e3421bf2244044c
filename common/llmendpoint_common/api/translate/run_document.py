"""Translates the spec of a LoadTest to a run document, and the load of a document back to the form of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmendpoint_common.api.loadtest.dataset import Dataset
from llmendpoint_common.api.loadtest.request import PrefixCacheUse, Request, RequestType
from llmendpoint_common.api.loadtest.slo import BaselineReference
from llmendpoint_common.api.loadtest.spec import LoadTestSpec
from llmendpoint_common.contracts.loadrun import (
    Api,
    Order,
    PrefixCache,
    RunBaseline,
    RunDocument,
    RunLoad,
    RunQuestions,
    RunRequest,
    RunStage,
    RunSweep,
    RunSynthetic,
    RunTarget,
    RunTrace,
)
from llmendpoint_common.process.units import parse_duration


@dataclass(frozen=True)
class ResolvedTarget:
    """The server and the model that a LoadTest's `target` or `endpointRef` refers to.

    The other fields describe an LLMEndpoint when the run starts. They are empty if they are unknown. `configuration`
    is the hash of its GPUs and its settings of Ollama.
    """

    url: str
    api: Api
    model: str
    digest: str = ""
    gpu: str = ""
    replicas: int = 0
    configuration: str = ""


def run_document(spec: LoadTestSpec, target: ResolvedTarget) -> RunDocument:
    """Return the run document of a LoadTest."""
    dataset, resolved = spec.dataset, spec.resolved
    trace = dataset.trace
    skips_check = spec.target is not None and spec.target.insecure_skip_verify
    return RunDocument(
        target=RunTarget(target.url, _api(target.api, spec.request.type), True if skips_check else None),
        model=target.model,
        load=resolved.load,
        questions=_questions(dataset),
        synthetic=(
            RunSynthetic(dataset.synthetic.input_tokens, dataset.synthetic.output_tokens) if dataset.synthetic else None
        ),
        trace=RunTrace(float(trace.time_scale), _replayed(spec)) if trace else None,
        baseline=_baseline(spec.baseline_ref) if spec.baseline_ref else None,
        request=_request(spec.request),
        objectives=resolved.objectives,
    )


def _replayed(spec: LoadTestSpec) -> float | None:
    """Return how long a trace is replayed, or None for the whole trace. The duration of a scenario is not meant."""
    return None if spec.load.duration is None else parse_duration(spec.load.duration)


def load_state(load: RunLoad, parallelism: int) -> dict[str, Any]:
    """Return a load in the form of `spec.load`."""
    fields: dict[str, Any] = {
        "concurrency": load.concurrency,
        "rate": _text(load.rate),
        "stages": [_stage(stage) for stage in load.stages or ()] or None,
        "sweep": _sweep(load.sweep) if load.sweep else None,
        "arrivals": load.arrivals.capitalize() if load.arrivals else None,
        "burstiness": _text(load.burstiness),
        "thinkTime": _duration(load.think_time_seconds),
        "maxInFlight": load.max_in_flight,
        "duration": None if load.stages or load.sweep else _duration(load.duration_seconds),
        "drainTimeout": _duration(load.drain_timeout_seconds),
        "warmup": _duration(load.warmup_seconds),
        "maxRequests": load.max_requests,
        "seed": load.seed,
        "parallelism": parallelism,
    }
    if load.sessions is not None:
        turns = {} if load.sessions.turns is None else {"turns": load.sessions.turns}
        fields["sessions"] = {"users": load.sessions.users, **turns}
    return {name: value for name, value in fields.items() if value is not None}


def _api(api: Api, kind: RequestType) -> Api:
    return Api.OLLAMA_GENERATE if kind is RequestType.GENERATE and api is Api.OLLAMA_CHAT else api


def _questions(dataset: Dataset) -> RunQuestions:
    if dataset.questions is None:
        return RunQuestions()
    return RunQuestions(tuple(dataset.questions.categories), Order(dataset.questions.order.lower()))


def _baseline(reference: BaselineReference) -> RunBaseline:
    return RunBaseline(float(reference.max_regression.removesuffix("%")) / 100)


def _request(request: Request) -> RunRequest:
    return RunRequest(
        stream=request.stream,
        max_tokens=request.max_tokens,
        prefix_cache=PrefixCache.UNIQUE if request.prefix_cache is PrefixCacheUse.UNIQUE else None,
        options=request.options,
        body=request.body,
        headers={header.name: header.value for header in request.headers} or None,
        temperature=float(request.temperature) if request.temperature is not None else None,
        timeout_seconds=parse_duration(request.timeout),
    )


def _stage(stage: RunStage) -> dict[str, Any]:
    level = {"concurrency": stage.concurrency} if stage.rate is None else {"rate": _text(stage.rate)}
    return {"duration": _duration(stage.duration_seconds), **level, "ramp": stage.ramp}


def _sweep(sweep: RunSweep) -> dict[str, Any]:
    return {
        "maxRate": _text(sweep.max_rate),
        "minRate": _text(sweep.min_rate),
        "stepDuration": _duration(sweep.step_seconds),
        "precision": f"{max(1, round(100 * sweep.precision))}%",
    }


def _text(number: float | None) -> str | None:
    """Return a number in the form of the API: decimal, at most 16 characters."""
    if number is None:
        return None
    return f"{number:.6f}".rstrip("0").rstrip(".")[:16]


def _duration(seconds: float | None) -> str | None:
    """Return a duration in the form of the API, with milliseconds as the smallest unit."""
    if seconds is None:
        return None
    whole, rest = divmod(round(seconds * 1000), 1000)
    return f"{whole}s{rest}ms" if rest else f"{whole}s"
