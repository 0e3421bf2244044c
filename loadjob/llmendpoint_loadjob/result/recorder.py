"""Fills the measurements of a run, request by request. No request is kept, so memory does not grow with their number.

All times are readings of the clock of the run, in seconds. `begin` has to be called first, and `finish` last. A request
whose scheduled time is in the warm-up counts toward nothing but the timeline, and the time of the load that it took
from its user. `record` takes a few microseconds.
"""

from __future__ import annotations

from collections.abc import Callable

from llmendpoint_common.contracts.loadrun import (
    MAX_CATEGORIES,
    MAX_CATEGORY_LENGTH,
    RunDocument,
    Saturation,
    SweepResult,
)
from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.results.histogram import MICROSECONDS
from llmendpoint_common.results.join import ClientRequest
from llmendpoint_common.results.join import add as add_join
from llmendpoint_common.results.measurements import (
    ErrorCount,
    Group,
    Measurements,
    ModelLoad,
    Step,
    measurements_of,
)
from llmendpoint_common.results.objectives import MAX_LAG_P99
from llmendpoint_loadjob.result.reading import Reading, has_usage, limits_of, one_line, was_kept_back
from llmendpoint_loadjob.result.standstills import Standstills
from llmendpoint_loadjob.result.timings import Sample

#: Longest time for which a user waits because of Retry-After, in seconds.
_MAX_PAUSE = 300.0
#: Ollama reports some milliseconds of loading for a model that is in memory. Above this time, it was not.
_MIN_LOAD = 1.0
#: Category of what is above the maximum number of categories.
_OTHER = "other categories"


