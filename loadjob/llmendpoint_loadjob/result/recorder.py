"""Fills the measurements of a run, request by request. No request is kept, so memory does not grow with their number.

All times are readings of the clock of the run, in seconds. `begin` has to be called first, and `finish` last. A request
whose scheduled time is in the warm-up counts toward nothing but the timeline. `record` takes a few microseconds.
"""

from __future__ import annotations

from llmendpoint_common.contracts.loadrun import (
    MAX_CATEGORIES,
    MAX_CATEGORY_LENGTH,
    METRICS,
    MetricName,
    RunDocument,
    Saturation,
    SweepResult,
)
from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.results.histogram import MICROSECONDS
from llmendpoint_common.results.join import ClientRequest
from llmendpoint_common.results.join import add as add_join
from llmendpoint_common.results.measurements import (
    MAX_EXAMPLE,
    ErrorCount,
    Group,
    Measurements,
    Step,
    measurements_of,
)
from llmendpoint_loadjob.result.timings import Sample

#: States of a request for an objective.
_WITHIN, _BEYOND, _UNKNOWN, _NOT_APPLICABLE = range(4)
#: Category of what is above the maximum number of categories.
_OTHER = "other categories"
#: Latencies of categories and steps. Those of the whole run have all others too.
_PART_LATENCIES = frozenset({"ttft", "tpot", "request_latency"})


