"""What the replicas report of their models, as several conditions need it.

A replica whose sidecar does not answer reports nothing and is left out: conditions about models speak of the replicas
that report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from llmendpoint_common.contracts.sidecar import ModelPhase, ModelStatus
from llmendpoint_operator.endpoint.observe import PodView

#: Reasons of a model that could not be made present, as the sidecar's contract names them.
AVAILABILITY_FAILURES = frozenset({"ModelNotFound", "PullFailed", "DigestMismatch"})
#: Reasons of a present model that could not be loaded as the spec wants.
LOADING_FAILURES = frozenset({"LoadFailed", "NotOnGPU"})

NO_REPORT = "No replica reports its models yet. A replica reports them as soon as its sidecar runs."


def reports(pods: Sequence[PodView]) -> list[ModelStatus]:
    """Return every model of every replica that reports."""
    return [model for pod in pods if pod.status for model in pod.status.models]


def first_failure(pods: Sequence[PodView], reasons: Iterable[str] | None = None) -> ModelStatus | None:
    """Return a model that failed, for one of these reasons if any are given."""
    if reasons is None:
        return next((model for model in reports(pods) if model.phase is ModelPhase.FAILED), None)
    wanted = frozenset(reasons)
    return next((model for model in reports(pods) if model.reason in wanted), None)


def everywhere(pods: Sequence[PodView], name: str, holds: Callable[[ModelStatus], bool]) -> bool:
    """Tell whether at least one replica reports the model, and something holds for it on all that do."""
    mine = [model for model in reports(pods) if model.name == name]
    return bool(mine) and all(holds(model) for model in mine)


def slowest(pods: Sequence[PodView], name: str) -> ModelStatus | None:
    """Return the model as the replica reports it that has the least of it, None if no replica reports it."""
    mine = [model for model in reports(pods) if model.name == name]
    return min(mine, key=lambda model: model.progress_percent, default=None)


def activity(model: ModelStatus) -> str:
    """Return what is being done for a model, as a message that names it."""
    return f"{model.name}: {model.message}" if model.message else f"{model.name} is waiting to be pulled or loaded."
