"""Section `overview`: the traffic of the last seconds."""

from __future__ import annotations

import msgspec

from llmendpoint_dashboard.contract.sections import Value


class Percentiles(Value, frozen=True, kw_only=True):
    """Percentiles of a latency, in seconds. They are interpolated within the buckets of a histogram."""

    p50: float
    p95: float
    p99: float


class Traffic(Value, frozen=True, kw_only=True):
    """Traffic over the last `window_seconds` of the overview, of everything, of one model, or of one tenant.

    Rates are per second. `running` and `waiting` are requests in flight now. `ttft` (time to first token) and
    `inter_chunk` are None if no stream was measured in the window. A tenant has only rates, so that its other fields
    are None. `outcomes` has the requests per second of each outcome that occurred in the window.
    """

    prompt_tokens_per_second: float
    generation_tokens_per_second: float
    requests_per_second: float
    running: int | None = None
    waiting: int | None = None
    ttft: Percentiles | None = None
    inter_chunk: Percentiles | None = None
    outcomes: dict[str, float] = msgspec.field(default_factory=dict)


class ModelTraffic(Traffic, frozen=True, kw_only=True):
    """Traffic of one model, over all sources. `model` is the label `model_name`."""

    model: str


class TenantTraffic(Traffic, frozen=True, kw_only=True):
    """Traffic of one tenant, over all sources. `tenant` is empty for requests without a tenant."""

    tenant: str


class Overview(Value, frozen=True, kw_only=True):
    """Section `overview`: the traffic of the last `window_seconds`, over all sources that are not down.

    `time` is when it was computed. `window_seconds` is 30, or less while the sources are known for a shorter time; it
    is 0 as long as no source has answered twice. Models and tenants are sorted by their generated tokens, most first.
    """

    time: float
    window_seconds: float
    total: Traffic
    models: tuple[ModelTraffic, ...] = ()
    tenants: tuple[TenantTraffic, ...] = ()
