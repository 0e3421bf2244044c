"""What one request adds to the measurements: its latencies, its states for the objectives, and its tokens.

`llmendpoint_common.results.measurements` explains the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import METRICS, MetricName, Objective
from llmendpoint_common.results.histogram import MICROSECONDS
from llmendpoint_common.results.join import ClientRequest
from llmendpoint_common.results.measurements import MAX_EXAMPLE, Group
from llmendpoint_common.results.objectives import MAX_LAG_P99
from llmendpoint_loadjob.result.timings import ErrorClass, Sample

_WITHIN, _BEYOND, _UNKNOWN, _NOT_APPLICABLE, _LATE = range(5)
#: Delay of a request after which it was sent late, in microseconds.
_MAX_DELAY = round(MAX_LAG_P99 * MICROSECONDS)
#: Latencies of categories and steps. Those of the whole run have all others too.
_PART_LATENCIES = ("ttft", "tpot", "request_latency")


class Limit(NamedTuple):
    """The threshold of an objective on a latency, in microseconds. `number` is that of the objective in its run."""

    number: int
    field: str
    microseconds: int


def limits_of(objectives: Sequence[Objective]) -> tuple[Limit, ...]:
    """Return the thresholds of the objectives on latencies."""
    return tuple(
        Limit(index, METRICS[MetricName(objective.metric)].field, round(objective.threshold * MICROSECONDS))
        for index, objective in enumerate(objectives)
        if METRICS[MetricName(objective.metric)].is_latency
    )


class Reading:
    """A request that has ended. `values` are its latencies in microseconds, and empty if it has no answer."""

    __slots__ = ("_limits", "_sample", "_states", "values")

    def __init__(self, sample: Sample, limits: tuple[Limit, ...], *, is_streamed: bool) -> None:
        self.values = latencies_of(sample, is_streamed=is_streamed) if sample.error is None else {}
        self._sample = sample
        self._limits = limits
        self._states = [self._state(limit) for limit in limits]

    def add_to(self, group: Group, *, in_time: bool, is_whole: bool = False) -> None:
        """Add the request to a group. `in_time` is whether it ended before the end of the group's load."""
        sample = self._sample
        group.requests += 1
        if sample.matched is not None:
            group.expected += 1
            group.matched += sample.matched
        if self._limits:
            self._add_states(group)
        if sample.error is not None:
            group.errors += 1
            return
        group.completed += in_time
        self._add_attainment(group, in_time=in_time)
        _add_tokens(group, sample, in_time=in_time)
        if is_whole:
            self._add_all_latencies(group)
            return
        for name in _PART_LATENCIES:
            if name in self.values:
                group.histogram(name).record_microseconds(self.values[name])

    def _state(self, limit: Limit) -> int:
        if not self.values:
            return _BEYOND
        value = self.values.get(limit.field)
        if value is not None:
            if value > limit.microseconds:
                return _BEYOND
            on_time = self.values.get(f"{limit.field}_scheduled", 0)
            return _LATE if on_time > limit.microseconds + _MAX_DELAY else _WITHIN
        return _NOT_APPLICABLE if limit.field == "tpot" and self._sample.output_tokens == 1 else _UNKNOWN

    def _add_states(self, group: Group) -> None:
        for limit, state in zip(self._limits, self._states, strict=True):
            if state in (_WITHIN, _LATE):
                group.objectives[limit.number].within += 1
                group.objectives[limit.number].late += state == _LATE
            elif state == _UNKNOWN:
                group.objectives[limit.number].unknown += 1
            elif state == _NOT_APPLICABLE:
                group.objectives[limit.number].not_applicable += 1

    def _add_attainment(self, group: Group, *, in_time: bool) -> None:
        if _BEYOND in self._states:
            return
        if _UNKNOWN in self._states:
            group.attainment_unknown += 1
            return
        group.attained += 1
        group.attained_late += _LATE in self._states
        group.attained_in_time += in_time

    def _add_all_latencies(self, group: Group) -> None:
        values = self.values
        for name, value in values.items():
            group.histogram(name).record_microseconds(value)
        if self._sample.gaps:
            group.histogram("inter_chunk_latency").record_all(self._sample.gaps)
        if "ttft" not in values:
            group.unmeasured["ttft"] = group.unmeasured.get("ttft", 0) + 1
        if "tpot" not in values and self._sample.output_tokens != 1:
            group.unmeasured["tpot"] = group.unmeasured.get("tpot", 0) + 1