class Recorder:
    """Adds requests to the measurements of a run, or of one pod of it."""

    def __init__(self, document: RunDocument) -> None:
        self.measurements = measurements_of(document.objectives)
        self._is_streamed = document.request.stream
        self._objectives = [
            (index, METRICS[MetricName(objective.metric)].field, round(objective.threshold * MICROSECONDS))
            for index, objective in enumerate(document.objectives)
            if METRICS[MetricName(objective.metric)].is_latency
        ]
        self._begin = 0.0
        self._measured_from = 0.0
        self._load_end = float("inf")
        self._step_ends: list[float] = []

    # ---- the course of the run

    def begin(self, at: float, measured_from: float, load_end: float = float("inf")) -> None:
        """Set the start of the run, the end of the warm-up, and the end of the load if it is known."""
        self._begin, self._measured_from, self._load_end = at, measured_from, load_end

    def end_load(self, at: float) -> None:
        """Note that the load has ended: no further request is due. Later answers belong to the drain."""
        self._load_end = min(self._load_end, at)

    def begin_step(self, name: str, offered_rate: float, at: float) -> int:
        """Note the start of a stage, or of a rate of a sweep, and return its index, which samples have as `step`."""
        measurements = self.measurements
        step = Step(name, offered_rate, self._micro(at), self._micro(at), group=measurements.group())
        measurements.steps.append(step)
        self._step_ends.append(float("inf"))
        return len(measurements.steps) - 1

    def end_step(self, index: int, at: float) -> None:
        """Note the end of the load of a step. Later answers do not count toward its rates."""
        self.measurements.steps[index].end = self._micro(at)
        self._step_ends[index] = at

    def finish(self, at: float, *, interrupted: bool = False) -> Measurements:
        """Note the end of the run, and return the measurements. It can be called again for a later state."""
        measurements = self.measurements
        end = min(self._load_end, at)
        measurements.warmup = round(max(0.0, min(self._measured_from, end) - self._begin) * MICROSECONDS)
        measurements.load = round(max(0.0, end - self._measured_from) * MICROSECONDS)
        measurements.drain = round(max(0.0, at - max(end, self._measured_from)) * MICROSECONDS)
        measurements.interrupted = interrupted
        lag = measurements.lag
        measurements.worst_lag = round(lag.percentile(99) * MICROSECONDS) if lag.count else 0
        return measurements

    # ---- the load generator itself

    def add_lag(self, seconds: float) -> None:
        """Add a delay of the event loop."""
        self.measurements.lag.record(seconds)

    def set_throttled(self, seconds: float) -> None:
        """Set the time for which the CPU limit has throttled the process since the start of the run."""
        self.measurements.throttled = round(max(0.0, seconds) * MICROSECONDS)

    def set_saturation(self, saturation: Saturation) -> None:
        """Set when the server stopped following the offered rate."""
        self.measurements.saturation = saturation

    def set_sweep(self, result: SweepResult) -> None:
        """Set the result of a sweep."""
        self.measurements.sweep = result

    # ---- requests

    def skip(self, scheduled: float, step: int | None = None, *, held: bool) -> None:
        """Count a request that was due and never sent.

        `held` is whether the maximum of requests in flight kept it back, which is not the load generator's fault.
        """
        if scheduled < self._measured_from:
            return
        measurements = self.measurements
        measurements.offered += 1
        measurements.unsent += not held
        measurements.timeline.at(scheduled - self._measured_from).offered += 1
        if step is not None and step < len(measurements.steps):
            measurements.steps[step].offered += 1

    def record(self, sample: Sample) -> None:
        """Add a request that has ended."""
        values = self._values(sample) if sample.error is None and not is_empty(sample) else {}
        self._add_to_timeline(sample, values)
        measurements = self.measurements
        if sample.scheduled < self._measured_from:
            self._add_to_warmup(sample)
            return
        measurements.offered += 1
        if sample.sent <= self._load_end:
            measurements.sent += 1
        elif sample.sent - sample.held > self._load_end:
            measurements.unsent += 1
        if sample.error is not None:
            self._add_error(measurements.errors, sample)
        states = [self._state(sample, values, field, limit) for _, field, limit in self._objectives]
        in_time = sample.ended <= self._load_end
        self._add_to_group(measurements.whole, sample, values, states, in_time=in_time)
        self._add_to_group(self._category(sample.category), sample, values, states, in_time=in_time)
        if sample.step < len(measurements.steps):
            step, in_time = measurements.steps[sample.step], sample.ended <= self._step_ends[sample.step]
            step.offered += 1
            self._add_to_group(step.group, sample, values, states, in_time=in_time)
        for gap in sample.gaps if values else ():
            measurements.whole.histogram("inter_chunk_latency").record(gap)

    def join(self, request: ClientRequest, record: RequestRecord | None) -> None:
        """Add the sidecar's record of a request, or None if there is none."""
        add_join(self.measurements.join, request, record)

    # ---- inside

    def _micro(self, at: float) -> int:
        return round((at - self._measured_from) * MICROSECONDS)

    def _category(self, name: str) -> Group:
        categories = self.measurements.categories
        group = categories.get(name)
        if group is None:
            name = one_line(name)[:MAX_CATEGORY_LENGTH] if len(categories) < MAX_CATEGORIES - 1 else _OTHER
            group = categories.setdefault(name, self.measurements.group())
        return group

    def _values(self, sample: Sample) -> dict[str, int]:
        """Return the latencies of an answered request in microseconds, by field of the summary."""
        sent, scheduled, ended = sample.sent, sample.scheduled, sample.ended
        values = {
            "request_latency": _micro(ended - sent),
            "queue_delay": _micro(sent - scheduled),
            "request_latency_scheduled": _micro(ended - scheduled),
        }
        if self._is_streamed and sample.first is not None:
            values["ttft"] = _micro(sample.first - sent)
            values["ttft_scheduled"] = _micro(sample.first - scheduled)
            if sample.first_output is not None:
                values["ttfo"] = _micro(sample.first_output - sent)
            tpot = sample.tpot if sample.is_spread else None
            if tpot is not None and tpot > 0:
                values["tpot"] = _micro(tpot)
        _add_known(values, "connect", sample.connect)
        _add_known(values, "server_load", sample.server_load)
        _add_known(values, "server_prefill", sample.server_prefill)
        _add_known(values, "server_decode", sample.server_decode)
        if sample.server_decode is not None and sample.output_tokens:
            values["server_tpot"] = _micro(sample.server_decode / sample.output_tokens)
        return values

    @staticmethod
    def _state(sample: Sample, values: dict[str, int], field: str, limit: int) -> int:
        """Return the state of a request for an objective on a latency."""
        if not values:
            return _BEYOND
        value = values.get(field)
        if value is not None:
            return _WITHIN if value <= limit else _BEYOND
        return _NOT_APPLICABLE if field == "tpot" and sample.output_tokens == 1 else _UNKNOWN

    def _add_to_group(
        self, group: Group, sample: Sample, values: dict[str, int], states: list[int], *, in_time: bool
    ) -> None:
        group.requests += 1
        if sample.matched is not None:
            group.expected += 1
            group.matched += sample.matched
        for (index, _, _), state in zip(self._objectives, states, strict=True):
            counts = group.objectives[index]
            counts.within += state == _WITHIN
            counts.unknown += state == _UNKNOWN
            counts.not_applicable += state == _NOT_APPLICABLE
        if sample.error is not None:
            group.errors += 1
            return
        group.completed += in_time
        if not values:
            group.empty += 1
        elif _BEYOND not in states:
            if _UNKNOWN in states:
                group.attainment_unknown += 1
            else:
                group.attained += 1
                group.attained_in_time += in_time
        _add_tokens(group, sample, in_time=in_time)
        is_whole = group is self.measurements.whole
        for name, value in values.items():
            if is_whole or name in _PART_LATENCIES:
                group.histogram(name).record_microseconds(value)
        if is_whole and values:
            _add_unmeasured(group, sample, values)

    def _add_to_warmup(self, sample: Sample) -> None:
        if sample.error is None:
            self.measurements.warmup_answered += 1
        else:
            self._add_error(self.measurements.warmup_errors, sample)

    def _add_error(self, errors: dict[str, ErrorCount], sample: Sample) -> None:
        assert sample.error is not None  # noqa: S101 - narrows the type
        name = sample.error.value
        counted = errors.get(name)
        if counted is None:
            counted = errors[name] = ErrorCount()
        counted.add(self._micro(sample.ended), one_line(sample.detail))

    def _add_to_timeline(self, sample: Sample, values: dict[str, int]) -> None:
        timeline, origin = self.measurements.timeline, self._measured_from
        timeline.at(sample.scheduled - origin).offered += 1
        bucket = timeline.at(sample.sent - origin)
        bucket.sent += 1
        if "ttft" in values:
            bucket.ttft.record_microseconds(values["ttft"])
        if values:
            bucket.request_latency.record_microseconds(values["request_latency"])
        bucket = timeline.at(sample.ended - origin)
        if sample.error is not None:
            bucket.errors += 1
        else:
            bucket.completed += 1
            bucket.output_tokens += sample.output_tokens


