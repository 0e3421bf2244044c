"""Series about LLMEndpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llmendpoint_common.api import defaults
from llmendpoint_operator.admin.lines import Family, Lines, condition_help, conditions, line, status_of, who
from llmendpoint_operator.kube.owner import Manifest

_LABEL = "llmendpoint"


def endpoint_families(scheduled: Callable[[Manifest], int]) -> tuple[Family, ...]:
    """Return the families. `scheduled` returns the number of pods of an endpoint that have a node."""
    return (
        Family("llmendpoint_info", "LLMEndpoints; the value is 1.", _info),
        Family("llmendpoint_model_info", "Models of LLMEndpoints; the value is 1.", _models),
        Family("llmendpoint_condition", condition_help("LLMEndpoints"), conditions(_LABEL)),
        Family("llmendpoint_status_replicas", "Number of replicas that exist (status.replicas).", _count("replicas")),
        Family(
            "llmendpoint_status_replicas_ready",
            "Number of replicas that are ready (status.readyReplicas).",
            _count("readyReplicas"),
        ),
        Family(
            "llmendpoint_spec_num_parallel",
            "Number of requests that a replica runs at the same time per model (spec.ollama.numParallel).",
            _num_parallel,
        ),
        Family(
            "llmendpoint_gpus",
            "Number of GPUs that the pods of an LLMEndpoint occupy. The label product is empty if spec.gpu.products "
            "does not name exactly one. GPUs from resource claims are not included.",
            _gpus(scheduled),
        ),
    )


def _info(name: str, body: Manifest) -> Iterator[str]:
    status = status_of(body)
    yield line(name, who(body, _LABEL), {"gpu": status.get("gpu", ""), "url": status.get("url", "")})


def _models(name: str, body: Manifest) -> Iterator[str]:
    for model in body["spec"].get("models") or []:
        yield line(name, who(body, _LABEL), {"model_name": model["name"], "load": model.get("load", "")})


def _count(field: str) -> Lines:
    def lines(name: str, body: Manifest) -> Iterator[str]:
        yield line(name, who(body, _LABEL), {}, status_of(body).get(field, 0))

    return lines


def _num_parallel(name: str, body: Manifest) -> Iterator[str]:
    ollama = body["spec"].get("ollama") or {}
    yield line(name, who(body, _LABEL), {}, ollama.get("numParallel", defaults.NUM_PARALLEL))


def _gpus(scheduled: Callable[[Manifest], int]) -> Lines:
    def lines(name: str, body: Manifest) -> Iterator[str]:
        gpu = body["spec"].get("gpu") or {}
        count = gpu.get("count", defaults.GPU_COUNT)
        if not count or gpu.get("resourceClaims"):
            return
        products = gpu.get("products") or []
        labels = {
            "resource": gpu.get("resource", defaults.GPU_RESOURCE),
            "product": products[0] if len(products) == 1 else "",
        }
        yield line(name, who(body, _LABEL), labels, count * scheduled(body))

    return lines
