"""Everything of a run that can be merged exactly: integer counts, and histograms of whole microseconds.

Measurements are filled request by request (`llmendpoint_loadjob.result.recorder`), and keep no request, so their size
depends on the spread of the latencies and not on the number of requests. Measurements of several pods merge exactly as
one, because every sum is one of integers, and every choice (an example of an error) has one total order.

A latency of a request is in one of four states, which objectives are judged on:

- measured: counted in the histogram, and exactly in `within` if it met the threshold of an objective
- never answered: the request failed; an answer without content is a failure
- unknown: it was answered, and the latency could not be measured (TTFT without streaming)
- not applicable: the latency does not exist (TPOT of an answer with one token), so the request does not count for it
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from llmendpoint_common.contracts.loadrun import MAX_CATEGORIES, Objective, Saturation, SweepResult
from llmendpoint_common.process.errors import RunResultError
from llmendpoint_common.results.histogram import FULL_BITS, PART_BITS, Histogram
from llmendpoint_common.results.packing import Unpacker
from llmendpoint_common.results.timeline import Timeline

#: Maximum of the length of an error's example, in characters.
MAX_EXAMPLE = 200
#: Share of the wanted input tokens below which a prompt was probably cut by the server. Even a server that counts one
#: token per word, as the simulator does, is below it in only 2 % of the prompts, unless they are very short.
_SHORT_SHARE = 0.6
_MIN_WANTED = 20
_LINE = r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z"

_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Micro = Annotated[int, Meta(ge=-(2**53), le=2**53)]
_Name = Annotated[str, Meta(max_length=64, pattern=_LINE)]
_Line = Annotated[str, Meta(max_length=1024, pattern=_LINE)]


class ObjectiveCounts(msgspec.Struct):
    """Requests of a group by their state for an objective on a latency. The other requests missed its threshold."""

    within: _Count = 0
    unknown: _Count = 0
    not_applicable: _Count = 0
    #: Those of `within` that miss the threshold if they are measured from the time at which they were due.
    late: _Count = 0

    def merge(self, other: ObjectiveCounts) -> None:
        """Add the counts of another group."""
        self.within += other.within
        self.unknown += other.unknown
        self.not_applicable += other.not_applicable
        self.late += other.late


class Group(msgspec.Struct):
    """Measurements of a set of requests: of the whole run, of a category, or of a step. The warm-up is in none.

    `completed`, `completed_tokens` and `attained_in_time` count only requests that were answered before the load of the
    group ended, and are for rates.
    """

    bits: Annotated[int, Meta(ge=1, le=FULL_BITS)] = PART_BITS
    requests: _Count = 0
    errors: _Count = 0
    attained: _Count = 0
    #: Those of `attained` that do not attain if they are measured from the time at which they were due.
    attained_late: _Count = 0
    #: Answered requests of which it is unknown if they met every latency objective.
    attainment_unknown: _Count = 0
    completed: _Count = 0
    attained_in_time: _Count = 0
    completed_tokens: _Count = 0
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    #: Answers without token counts, and those of them whose counts were left out because they cannot be true.
    without_usage: _Count = 0
    implausible_usage: _Count = 0
    #: Content chunks of the answers with token counts, and the tokens in them.
    chunks: _Count = 0
    chunk_tokens: _Count = 0
    #: Cached input tokens, and all input tokens, of the answers that reported the former.
    cached_tokens: _Count = 0
    cached_of_tokens: _Count = 0
    expected: _Count = 0
    matched: _Count = 0
    #: Answered requests without the latency, although they were streamed and had tokens, by field of the summary.
    unmeasured: Annotated[dict[_Name, _Count], Meta(max_length=32)] = field(default_factory=dict)
    objectives: Annotated[list[ObjectiveCounts], Meta(max_length=64)] = field(default_factory=list)
    histograms: Annotated[dict[_Name, Histogram], Meta(max_length=32)] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Number of requests that were answered without an error."""
        return self.requests - self.errors

    def histogram(self, name: str) -> Histogram:
        """Return the histogram of a latency, which is empty if nothing was measured."""
        found = self.histograms.get(name)
        if found is None:
            found = self.histograms[name] = Histogram(self.bits)
        return found

    def merge(self, other: Group) -> None:
        """Add the requests of another group. Raises ValueError if it has other objectives."""
        if len(self.objectives) != len(other.objectives):
            raise ValueError("measurements with different objectives cannot be merged")
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, count in other.unmeasured.items():
            self.unmeasured[name] = self.unmeasured.get(name, 0) + count
        for mine, theirs in zip(self.objectives, other.objectives, strict=True):
            mine.merge(theirs)
        for name, histogram in other.histograms.items():
            self.histogram(name).merge(histogram)


