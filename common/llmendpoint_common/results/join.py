"""Joins the requests of the load generator with the sidecars' records of them, by request ID.

The time to first token of a request, from its scheduled time, is split into parts that add up to it:

| part | from |
| --- | --- |
| client | the load generator: sent - scheduled |
| network | the load generator and the sidecar: the rest of TTFT, with opening a connection |
| proxy | the sidecar: its own overhead |
| queue | the sidecar: the wait in Ollama, and what Ollama does not report |
| load, prefill | Ollama |

So all parts but `client` add up to TTFT. The meter audit compares the tokens that the client was told with those that
the sidecars metered, for requests that the client knows the tokens of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import MeterAudit
from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.results.histogram import Histogram
from llmendpoint_common.results.measurements import Join
from llmendpoint_common.results.words import plural

#: Parts of TTFT, in the order of time.
PARTS = ("client", "network", "proxy", "queue", "load", "prefill")


class ClientRequest(NamedTuple):
    """A request that was answered, as the load generator measured it. Times are in seconds, and None is unknown."""

    request_id: str
    queue_delay: float
    ttft: float | None
    input_tokens: int | None
    output_tokens: int | None


def join(requests: Iterable[ClientRequest], records: Mapping[str, RequestRecord]) -> Join:
    """Return the requests of a run, joined with their records by request ID."""
    joined = Join()
    for request in requests:
        add(joined, request, records.get(request.request_id))
    return joined


def add(joined: Join, request: ClientRequest, record: RequestRecord | None) -> None:
    """Add a request. Its record is None if no sidecar has one."""
    joined.requests += 1
    if record is None:
        return
    joined.found += 1
    _compare_tokens(joined, request, record)
    for name, seconds in (split(request, record) or {}).items():
        joined.parts.setdefault(name, Histogram()).record(seconds)


def split(request: ClientRequest, record: RequestRecord) -> dict[str, float] | None:
    """Return the parts of the time to first token by name, or None if one of the two times is unknown.

    Clocks differ by microseconds, and Ollama's durations are measured apart. A part that would be negative is 0, and
    the parts before it are shorter.
    """
    if request.ttft is None or record.time_to_first_token is None:
        return None
    inside = min(request.ttft, record.time_to_first_token)
    parts = {"client": max(0.0, request.queue_delay), "network": request.ttft - inside}
    rest = inside
    for name, seconds in (("prefill", record.prefill), ("load", record.load), ("proxy", record.overhead)):
        parts[name] = min(rest, max(0.0, seconds or 0.0))
        rest -= parts[name]
    parts["queue"] = rest
    return {name: parts[name] for name in PARTS}


def audit_of(joined: Join) -> MeterAudit:
    """Return the audit of the meter, with a sentence that says whether the tokens agree."""
    missing = joined.requests - joined.found
    if joined.differing:
        message = (
            f"The tokens of {plural(joined.differing, 'request')} differ: the client was told "
            f"{joined.client_tokens} tokens, and {joined.metered_tokens} were metered"
        )
    elif not joined.found:
        message = "No sidecar has a record of a request of this run"
    else:
        message = f"The {joined.client_tokens} tokens of {plural(joined.found, 'request')} are those that were metered"
    if missing and joined.found:
        message += f"; {plural(missing, 'request')} had no record"
    if missing and joined.failure:
        message += f": {joined.failure}"
    return MeterAudit(
        joined.requests, joined.found, joined.client_tokens, joined.metered_tokens, joined.differing, message
    )


def _compare_tokens(joined: Join, request: ClientRequest, record: RequestRecord) -> None:
    if request.input_tokens is None or request.output_tokens is None:
        return
    metered = (record.prompt_tokens or 0, record.generation_tokens or 0)
    joined.client_tokens += request.input_tokens + request.output_tokens
    joined.metered_tokens += sum(metered)
    joined.differing += metered != (request.input_tokens, request.output_tokens)
