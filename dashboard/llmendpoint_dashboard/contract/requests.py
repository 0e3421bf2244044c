"""Rows of `requests`."""

from __future__ import annotations

from llmendpoint_dashboard.contract.sections import Row

#: Number of rows that the table `requests` has at most.
MAX_REQUESTS = 200


class RequestRow(Row, frozen=True, kw_only=True):
    """Row of `requests`: one of the last 200 requests, without content.

    `time` is when it ended. `queue`, `load`, `prefill` and `decode` are the parts of its duration that Ollama reports.
    They do not add up to `duration`, which the sidecar measures. `ttft` is None unless the response was a stream.
    """

    time: float
    source: str
    request_id: str = ""
    model: str
    tenant: str
    operation: str
    code: int
    outcome: str
    duration: float
    ttft: float | None = None
    queue: float | None = None
    load: float | None = None
    prefill: float | None = None
    decode: float | None = None
    prompt_tokens: int | None = None
    generation_tokens: int | None = None