_SUMS = tuple(
    name for name in Group.__struct_fields__ if name not in ("bits", "unmeasured", "objectives", "histograms")
)


class ErrorCount(msgspec.Struct):
    """Number of errors of a class, with one example: that of the earliest request that has one.

    `at` is the time of the example in microseconds after the warm-up.
    """

    count: _Count = 0
    at: _Micro = 2**53
    example: Annotated[str, Meta(max_length=MAX_EXAMPLE, pattern=_LINE)] = ""

    def add(self, at: int, example: str) -> None:
        """Count an error."""
        self.count += 1
        self._consider(at, example)

    def merge(self, other: ErrorCount) -> None:
        """Add the errors of another pod."""
        self.count += other.count
        self._consider(other.at, other.example)

    def _consider(self, at: int, example: str) -> None:
        if example and (at, example) < (self.at, self.example or "\U0010ffff"):
            self.at, self.example = at, example


class Step(msgspec.Struct):
    """A stage, or a rate of a sweep. Times are in microseconds after the warm-up.

    `met` is how the search of a sweep has judged the rate, or None. `growth` is by how many microseconds the latencies
    grew through the step, or 0 if the server kept up. A rate at which they grow is too high, whatever the objectives
    say. `is_late` is whether the rate could have met the objectives if the load generator had sent requests in time.
    """

    name: _Name = ""
    offered_rate: Annotated[float, Meta(ge=0, le=1e18)] = 0.0
    begin: _Micro = 0
    end: _Micro = 0
    offered: _Count = 0
    group: Group = field(default_factory=Group)
    met: bool | None = None
    growth: _Count = 0
    is_late: bool = False


class ModelLoad(msgspec.Struct, frozen=True, order=True):
    """A request for which the server loaded the model. Times are in microseconds after the warm-up."""

    sent: _Micro
    until: _Micro