class Recorder:
    """Adds requests to the measurements of a run, or of one pod of it."""

    def __init__(self, document: RunDocument) -> None:
        self.measurements = measurements_of(document.objectives)
        self._is_streamed = document.request.stream
        self._is_closed = not document.load.is_open and document.trace is None
        self._limits = limits_of(document.objectives)
        self._max_tokens = document.request.max_tokens
        # This option of Ollama replaces the limit of the prompt.
        self._has_limits = "num_predict" not in (document.request.options or {})
        self._has_begun = False
        self._begin = 0.0
        self._measured_from = 0.0
        self._load_end = float("inf")
        self._step_ends: list[float] = []
        self._standstills = Standstills()
        #: Called before silences are settled: it adds the tick of the event loop that is due, if it is late.
        self.notice_stop: Callable[[], None] = lambda: None

    # ---- the course of the run

    def begin(self, at: float, measured_from: float, load_end: float = float("inf")) -> None:
        """Set the start of the run, the end of the warm-up, and the end of the load if it is known."""
        self._has_begun = True
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

    def judge_step(self, index: int, *, is_met: bool, growth: float, is_late: bool = False) -> None:
        """Note how the search of a sweep has judged a rate, and by how many seconds the latencies grew at it.

        `growth` is 0 if the server kept up. `is_late` is whether the rate was missed because the load generator sent
        requests late.
        """
        step = self.measurements.steps[index]
        step.is_late = is_late
        step.met, step.growth = is_met, round(max(0.0, growth) * MICROSECONDS)

    def finish(self, at: float, *, interrupted: bool = False) -> Measurements:
        """Note the end of the run, and return the measurements. It can be called again for a later state."""
        measurements = self.measurements
        self.notice_stop()
        self._add_silences()
        end = min(self._load_end, at)
        measurements.warmup = round(max(0.0, min(self._measured_from, end) - self._begin) * MICROSECONDS)
        measurements.load = round(max(0.0, end - self._measured_from) * MICROSECONDS)
        measurements.drain = round(max(0.0, at - max(end, self._measured_from)) * MICROSECONDS)
        measurements.interrupted = interrupted
        lag = measurements.lag
        measurements.worst_lag = round(lag.percentile(99) * MICROSECONDS) if lag.count else 0
        return measurements

    def snapshot(self, at: float) -> Measurements:
        """Return a copy of what has been measured until now, marked as interrupted.

        It takes up to 10 ms. Compute its summary in another thread: that takes ten times as long, and a delay of the
        event loop would be in all latencies.
        """
        if self._has_begun:
            self.finish(at)
        copied = self.measurements.copy()
        copied.interrupted = True
        return copied

    # ---- the server and the load generator

    def add_lag(self, seconds: float) -> None:
        """Add a delay of the event loop."""
        self.measurements.lag.record(seconds)

    def add_tick(self, due: float, at: float) -> None:
        """Note when a tick of the event loop was due, and when it came. In between, no response was read."""
        self._standstills.add_delay(due, at)
        self._add_silences()

    def add_silence(self, begin: float, end: float) -> None:
        """Add a time in which the server sent nothing although requests were in flight, as far as it is in the load.

        Times in which the load generator itself stood still do not count.
        """
        if self._has_begun:
            self._standstills.add_silence(begin, end)

    def add_idle(self, begin: float, end: float) -> None:
        """Add a time in which a user of a closed loop was ready to send, and its request was not sent.

        A delay of up to MAX_LAG_P99 is normal.
        """
        if end - begin > MAX_LAG_P99:
            self.measurements.idle += round(self._in_load(begin, end) * MICROSECONDS)

    def set_users(self, count: int) -> None:
        """Set the number of users of a closed loop."""
        self.measurements.users = count

    def set_throttled(self, seconds: float) -> None:
        """Set the time for which the CPU limit has throttled the process since the start of the run."""
        self.measurements.throttled = round(max(0.0, seconds) * MICROSECONDS)

    def set_cpu(self, seconds: float) -> None:
        """Set the CPU time that the process has used from the start of the run to the end of the load, or until now."""
        self.measurements.cpu = round(max(0.0, seconds) * MICROSECONDS)

    def add_blocked(self) -> None:
        """Count a request that waits because the limit of open files allows no further connection."""
        self.measurements.blocked += 1

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
        """Add a request that has ended, or that was due and could not be sent until the end of the drain."""
        if was_kept_back(sample):
            self.skip(sample.scheduled, sample.step, held=False)
            return
        reading = Reading(sample, self._limits, is_streamed=self._is_streamed)
        self._add_to_timeline(sample, reading.values)
        self._note_load(sample)
        measurements = self.measurements
        if sample.scheduled < self._measured_from:
            self._add_to_warmup(sample)
            return
        measurements.offered += 1
        measurements.cut += sample.is_cut
        measurements.continued += sample.turn > 0
        measurements.sent_again += sample.was_sent_again and sample.error is None
        if sample.sent <= self._load_end:
            measurements.sent += 1
        elif sample.sent - sample.held > self._load_end:
            measurements.unsent += 1
        if sample.error is not None:
            self._add_error(measurements.errors, sample)
            self._add_pause(sample)
            if self._is_closed:
                measurements.failing += round(self._in_load(sample.sent, sample.ended) * MICROSECONDS)
        else:
            self._add_lengths(sample)
        reading.add_to(measurements.whole, in_time=sample.ended <= self._load_end, is_whole=True)
        reading.add_to(self._category(sample.category), in_time=sample.ended <= self._load_end)
        if sample.step < len(measurements.steps):
            step = measurements.steps[sample.step]
            step.offered += 1
            reading.add_to(step.group, in_time=sample.ended <= self._step_ends[sample.step])

    def join(self, request: ClientRequest, record: RequestRecord | None) -> None:
        """Add the sidecar's record of a request, or None if it was not found."""
        add_join(self.measurements.join, request, record)

    def note_unread(self, failure: str) -> None:
        """Note why records could not be read at an address. The first failure is kept."""
        joined = self.measurements.join
        joined.failure = joined.failure or one_line(failure)

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

    def _note_load(self, sample: Sample) -> None:
        """Keep the first request for which the server loaded the model. It may be one of the warm-up."""
        if sample.server_load is None or sample.server_load < _MIN_LOAD:
            return
        load = ModelLoad(self._micro(sample.sent), self._micro(sample.sent + sample.server_load))
        first = self.measurements.first_load
        self.measurements.first_load = load if first is None else min(first, load)

    def _add_to_warmup(self, sample: Sample) -> None:
        """Count a request of the warm-up, and the time for which it kept its user, or its slot, from the load."""
        measurements = self.measurements
        if sample.error is None:
            measurements.warmup_answered += 1
            lasting = measurements.warmup_late
        else:
            self._add_error(measurements.warmup_errors, sample)
            self._add_pause(sample)
            lasting = measurements.warmup_failed
        seconds = self._in_load(sample.sent, sample.ended)
        if seconds > 0:
            lasting.record(seconds)

    def _add_error(self, errors: dict[str, ErrorCount], sample: Sample) -> None:
        assert sample.error is not None  # noqa: S101 - narrows the type
        name = sample.error.value
        counted = errors.get(name)
        if counted is None:
            counted = errors[name] = ErrorCount()
        counted.add(self._micro(sample.ended), one_line(sample.detail))

    def _add_lengths(self, sample: Sample) -> None:
        """Compare the tokens that the server counted with those that the prompt was made for, if it was."""
        if sample.wanted_input is None or not has_usage(sample):
            return
        lengths = self.measurements.lengths
        if sample.input_tokens:
            lengths.add_input(sample.input_tokens, sample.wanted_input)
        wanted = self._max_tokens or sample.wanted_output
        if wanted is not None and self._has_limits:
            lengths.add_output(sample.output_tokens, wanted)

    def _add_pause(self, sample: Sample) -> None:
        """Add the time of the load for which a user of a closed loop waits after a failure."""
        if self._is_closed and sample.retry_after is not None:
            seconds = self._in_load(sample.ended, sample.ended + min(sample.retry_after, _MAX_PAUSE))
            self.measurements.paused += round(seconds * MICROSECONDS)

    def _add_silences(self) -> None:
        for seconds in self._standstills.settled(self._measured_from, self._load_end):
            if seconds > 0:
                self.measurements.silences.record(seconds)

    def _in_load(self, begin: float, end: float) -> float:
        """Return how many seconds of an interval are in the load."""
        return max(0.0, min(end, self._load_end) - max(begin, self._measured_from))

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
