"""Whether the load that was asked for reached the server, and whether the server answered through all of it.

A user of a closed loop sends nothing while a request is in flight. So a server that hangs gets few requests, and few of
them fail or are late, however long it hangs (coordinated omission). An open loop with `maxInFlight` keeps requests back
while the server is slow, and their latencies from t0 do not show it. A request that was sent in the warm-up and hangs
keeps its user or its slot from the load, and is in no figure. Each function yields a sentence for what makes the
figures of such a run those of another load, and nothing if the load was that of the document.
Many short silences are the subject of `silences`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from llmendpoint_common.contracts.loadrun import MetricName, RunDocument, RunStage
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.enough import longer_than
from llmendpoint_common.results.histogram import MICROSECONDS, rank_of
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.objectives import MAX_LAG_P99, Judged, State
from llmendpoint_common.results.words import plural, was

#: Share of their time that users of a closed loop may lose: to pauses after failures, to failed requests, to a silence.
MAX_LOST_SHARE = 0.05
#: A silence is longer than the median latency by this factor. Otherwise, no answer was due meanwhile.
SILENCE_FACTOR = 5
MIN_SENT_SHARE = 0.95
SCHEDULED = {MetricName.TTFT: "ttft_scheduled", MetricName.REQUEST_LATENCY: "request_latency_scheduled"}
_ROUNDING = 1e-6
_MISSED_ON_TIME = "misses its objective if it is measured from the time at which each request was due"


def lost_time(measurements: Measurements, document: RunDocument) -> Iterator[str]:
    """Yield a sentence for each way in which the users of a closed loop lost more time than is allowed."""
    time = user_time(measurements, document)
    if not time:
        return
    paused = measurements.paused / time
    if paused > MAX_LOST_SHARE:
        yield f"users waited for {100 * paused:.0f} % of the time after failures (Retry-After, or no connection)"
    whole, early = measurements.whole, measurements.warmup_failed
    failing = (measurements.failing + early.sum_microseconds) / time
    if failing - whole.errors / max(1, whole.requests) > MAX_LOST_SHARE:
        in_warmup = f" ({early.count} sent in the warm-up)" if early.count else ""
        yield (
            f"users waited for {100 * failing:.0f} % of the time for {plural(whole.errors + early.count, 'request')} "
            f"that failed{in_warmup}, and sent nothing meanwhile"
        )
    count, late = _late_from_warmup(measurements, document)
    if late > MAX_LOST_SHARE * time:
        yield (
            f"users waited for {100 * late / time:.0f} % of the time for {plural(count, 'request')} of the warm-up, "
            f"whose {'answer' if count == 1 else 'answers'} came late and {was(count)} not measured"
        )
    silence = _silence(measurements, document)
    if silence and not _stood_still(measurements, document, silence):
        share = 100 * silence * MICROSECONDS / measurements.load
        yield (
            f"the server ended no request for {format_duration(silence)} or more ({share:.0f} % of the load) while "
            "requests were in flight"
        )


def after_silence(measurements: Measurements, document: RunDocument) -> str:
    """Return a sentence about what to do after a silence of the server, or nothing if there was none."""
    silence = _silence(measurements, document) if user_time(measurements, document) else 0.0
    if not silence or _stood_still(measurements, document, silence):
        return ""
    return longer_than(silence, MAX_LOST_SHARE, document)


def own_pause(measurements: Measurements, document: RunDocument) -> str:
    """Return a sentence about a silence that was one of the load generator, which read no response meanwhile."""
    silence = _silence(measurements, document) if user_time(measurements, document) else 0.0
    if not silence or not _stood_still(measurements, document, silence):
        return ""
    longest = measurements.lag.max_microseconds
    share = 100 * longest / measurements.load
    return f"it stood still for {format_duration(longest / MICROSECONDS)} ({share:.0f} % of the load)"


def idle_users(measurements: Measurements, document: RunDocument) -> str:
    """Return a sentence if the load generator sent the requests of users so late that fewer of them were active."""
    time = user_time(measurements, document)
    share = measurements.idle / time if time else 0.0
    if share <= MAX_LOST_SHARE:
        return ""
    return (
        f"for {100 * share:.0f} % of their time, users were ready to send a request that it sent later (maximum: "
        f"{100 * MAX_LOST_SHARE:.0f} %), so fewer requests were in flight than the run asked for"
    )


def loading_time(measurements: Measurements) -> float:
    """Return for how many seconds of the load the server was loading the model, before it ended the first request.

    Ollama reports this time. A server that loads its model is not one that hangs. 0 if a request had ended before: a
    model that is loaded again was unloaded, and that disturbs a run.
    """
    load, timeline = measurements.first_load, measurements.timeline
    if load is None:
        return 0.0
    ended = [index for index, bucket in timeline.buckets.items() if bucket.completed + bucket.errors]
    if ended and (min(ended) + 1) * timeline.width * MICROSECONDS <= load.sent:
        return 0.0
    end = min(load.until, round(measurements.load))
    return max(0, end - max(0, load.sent)) / MICROSECONDS


def kept_back(measurements: Measurements, document: RunDocument, judged: Sequence[Judged]) -> Iterator[str]:
    """Yield a sentence for each sign that `maxInFlight` changed the load of an open loop.

    An objective on a latency that was met from t0 has to be met from the scheduled time t_s as well.
    """
    load = document.load
    if load.max_in_flight is None or load.sweep is not None:
        return
    offered, sent = measurements.offered, measurements.sent
    if sent < MIN_SENT_SHARE * offered:
        yield (
            f"{sent} of {offered} due requests {was(sent)} sent before the load ended, because maxInFlight "
            f"({load.max_in_flight}) kept the others back"
        )
    count, late = _late_from_warmup(measurements, document)
    early = measurements.warmup_failed
    held = (late + early.sum_microseconds) / (load.max_in_flight * measurements.load or 1)
    if held > MAX_LOST_SHARE:
        yield (
            f"{plural(count + early.count, 'request')} of the warm-up, which failed or came late, took up "
            f"{100 * held:.0f} % of maxInFlight ({load.max_in_flight})"
        )
    for item in judged:
        if not _is_met_on_time(measurements, document, item, max(MAX_LAG_P99, measurements.worst_lag / MICROSECONDS)):
            yield f"{item.name} {_MISSED_ON_TIME}"


def sent_late(measurements: Measurements, document: RunDocument, judged: Sequence[Judged]) -> Iterator[str]:
    """Yield a sentence if an open loop met objectives only because the load generator itself sent requests late.

    Their latencies count from t0, and users who arrive on time would have waited since the scheduled time t_s. A delay
    of up to MAX_LAG_P99 is normal. `kept_back` is asked first: it names what `maxInFlight` caused.
    """
    if not (document.load.is_open or document.trace is not None) or document.load.sweep is not None:
        return
    missed = [item.name for item in judged if not _is_met_on_time(measurements, document, item, MAX_LAG_P99)]
    if missed:
        delay = measurements.whole.histogram("queue_delay")
        yield f"it sent requests up to {format_duration(delay.max)} late (p95: {format_duration(delay.percentile(95))})"
        yield from (f"{name} {_MISSED_ON_TIME}" for name in missed)


def _is_met_on_time(measurements: Measurements, document: RunDocument, judged: Judged, tolerance: float) -> bool:
    """Return whether an objective that was met is met from the scheduled time too, with a delay up to `tolerance`.

    True for an objective that was not met.
    """
    if judged.state is not State.MET:
        return True
    objective, name = judged.objective, judged.metric.name
    if name is MetricName.ATTAINMENT:
        needed = ceil(objective.threshold * judged.requests - _ROUNDING)
        limits = [(MetricName(other.metric), other.threshold) for other in document.objectives]
    else:
        needed = rank_of(objective.percentile or 50, judged.requests)
        limits = [(name, objective.threshold)]
    whole = measurements.whole
    return all(
        whole.histogram(SCHEDULED[metric]).count_to(threshold + tolerance) >= needed
        for metric, threshold in limits
        if metric in SCHEDULED
    )


def thresholds(document: RunDocument) -> list[float]:
    """Return the thresholds of the objectives on TTFT and RequestLatency, in seconds."""
    return [item.threshold for item in document.objectives if MetricName(item.metric) in SCHEDULED]


def user_time(measurements: Measurements, document: RunDocument) -> float:
    """Return the time of all users of a closed loop together, in microseconds; 0 for an open loop."""
    load = document.load
    if load.is_open or document.trace is not None:
        return 0.0
    if load.stages is not None:
        return _user_time_of_stages(load.stages, measurements.load / MICROSECONDS) * MICROSECONDS
    users = load.concurrency or (load.sessions.users if load.sessions is not None else 0)
    return float(users * measurements.load)


def _user_time_of_stages(stages: Sequence[RunStage], remaining: float) -> float:
    """Return the area below the curve of the stages, up to the end of the load, in seconds."""
    before = area = 0.0
    for stage in stages:
        last = float(stage.concurrency or 0)
        first = before if stage.ramp else last
        seconds = max(0.0, min(stage.duration_seconds, remaining))
        # The mean level of a part of a ramp is that of its middle.
        area += seconds * (first + (last - first) * seconds / stage.duration_seconds / 2)
        before, remaining = last, remaining - seconds
    return area


def _late_from_warmup(measurements: Measurements, document: RunDocument) -> tuple[int, float]:
    """Return how many answered requests of the warm-up hung in the load, and for how many microseconds together.

    Long answers are not a sign of a server that hangs, so only those count that lasted longer than the thresholds and
    than is usual. The time in which the server loads the model does not count.
    """
    latency = measurements.whole.histogram("request_latency")
    limits = thresholds(document)
    limits.append(SILENCE_FACTOR * latency.percentile(50) if latency.count else 0.0)
    limit = max(limits) + loading_time(measurements)
    found = [(value, count) for value, count in measurements.warmup_late.values() if value > limit]
    return sum(count for _, count in found), sum(value * count for value, count in found) * MICROSECONDS


def _silence(measurements: Measurements, document: RunDocument) -> float:
    """Return the longest silence of the server in seconds, or 0 if it is not longer than is allowed."""
    longest = float(_longest_silence(measurements))
    is_long = longest > _allowed_silence(measurements, document)
    return longest if is_long and not _was_streaming(measurements, longest) else 0.0


def _allowed_silence(measurements: Measurements, document: RunDocument) -> float:
    """Return for how many seconds no request may end although some are in flight."""
    latency = measurements.whole.histogram("request_latency")
    return max(
        *thresholds(document),
        MAX_LOST_SHARE * measurements.load / MICROSECONDS,
        SILENCE_FACTOR * latency.percentile(50) if latency.count else 0.0,
    )


def _stood_still(measurements: Measurements, document: RunDocument, silence: float) -> bool:
    """Return whether a silence was too long only because the event loop of the load generator was delayed.

    The silence also contains the time from the last response before the delay.
    """
    delay = measurements.lag.max_microseconds / MICROSECONDS
    return silence - delay <= _allowed_silence(measurements, document)


def _longest_silence(measurements: Measurements) -> int:
    """Return the longest time in the load, in whole buckets, in which requests were in flight and none ended.

    The time in which the server loads the model for the first requests does not count.
    """
    timeline = measurements.timeline
    if not timeline.buckets:
        return 0
    load = measurements.first_load
    loaded = load.until / MICROSECONDS if load is not None and loading_time(measurements) else 0.0
    in_flight = longest = current = 0
    last = int(measurements.load / MICROSECONDS / timeline.width)
    for index in range(min(timeline.buckets), min(last, max(timeline.buckets) + 1)):
        bucket = timeline.buckets.get(index)
        ended = bucket.completed + bucket.errors if bucket is not None else 0
        is_silent = index * timeline.width >= loaded and in_flight > 0 and not ended
        current = current + timeline.width if is_silent else 0
        longest = max(longest, current)
        in_flight += (bucket.sent if bucket is not None else 0) - ended
    return longest


def _was_streaming(measurements: Measurements, seconds: float) -> bool:
    """Return whether content came in spite of the silence: all were streamed, without so long a wait.

    A long answer that arrives token by token is not a silence.
    """
    whole = measurements.whole
    ttft = whole.histogram("ttft")
    if whole.errors or ttft.count < whole.requests:
        return False
    return max(ttft.max_microseconds, whole.histogram("inter_chunk_latency").max_microseconds) < seconds * MICROSECONDS
