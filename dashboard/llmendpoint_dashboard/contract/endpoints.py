"""Rows of `endpoints`."""

from __future__ import annotations

from llmendpoint_dashboard.contract.sections import Row, Value


class Condition(Value, frozen=True, kw_only=True):
    """A condition of an LLMEndpoint, as the Kubernetes API has it. The time is in RFC 3339."""

    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_time: str = ""


class EndpointRow(Row, frozen=True, kw_only=True):
    """Row of `endpoints`: an LLMEndpoint. The key is NAMESPACE/NAME.

    `ready` is the status of the condition Ready (`True`, `False` or `Unknown`). `reason` and `message` are those of the
    same condition, or of Reconciling if the endpoint has no replicas. `models` are the declared names. `gpu` is what a
    replica requests, such as `1 nvidia.com/gpu`, or empty. `advice` says what to do, and is empty if nothing is wrong.
    """

    namespace: str
    name: str
    ready: str
    reason: str = ""
    message: str = ""
    url: str = ""
    models: tuple[str, ...] = ()
    replicas: int = 0
    ready_replicas: int = 0
    gpu: str = ""
    conditions: tuple[Condition, ...] = ()
    advice: str = ""
