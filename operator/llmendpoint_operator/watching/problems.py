"""Describes what cannot be watched, in sentences to act on."""

from __future__ import annotations

from collections.abc import Iterable

from llmendpoint_operator.kube.unwatched import Unwatched, sentence
from llmendpoint_operator.watching.access import KindAccess

#: An API server that restarts is not a problem to report.
_FAILING_SECONDS = 30.0


def sentences(scope: str, accesses: Iterable[KindAccess]) -> list[str]:
    """Return one sentence per kind of problem in a scope. A missing optional kind is not a problem."""
    where = f"in namespace {scope}" if scope else "in the cluster"
    states = list(accesses)
    found = []
    missing = [access for access in states if access.is_missing and not access.kind.optional]
    if missing:
        found.append(
            f"The API server does not have the kinds {_names(missing)}. Install their CustomResourceDefinitions "
            "(manifests/crds); the operator then serves them."
        )
    refused = [access for access in states if access.is_lost and not access.is_missing]
    if refused:
        found.append(sentence([Unwatched(access.kind.name, scope, access.trouble) for access in refused]))
    failing = [access for access in states if access.failing_seconds > _FAILING_SECONDS]
    if failing:
        found.append(
            f"The API server does not answer requests for {_names(failing)} {where}: {failing[0].trouble.rstrip('.')}. "
            "The operator tries again."
        )
    return found


def _names(accesses: Iterable[KindAccess]) -> str:
    return ", ".join(access.kind.name for access in accesses)
