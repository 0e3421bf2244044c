"""Silences of the server in a closed loop: times in which it sent nothing, although requests were in flight.

The users send nothing while the server is silent, so a silence is in the latencies of few requests, however long it is
(coordinated omission). Say 8 users have requests of 0.1 s, and the server stands still for 1.5 of every 5 s: 3 % of the
requests are late, so a p95 is met, but in 10 % of the time a request would have to wait for more than a second.
Objectives are corrected for that as in HdrHistogram: a request that comes at any time in a silence waits for the rest
of it. So it waits longer than a threshold T if it comes in the first F - T seconds of a silence of F seconds.

The load generator measures the silences (`llmendpoint_loadjob.client.silences`), without the times in which it stood
still itself. One that lasts for 5 % of the load or more is in `delivery`, whatever the objectives are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmendpoint_common.contracts.loadrun import MetricName, RunDocument
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.delivery import SCHEDULED, SILENCE_FACTOR, loading_time, thresholds, user_time
from llmendpoint_common.results.histogram import MICROSECONDS
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.objectives import Judged, State

#: Silences longer than this are reported if no objective is about a latency, in seconds.
_LONG_SILENCE = 1.0
#: Share of the load from which on silences are reported.
_MIN_SHARE = 0.01
_ROUNDING = 1e-6


def silences(measurements: Measurements, document: RunDocument) -> Iterator[str]:
    """Yield a sentence about the silences that are longer than a threshold for a latency, if there are any."""
    limit = max(min(thresholds(document), default=_LONG_SILENCE), _regular_silence(measurements))
    found = [(value, count) for value, count in measurements.silences.values() if value > limit]
    times, total = sum(count for _, count in found), sum(value * count for value, count in found)
    if total * MICROSECONDS < _MIN_SHARE * measurements.load or not _late_share(measurements, limit):
        return
    yield (
        f"{'once' if times == 1 else f'{times} times'}, the server sent nothing for more than {format_duration(limit)} "
        f"while at least 2 requests were in flight (longest: {format_duration(measurements.silences.max)}, together: "
        f"{format_duration(total)}, {100 * total * MICROSECONDS / measurements.load:.0f} % of the load)"
    )


def missed_in_silences(measurements: Measurements, document: RunDocument, judged: Sequence[Judged]) -> Iterator[str]:
    """Yield a sentence for each objective that a closed loop met only because its users sent nothing in silences.

    That is so if the share of the load in which a request would have been late is larger than the share of requests
    that may be late.
    """
    if not user_time(measurements, document):
        return
    for item in judged:
        limit = _limit(measurements, document, item)
        if item.state is not State.MET or limit is None:
            continue
        share = _late_share(measurements, limit)
        wait = format_duration(limit)
        if share > _allowed(item) + _ROUNDING:
            yield (
                f"{item.name} was met by the requests that were sent, but users sent none while the server was silent. "
                f"In {100 * share:.2g} % of the load, a request would have waited for more than {wait} "
                "(set a rate, so that requests are sent at such times too)"
            )


def hidden_silences(measurements: Measurements, document: RunDocument, judged: Sequence[Judged]) -> Iterator[str]:
    """Yield a sentence if one user met an objective, and its slow requests may have been silences of the server.

    One request in flight cannot tell. It counts only if it took longer than SILENCE_FACTOR times the median.
    """
    time = user_time(measurements, document)
    if measurements.users != 1 or not time:
        return
    latency = measurements.whole.histogram("request_latency")
    usual = SILENCE_FACTOR * latency.percentile(50) if latency.count else 0.0
    for item in judged:
        limit = _limit(measurements, document, item)
        if item.state is not State.MET or limit is None:
            continue
        limit = max(limit, usual)
        late = latency.excess(limit) - max(0.0, loading_time(measurements) - limit)
        share = late * MICROSECONDS / time
        if share > _allowed(item) + _ROUNDING:
            yield (
                "one user cannot tell a server that stands still from a slow request. If it stood still, a request "
                f"would have waited for more than {format_duration(limit)} in {100 * share:.2g} % of the load "
                "(set a rate, or use two users)"
            )
            return


def _allowed(item: Judged) -> float:
    """Return the share of requests that may be late."""
    if item.metric.name is MetricName.ATTAINMENT:
        return 1 - item.objective.threshold
    return 1 - (item.objective.percentile or 50) / 100


def _limit(measurements: Measurements, document: RunDocument, item: Judged) -> float | None:
    """Return after which wait a request is late, in seconds, or None if the objective is not about that."""
    if item.metric.name is MetricName.ATTAINMENT:
        limit = min(thresholds(document), default=None)
    else:
        limit = item.objective.threshold if item.metric.name in SCHEDULED else None
    return None if limit is None else max(limit, _regular_silence(measurements))


def _regular_silence(measurements: Measurements) -> float:
    """Return a time up to which a silence is how the server streams: it may send its tokens in large pieces."""
    gaps = measurements.whole.histogram("inter_chunk_latency")
    return SILENCE_FACTOR * gaps.percentile(50) if gaps.count else 0.0


def _late_share(measurements: Measurements, limit: float) -> float:
    """Return the share of the load in which a request would have waited for longer than `limit` because of silences.

    The first load of the model does not count.
    """
    if not measurements.load:
        return 0.0
    loading = max(0.0, loading_time(measurements) - limit)
    late = measurements.silences.excess(limit) - loading
    return max(0.0, late * MICROSECONDS / measurements.load)