class Lengths(msgspec.Struct):
    """Answers with token counts to synthetic prompts and to those of traces, which were made for a length.

    `short` are those for which the server counted far fewer input tokens than wanted, with these tokens. `output` and
    `wanted_output` are the tokens of the answers whose length was limited, and the sum of these limits.
    """

    answers: _Count = 0
    short: _Count = 0
    short_input: _Count = 0
    short_wanted: _Count = 0
    output: _Count = 0
    wanted_output: _Count = 0

    def add_input(self, counted: int, wanted: int) -> None:
        """Count an answer to a prompt that was made for `wanted` tokens."""
        self.answers += 1
        if wanted >= _MIN_WANTED and counted < _SHORT_SHARE * wanted:
            self.short += 1
            self.short_input += counted
            self.short_wanted += wanted

    def add_output(self, counted: int, wanted: int) -> None:
        """Count an answer whose limit was `wanted` tokens."""
        self.output += counted
        self.wanted_output += wanted

    def merge(self, other: Lengths) -> None:
        """Add the answers of another pod."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Join(msgspec.Struct):
    """Requests of the client that were looked up in the sidecars' records, and the parts of their TTFT.

    `failure` says why records could not be read at an address, if that happened.
    """

    requests: _Count = 0
    found: _Count = 0
    client_tokens: _Count = 0
    metered_tokens: _Count = 0
    differing: _Count = 0
    parts: Annotated[dict[_Name, Histogram], Meta(max_length=16)] = field(default_factory=dict)
    failure: Annotated[str, Meta(max_length=MAX_EXAMPLE, pattern=_LINE)] = ""


class Measurements(msgspec.Struct, rename="camel"):
    """Measurements of a run, or of one pod of it.

    Times are in microseconds: `warmup`, `load` and `drain` are durations. `offered` counts the requests that were due
    in the load, `sent` those of them that were sent before its end, and `unsent` those that were not although nothing
    but the load generator kept them back. `lag` has delays of the event loop, and `worst_lag` is the largest p99 of a
    pod: a pod that was starved does not vanish among others. `throttled` is that of the pod with the largest share,
    and `cpu` is the CPU time of the pod that needed most of it until the end of the load.
    """

    objectives: Annotated[tuple[Objective, ...], Meta(max_length=64)] = ()
    pods: Annotated[int, Meta(ge=1, le=100_000)] = 1
    #: Pods of which nothing is known.
    missing_pods: _Count = 0
    interrupted: bool = False
    warmup: _Micro = 0
    load: _Micro = 0
    drain: _Micro = 0
    offered: _Count = 0
    sent: _Count = 0
    unsent: _Count = 0
    #: Requests that waited because the limit of open files allowed no further connection.
    blocked: _Count = 0
    #: Requests whose input was made shorter, because it would have exceeded the context of the model.
    cut: _Count = 0
    #: Requests that continued a conversation.
    continued: _Count = 0
    #: Answered requests that went out a second time, because the server closed a reused connection without a response.
    sent_again: _Count = 0
    lengths: Lengths = field(default_factory=Lengths)
    #: Time for which the users of a closed loop waited after failures, in microseconds, of all users together.
    paused: _Count = 0
    #: Time of the load for which the users of a closed loop waited for requests that failed, of all users together.
    failing: _Count = 0
    #: Time of the load for which users of a closed loop were ready to send, and the load generator did not send.
    idle: _Count = 0
    #: For how long requests of the warm-up lasted in the load, which are in no other figure: those that failed, and
    #: those that were answered. Their users, or slots of `maxInFlight`, were not free for the load meanwhile.
    warmup_failed: Histogram = field(default_factory=Histogram)
    warmup_late: Histogram = field(default_factory=Histogram)
    #: The first request for which the server loaded the model, and until when it did.
    first_load: ModelLoad | None = None
    worst_lag: _Count = 0
    throttled: _Count = 0
    cpu: _Count = 0
    #: Users of a closed loop, of the pod that has most of them.
    users: _Count = 0
    #: Times in which the server sent nothing although at least two requests were in flight. All pods with two users or
    #: more see a silence of the server, so merged measurements have those of the pod with the shortest total.
    silences: Histogram = field(default_factory=Histogram)
    whole: Group = field(default_factory=lambda: Group(FULL_BITS))
    lag: Histogram = field(default_factory=Histogram)
    categories: Annotated[dict[_Name, Group], Meta(max_length=MAX_CATEGORIES)] = field(default_factory=dict)
    steps: Annotated[list[Step], Meta(max_length=1000)] = field(default_factory=list)
    timeline: Timeline = field(default_factory=Timeline)
    errors: Annotated[dict[_Name, ErrorCount], Meta(max_length=64)] = field(default_factory=dict)
    warmup_answered: _Count = 0
    warmup_errors: Annotated[dict[_Name, ErrorCount], Meta(max_length=64)] = field(default_factory=dict)
    saturation: Saturation | None = None
    sweep: SweepResult | None = None
    join: Join = field(default_factory=Join)

    def copy(self) -> Measurements:
        """Return a copy that does not change with these measurements.

        It takes a tenth of the time of a summary, which can then be computed in another thread.
        """
        return deepcopy(self)

    def encode(self) -> dict[str, Any]:
        """Return the measurements for JSON. Equal measurements are encoded equally."""
        encoded: dict[str, Any] = msgspec.json.decode(
            msgspec.json.encode(self, enc_hook=_encode, order="deterministic")
        )
        return encoded

    @classmethod
    def decode(cls, fields: object) -> Measurements:
        """Return the measurements whose `encode` is `fields`. Raises RunResultError."""
        if not fields:
            raise RunResultError("the measurements are not valid: there are none")
        try:
            measurements = msgspec.convert(fields, cls, dec_hook=partial(_decode, Unpacker()))
            measurements.check()
        except (msgspec.ValidationError, ValueError, RecursionError) as error:
            raise RunResultError(f"the measurements are not valid: {error}") from None
        return measurements

    def check(self) -> None:
        """Raise ValueError if the groups contradict each other, so that evaluating them cannot fail."""
        for group in (self.whole, *self.categories.values(), *(step.group for step in self.steps)):
            if len(group.objectives) != len(self.objectives):
                raise ValueError("a group has other objectives than the run")
            if group.errors > group.requests:
                raise ValueError("a group has more errors than requests")
            if any(histogram.bits != group.bits for histogram in group.histograms.values()):
                raise ValueError("a histogram has a wrong resolution")
        for objective, counts in zip(self.objectives, self.whole.objectives, strict=True):
            if counts.within + counts.unknown + counts.not_applicable > self.whole.answered:
                raise ValueError(f"more requests met {objective.metric} than were answered")

    def group(self, bits: int = PART_BITS) -> Group:
        """Return a new group for the objectives of the run."""
        return Group(bits, objectives=[ObjectiveCounts() for _ in self.objectives])


def measurements_of(objectives: tuple[Objective, ...]) -> Measurements:
    """Return empty measurements of a run with these objectives."""
    measurements = Measurements(objectives)
    measurements.whole = measurements.group(FULL_BITS)
    return measurements


def _encode(value: object) -> str:
    if isinstance(value, Histogram | Timeline):
        return value.pack()
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


def _decode(unpacker: Unpacker, kind: type, value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("expected packed counts")
    if kind is Histogram:
        return Histogram.unpack(value, unpacker)
    if kind is Timeline:
        return Timeline.unpack(value, unpacker)
    raise NotImplementedError(f"cannot decode {kind.__name__}")
