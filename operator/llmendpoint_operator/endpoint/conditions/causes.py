"""Why replicas are not ready: the causes that Ready and Degraded name, the most telling first.

A container that does not run explains a model that fails on the same pod, so the trouble of a pod hides its models.
A failed model of a pod that runs comes before the troubles of other pods, because it usually needs a change of the
spec.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from llmendpoint_common.contracts.cluster import EndpointReason
from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint.observe import Observation

_SHOWN = 3


class Cause(NamedTuple):
    """A reason and a message of a condition."""

    reason: str
    message: str


def causes(seen: Observation) -> list[Cause]:
    """Return the causes of all replicas that are not ready, without duplicates."""
    return list(dict.fromkeys((*_failed_models(seen), *_troubles(seen), *_silences(seen))))


def in_words(found: list[Cause]) -> str:
    """Return the messages of the first causes, and the number of the others."""
    shown = " ".join(cause.message for cause in found[:_SHOWN])
    rest = len(found) - _SHOWN
    return f"{shown} ({rest} more)" if rest > 0 else shown


def _failed_models(seen: Observation) -> Iterator[Cause]:
    for pod in seen.pods:
        if pod.trouble is None and not pod.ready and pod.status is not None:
            for model in pod.status.models:
                if model.phase is ModelPhase.FAILED:
                    yield Cause(model.reason, model.message)


def _troubles(seen: Observation) -> Iterator[Cause]:
    for trouble in (*(pod.trouble for pod in seen.pods), *seen.absent):
        if trouble is not None:
            yield Cause(trouble.reason, trouble.message)


def _silences(seen: Observation) -> Iterator[Cause]:
    for pod in seen.pods:
        if not pod.ready and pod.silence:
            yield Cause(EndpointReason.SIDECAR_UNREACHABLE, pod.silence)
