"""Translates the spec of a LoadTest into the run document that the load generator reads."""

from __future__ import annotations

from dataclasses import dataclass

from llmendpoint_common.api import defaults
from llmendpoint_common.api.loadtest.spec import LoadShape, LoadTestSpec, Request, SloItem
from llmendpoint_common.contracts.loadrun import (
    METRICS,
    Api,
    Arrivals,
    Objective,
    Order,
    RunDocument,
    RunLoad,
    RunQuestions,
    RunRequest,
    RunTarget,
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
    questions = spec.dataset.questions
    return RunDocument(
        target=RunTarget(target.url, target.api),
        model=target.model,
        load=_load(spec.load),
        questions=RunQuestions(tuple(questions.categories), Order(questions.order.lower())),
        request=_request(spec.request),
        objectives=tuple(_objective(item) for item in spec.slo),
    )


def _load(load: LoadShape) -> RunLoad:
    is_open = load.rate is not None
    return RunLoad(
        concurrency=None if is_open else load.concurrency or defaults.LOAD_CONCURRENCY,
        rate=float(load.rate) if load.rate is not None else None,
        arrivals=(Arrivals(load.arrivals.lower()) if load.arrivals else Arrivals.POISSON) if is_open else None,
        duration_seconds=parse_duration(load.duration),
        warmup_seconds=parse_duration(load.warmup),
        max_requests=load.max_requests,
        seed=load.seed,
    )


def _request(request: Request) -> RunRequest:
    return RunRequest(
        stream=request.stream,
        max_tokens=request.max_tokens,
        temperature=float(request.temperature) if request.temperature is not None else None,
        timeout_seconds=parse_duration(request.timeout),
    )


def _objective(item: SloItem) -> Objective:
    return Objective(item.metric, METRICS[item.metric].parse(item.threshold), item.percentile)
