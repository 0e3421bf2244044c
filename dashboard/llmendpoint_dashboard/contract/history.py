"""Histories for the charts."""

from __future__ import annotations

from enum import StrEnum

from llmendpoint_dashboard.contract.sections import Value


class SeriesName(StrEnum):
    """Names of the series of a history. Latencies are in seconds, the others are numbers or rates per second."""

    PROMPT_TOKENS = "promptTokensPerSecond"
    GENERATION_TOKENS = "generationTokensPerSecond"
    RUNNING = "running"
    WAITING = "waiting"
    TTFT_P50 = "ttftP50"
    TTFT_P95 = "ttftP95"
    INTER_CHUNK_P50 = "interChunkP50"
    INTER_CHUNK_P95 = "interChunkP95"
    ERRORS = "errorsPerSecond"


class HistorySource(StrEnum):
    """Sources of histories.

    - SIDECARS: what the dashboard has read from the sidecars itself.
    - PROMETHEUS: the same for the time that it covers, and Prometheus for what is older.
    """

    SIDECARS = "sidecars"
    PROMETHEUS = "prometheus"


class Series(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A series. `values` has one value for each of the times. `outcome` is set if the name is `errorsPerSecond`.

    There is one series of errors for each outcome that occurred and is an error.
    """

    name: SeriesName
    values: list[float | None]
    outcome: str = ""


class History(Value, frozen=True, kw_only=True):
    """Answer of `GET /api/v1/history?range=15m|1h|6h|24h|7d&model=&tenant=`.

    `step` is the distance between two times, in seconds, and `range` the range that was asked for. `message` says why a
    part is missing, for example that Prometheus does not answer and the sidecars' last hour is shown instead. With a
    tenant there are only tokens and errors, because the metrics of latencies have no tenants.
    """

    range: str
    step: float
    source: HistorySource
    message: str = ""
    times: list[float]
    series: list[Series]
