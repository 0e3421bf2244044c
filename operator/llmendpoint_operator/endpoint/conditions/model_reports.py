"""Reports of the replicas about their models. Several conditions use them.

A replica whose sidecar does not answer has no report and is ignored: conditions about models cover the replicas that
report their models.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointReason
from llmendpoint_common.contracts.sidecar import ModelReason, ModelStatus
from llmendpoint_operator.endpoint.observe import Observation, PodView
from llmendpoint_operator.kube.conditions import Condition

#: The reason in a report is a string, because a newer sidecar may have reasons that this operator does not know.
AVAILABILITY_FAILURES: frozenset[str] = frozenset(
    {
        ModelReason.MODEL_NOT_FOUND,
        ModelReason.FILE_NOT_READABLE,
        ModelReason.PULL_FAILED,
        ModelReason.CREATE_FAILED,
        ModelReason.DIGEST_MISMATCH,
    }
)
LOADING_FAILURES: frozenset[str] = frozenset({ModelReason.LOAD_FAILED, ModelReason.NOT_ON_GPU})

_NO_REPLICA = "The endpoint is scaled to zero, so no replica reports its models."
_NO_REPORT = "No replica reports its models yet. A replica reports them as soon as its sidecar runs."


def reports(pods: Sequence[PodView]) -> list[ModelStatus]:
    """Return every model of every replica that reports."""
    return [model for pod in pods if pod.status for model in pod.status.models]


def hung(pods: Sequence[PodView]) -> str:
    """Return a message for each replica whose Ollama is hung, in one text. It is empty if there is none."""
    return " ".join(f"{pod.name}: {pod.status.stalled.message}" for pod in pods if pod.status and pod.status.stalled)


def no_report(kind: str, spec: LLMEndpointSpec, seen: Observation) -> Condition:
    """Return a condition of type `kind` that is Unknown, because no replica reports its models."""
    if not seen.wanted(spec):
        return Condition(kind, None, EndpointReason.SCALED_TO_ZERO, _NO_REPLICA)
    silence = next((pod.silence for pod in seen.pods if pod.silence), "")
    if silence:
        return Condition(kind, None, EndpointReason.SIDECAR_UNREACHABLE, silence)
    return Condition(kind, None, EndpointReason.STARTING, _NO_REPORT)


def first_failure(pods: Sequence[PodView], reasons: Container[str]) -> ModelStatus | None:
    """Return the first model that failed for one of these reasons."""
    return next((model for model in reports(pods) if model.reason in reasons), None)


def everywhere(pods: Sequence[PodView], name: str, holds: Callable[[ModelStatus], bool]) -> bool:
    """Return whether at least one replica reports the model, and `holds` is true for each report of it."""
    mine = [model for model in reports(pods) if model.name == name]
    return bool(mine) and all(holds(model) for model in mine)


def slowest(pods: Sequence[PodView], name: str) -> ModelStatus | None:
    """Return the report of a model with the least progress, or None if no replica reports the model."""
    mine = [model for model in reports(pods) if model.name == name]
    return min(mine, key=lambda model: model.progress_percent, default=None)


def unfinished(pods: Sequence[PodView]) -> ModelStatus | None:
    """Return the first model whose declared version is not in use yet, or None if there is none."""
    return next((model for model in reports(pods) if not model.serving), None)


def different_digests(pods: Sequence[PodView]) -> dict[str, list[str]]:
    """Return the digests of models of which the replicas have different versions, by name.

    It is empty while a replica has not read the latest configuration, or is changing its models.
    """
    if any(pod.outdated or pod.status is None for pod in pods) or unfinished(pods) is not None:
        return {}
    digests: dict[str, set[str]] = {}
    for model in reports(pods):
        if model.digest:
            digests.setdefault(model.name, set()).add(model.digest)
    return {name: sorted(found) for name, found in digests.items() if len(found) > 1}


def activity(model: ModelStatus) -> str:
    """Return a message with the name of the model and its current step."""
    return f"{model.name}: {model.message}" if model.message else f"{model.name} is waiting to be pulled or loaded."
