"""Resolves the server and the model that a LoadTest's `target` or `endpointRef` refers to. Has no side effects."""

from __future__ import annotations

from typing import Any

from llmendpoint_common.api.loadtest.spec import LoadTestSpec, Protocol
from llmendpoint_common.api.translate.run_document import ResolvedTarget
from llmendpoint_common.contracts.cluster import EndpointCondition, LoadTestReason
from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_common.process.errors import NotReadyError, RunRefusedError
from llmendpoint_operator.kube.conditions import is_true
from llmendpoint_operator.kube.owner import Manifest

_APIS = {Protocol.OLLAMA: Api.OLLAMA_CHAT, Protocol.OPENAI: Api.OPENAI_CHAT}


def resolve(spec: LoadTestSpec, namespace: str, endpoint: Manifest | None) -> ResolvedTarget:
    """Return the target. `endpoint` is the LLMEndpoint of `endpointRef`, or None if it does not exist.

    Raises NotReadyError if the endpoint is not Ready, and RunRefusedError if it does not have the model.
    """
    if spec.target is not None:
        return ResolvedTarget(spec.target.url, _APIS[spec.target.protocol], spec.model or "")
    name = spec.endpoint_ref.name if spec.endpoint_ref else ""
    if endpoint is None:
        raise NotReadyError(f"LLMEndpoint {name} does not exist in namespace {namespace}.", "The run waits for it.")
    model = _model(spec.model, name, [item["name"] for item in endpoint["spec"]["models"]])
    status = endpoint.get("status") or {}
    conditions = status.get("conditions") or []
    if not is_true(conditions, EndpointCondition.READY) or not status.get("url"):
        raise NotReadyError(f"LLMEndpoint {name} is not Ready{_why(conditions)}.", "The run starts when it is Ready.")
    digests = [digest for state in status.get("models", []) if state["name"] == model for digest in state["digests"]]
    return ResolvedTarget(
        status["url"],
        Api.OLLAMA_CHAT,
        model,
        ",".join(digests),
        status.get("gpu", ""),
        status.get("readyReplicas", 0),
        status.get("configurationHash", ""),
    )


def _model(wanted: str | None, endpoint: str, served: list[str]) -> str:
    """Return the name of the model in the endpoint's spec. `tiny`, `TINY` and `tiny:latest` are the same model."""
    names = ", ".join(served)
    if wanted is None:
        if len(served) > 1:
            sentence = f"LLMEndpoint {endpoint} has {len(served)} models: set spec.model to one of {names}"
            raise RunRefusedError(LoadTestReason.MODEL_NOT_CHOSEN, sentence)
        return served[0]
    found = next((name for name in served if model_key(name) == model_key(wanted)), None)
    if found is None:
        sentence = f"LLMEndpoint {endpoint} does not have the model {wanted}: set spec.model to one of {names}"
        raise RunRefusedError(LoadTestReason.MODEL_NOT_SERVED, sentence)
    return found


def _why(conditions: list[dict[str, Any]]) -> str:
    """Return the reason why an endpoint is not Ready. Only a message that asks for a person is quoted.

    Other messages show progress and change often, and each change would be a write of the LoadTest's status.
    """
    found = {item["type"]: item for item in conditions}
    stalled = found.get(EndpointCondition.STALLED, {})
    if stalled.get("status") == "True":
        return f" ({stalled['reason']}: {stalled['message'].rstrip('. ')})"
    ready = found.get(EndpointCondition.READY)
    return f" ({ready['reason']})" if ready else ""
