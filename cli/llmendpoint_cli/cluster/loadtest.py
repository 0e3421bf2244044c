"""Builds a LoadTest from the options of `llmendpoint load`."""

from __future__ import annotations

from typing import Any

from llmendpoint_cli.cluster.names import ObjectName
from llmendpoint_common.api.translate.run_document import load_state
from llmendpoint_common.contracts.cluster import API_VERSION, LOADTEST
from llmendpoint_common.contracts.loadrun import METRICS, Api, Objective, Order, PrefixCache, RunDocument

#: Names of LoadTests are prefixes of the names of their objects.
_MAX_PREFIX = 30


def load_test(document: RunDocument, endpoint: ObjectName, model: str | None, name: str | None) -> dict[str, Any]:
    """Return the manifest of a LoadTest of an LLMEndpoint. Without a model, the endpoint's only one is meant.

    Without a name, the API server makes one.
    """
    prefix = f"{endpoint.name[:_MAX_PREFIX].rstrip('-.')}-load-"
    spec: dict[str, Any] = {
        "endpointRef": {"name": endpoint.name},
        "model": model,
        "load": load_state(document.load, 1),
        "dataset": _dataset(document),
        "request": _request(document),
        "slo": [_objective(item) for item in document.objectives] or None,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": LOADTEST,
        "metadata": {"namespace": endpoint.namespace, **({"name": name} if name else {"generateName": prefix})},
        "spec": _given(spec),
    }


def _dataset(document: RunDocument) -> dict[str, Any] | None:
    if document.synthetic is not None:
        lengths = {"inputTokens": document.synthetic.input_tokens, "outputTokens": document.synthetic.output_tokens}
        return {"synthetic": lengths}
    questions = document.questions
    fields = {
        "categories": list(questions.categories) or None,
        "order": "Sequential" if questions.order is Order.SEQUENTIAL else None,
    }
    return {"questions": _given(fields)} if _given(fields) else None


def _request(document: RunDocument) -> dict[str, Any]:
    request = document.request
    fields = {
        "type": "Generate" if document.target.api is Api.OLLAMA_GENERATE else None,
        "stream": None if request.stream else False,
        "maxTokens": request.max_tokens,
        "temperature": None if request.temperature is None else f"{request.temperature:g}",
        "timeout": f"{round(request.timeout_seconds * 1000)}ms",
        "prefixCache": "Unique" if request.prefix_cache is PrefixCache.UNIQUE else None,
        "options": request.options,
        "body": request.body,
        "headers": [{"name": name, "value": value} for name, value in (request.headers or {}).items()] or None,
    }
    return _given(fields)


def _objective(objective: Objective) -> dict[str, Any]:
    threshold = METRICS[objective.metric].format(objective.threshold)
    return _given({"metric": objective.metric.value, "percentile": objective.percentile, "threshold": threshold})


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