def is_empty(sample: Sample) -> bool:
    """Return whether an answer has no content, thinking or tool call, and no tokens."""
    return sample.first is None and not sample.chunks and not sample.output_tokens


def has_usage(sample: Sample) -> bool:
    """Return whether the server reported token counts for an answer."""
    return sample.has_usage or sample.output_tokens > 0


def one_line(text: str) -> str:
    """Return a text as one line without control characters, cut to the length of an example."""
    printable = "".join(char if char.isprintable() else " " for char in text[: 4 * MAX_EXAMPLE])
    return " ".join(printable.split())[:MAX_EXAMPLE]


def _micro(seconds: float) -> int:
    return round(seconds * MICROSECONDS) if seconds > 0 else 0


def _add_known(values: dict[str, int], name: str, seconds: float | None) -> None:
    if seconds is not None:
        values[name] = _micro(seconds)


def _add_tokens(group: Group, sample: Sample, *, in_time: bool) -> None:
    if not has_usage(sample):
        group.without_usage += 1
        return
    group.input_tokens += sample.input_tokens
    group.output_tokens += sample.output_tokens
    if in_time:
        group.completed_tokens += sample.output_tokens
    if sample.chunks:
        group.chunks += sample.chunks
        group.chunk_tokens += sample.output_tokens
    if sample.cached_tokens is not None:
        group.cached_tokens += min(sample.cached_tokens, sample.input_tokens)
        group.cached_of_tokens += sample.input_tokens


def _add_unmeasured(group: Group, sample: Sample, values: dict[str, int]) -> None:
    """Count the latencies that exist and could not be measured."""
    if "ttft" not in values:
        group.unmeasured["ttft"] = group.unmeasured.get("ttft", 0) + 1
    if "tpot" not in values and sample.output_tokens != 1:
        group.unmeasured["tpot"] = group.unmeasured.get("tpot", 0) + 1