def latencies_of(sample: Sample, *, is_streamed: bool) -> dict[str, int]:
    """Return the latencies of an answered request in microseconds, by field of the summary.

    TTFT exists only with streaming. TPOT exists only if the first and the last content came with different reads, and
    if it is at least half a microsecond.
    """
    sent, scheduled, ended = sample.sent, sample.scheduled, sample.ended
    values = {
        "request_latency": _micro(ended - sent),
        "queue_delay": _micro(sent - scheduled),
        "request_latency_scheduled": _micro(ended - scheduled),
    }
    if is_streamed and sample.first is not None:
        values["ttft"] = _micro(sample.first - sent)
        values["ttft_scheduled"] = _micro(sample.first - scheduled)
        if sample.first_output is not None:
            values["ttfo"] = _micro(sample.first_output - sent)
        tpot = sample.tpot if sample.is_spread else None
        # A server that reports a billion tokens has not counted them. A time is unknown rather than 0.
        if tpot is not None and _micro(tpot):
            values["tpot"] = _micro(tpot)
    if sample.connect is not None:
        values["connect"] = _micro(sample.connect)
    _add_server_times(values, sample)
    return values


def has_usage(sample: Sample) -> bool:
    """Return whether the server reported token counts for an answer."""
    return sample.has_usage or sample.output_tokens > 0


def was_kept_back(sample: Sample) -> bool:
    """Return whether only the load generator kept a request from being sent: it is no failure of the server."""
    return sample.error is ErrorClass.UNFINISHED and sample.sent == sample.ended and not sample.held


def client_request_of(sample: Sample) -> ClientRequest:
    """Return an answered request for the join with the sidecars' records."""
    is_known = has_usage(sample)
    return ClientRequest(
        sample.request_id,
        sample.queue_delay,
        sample.ttft,
        sample.input_tokens if is_known else None,
        sample.output_tokens if is_known else None,
    )


def one_line(text: str) -> str:
    """Return a text as one line without control characters, cut to the length of an example."""
    printable = "".join(char if char.isprintable() else " " for char in text[: 4 * MAX_EXAMPLE])
    return " ".join(printable.split())[:MAX_EXAMPLE]


def _micro(seconds: float) -> int:
    return round(seconds * MICROSECONDS) if seconds > 0 else 0


def _add_server_times(values: dict[str, int], sample: Sample) -> None:
    if sample.server_load is not None:
        values["server_load"] = _micro(sample.server_load)
    if sample.server_prefill is not None:
        values["server_prefill"] = _micro(sample.server_prefill)
    if sample.server_decode is not None:
        values["server_decode"] = _micro(sample.server_decode)
        per_token = _micro(sample.server_decode / sample.output_tokens) if sample.output_tokens else 0
        if per_token:
            values["server_tpot"] = per_token


def _add_tokens(group: Group, sample: Sample, *, in_time: bool) -> None:
    if not has_usage(sample):
        group.without_usage += 1
        group.implausible_usage += sample.has_implausible_usage
        return
    group.input_tokens += sample.input_tokens
    group.output_tokens += sample.output_tokens
    if in_time:
        group.completed_tokens += sample.output_tokens
    if sample.chunks and sample.first is not None:
        group.chunks += sample.chunks
        group.chunk_tokens += sample.output_tokens
    if sample.cached_tokens is not None:
        group.cached_tokens += min(sample.cached_tokens, sample.input_tokens)
        group.cached_of_tokens += sample.input_tokens
