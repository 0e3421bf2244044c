"""Section `about`: what the dashboard is and reads."""

from __future__ import annotations

from enum import StrEnum

from llmendpoint_dashboard.contract.sections import Value


class Mode(StrEnum):
    """Whether the dashboard shows the processes of one machine, or the endpoints of a cluster."""

    MACHINE = "machine"
    CLUSTER = "cluster"


class SourceState(StrEnum):
    """States of a source.

    - OK: it answered the last poll.
    - STALE: it did not, so its figures are those of its last answer.
    - DOWN: it has not answered for 30 s, or never, so it is not part of the overview.
    """

    OK = "ok"
    STALE = "stale"
    DOWN = "down"


class Source(Value, frozen=True, kw_only=True):
    """A sidecar whose metrics are read.

    `url` is the address of its admin port. `simulated` is whether its upstream is the simulator. `last_seen` is the
    time of its last complete answer if it is stale or down, and None if it is ok, so that the section does not change
    with every poll. `message` is one sentence that says why it is not ok; a source that is ok has one if its Ollama
    does not answer.
    """

    name: str
    url: str
    simulated: bool = False
    state: SourceState
    last_seen: float | None = None
    message: str = ""


class About(Value, frozen=True, kw_only=True):
    """Section `about`: what this dashboard is and reads.

    `prometheus` is whether a Prometheus is configured, and `prometheus_message` why it cannot be used now.
    `can_start_load_tests` is whether `POST /api/v1/loadtests` starts load tests, and `has_load_key` is whether those
    without an API key in the form have that of the stack. `cluster` is one sentence about the connection to the API
    server if the mode is `cluster`; it is empty while everything is watched.
    """

    version: str
    mode: Mode
    prometheus: bool
    prometheus_message: str = ""
    can_start_load_tests: bool
    has_load_key: bool = False
    cluster: str = ""
    sources: tuple[Source, ...] = ()
