"""The load of a run document: how much is sent when, and for how long."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

#: Users of a closed loop if neither a concurrency nor a rate is given.
DEFAULT_CONCURRENCY = 1
MAX_CONCURRENCY = 100_000
#: Requests per second.
MAX_RATE = 100_000
#: Upper bound of durations in seconds: 30 days.
MAX_SECONDS = 30 * 86400.0
MAX_STAGES = 100


class Arrivals(StrEnum):
    """Distributions of the gaps between the requests of an open loop."""

    CONSTANT = "constant"
    POISSON = "poisson"
    GAMMA = "gamma"


class Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Base of the document and its parts."""


class RunStage(Section, frozen=True):
    """A part of the load. Exactly one of `concurrency` and `rate` is set, and it is the same one in all stages."""

    duration_seconds: Annotated[float, Meta(gt=0, le=MAX_SECONDS, description="Duration of the stage in seconds.")]
    concurrency: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_CONCURRENCY)] | None, Meta(description="Number of concurrent users.")
    ] = None
    rate: Annotated[
        Annotated[float, Meta(ge=0, le=MAX_RATE)] | None, Meta(description="Number of requests per second.")
    ] = None
    ramp: Annotated[
        bool,
        Meta(
            description="Whether the load changes linearly from that of the previous stage, or from 0, to that of this "
            "stage. If false, it changes immediately."
        ),
    ] = False

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate is None):
            raise ValueError("set exactly one of concurrency and rate")


class RunSweep(Section, frozen=True):
    """Search for the highest rate at which every objective is met."""

    max_rate: Annotated[float, Meta(gt=0, le=MAX_RATE, description="Highest rate to try, in requests per second.")]
    min_rate: Annotated[float, Meta(gt=0, le=MAX_RATE, description="Lowest rate to try, in requests per second.")] = 0.1
    step_seconds: Annotated[
        float, Meta(gt=0, le=MAX_SECONDS, description="Duration of the load at each rate, in seconds.")
    ] = 60.0
    precision: Annotated[
        float, Meta(gt=0, lt=1, description="Relative width of the interval at which the search ends.")
    ] = 0.05

    def __post_init__(self) -> None:
        if self.min_rate >= self.max_rate:
            raise ValueError("minRate must be less than maxRate")


class RunSessions(Section, frozen=True):
    """Closed loop of conversations. Each request contains the conversation so far."""

    users: Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY, description="Number of concurrent conversations.")]
    turns: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        Meta(
            description="Maximum number of turns per conversation. If absent, a question has 1 + its number of turns."
        ),
    ] = None


class RunLoad(Section, frozen=True):
    """Amount and duration of the load.

    Exactly one of `concurrency`, `sessions`, `rate`, `stages` and `sweep` is set, or none of them if the document has a
    `trace`, which then determines when the requests are sent.
    """

    concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)] | None,
        Meta(
            description="Closed loop: number of concurrent users. Each user sends the next request after the previous "
            "response has ended."
        ),
    ] = None
    sessions: Annotated[
        RunSessions | None,
        Meta(
            description="Closed loop of conversations with several turns. If some of the questions have turns, only "
            "these are asked, unless sessions.turns is 1."
        ),
    ] = None
    think_time_seconds: Annotated[
        Annotated[float, Meta(ge=0, le=MAX_SECONDS)] | None,
        Meta(
            description="Closed loop: mean time in seconds between a response and the next request of the same user, "
            "exponentially distributed. Defaults to 0."
        ),
    ] = None
    rate: Annotated[
        Annotated[float, Meta(gt=0, le=MAX_RATE)] | None,
        Meta(description="Open loop: number of requests per second, regardless of response times."),
    ] = None
    arrivals: Annotated[
        Arrivals | None,
        Meta(
            description="Open loop (rate, stages with rates, sweep): distribution of the gaps between requests. "
            "Defaults to poisson."
        ),
    ] = None
    burstiness: Annotated[
        Annotated[float, Meta(gt=0, le=1000)] | None,
        Meta(
            description="Shape of gamma arrivals: 1 is Poisson, less than 1 is burstier, more than 1 is more even. "
            "Required for gamma, and not allowed for the others."
        ),
    ] = None
    max_in_flight: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)] | None,
        Meta(
            description="Open loop: maximum number of requests in flight. If it is reached, a request that is due "
            "waits, which counts in the latencies from the schedule. If absent, the number is not limited."
        ),
    ] = None
    stages: Annotated[
        Annotated[tuple[RunStage, ...], Meta(min_length=1, max_length=MAX_STAGES)] | None,
        Meta(description="Loads one after the other. Their durations replace durationSeconds."),
    ] = None
    sweep: Annotated[
        RunSweep | None,
        Meta(description="Search for the highest rate that meets the objectives. Replaces durationSeconds."),
    ] = None
    stop_when_saturated: Annotated[
        bool | None,
        Meta(
            description="Open loop: whether to end when the server cannot follow the offered rate. Defaults to false."
        ),
    ] = None
    duration_seconds: Annotated[
        float, Meta(ge=0, le=MAX_SECONDS, description="Duration of the load in seconds, after the warm-up.")
    ] = 30.0
    warmup_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=MAX_SECONDS,
            description="Duration of the warm-up in seconds. Its requests are not part of the result.",
        ),
    ] = 0.0
    drain_timeout_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=MAX_SECONDS,
            description="Time in seconds for which the run waits for requests that are in flight at the end of the "
            "load. Requests that have not ended by then fail as unfinished.",
        ),
    ] = 60.0
    max_requests: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Maximum number of measured requests. If absent, the number is not limited."),
    ] = None
    seed: Annotated[int, Meta(description="The same seed gives the same schedule and order of questions.")] = 1

    @property
    def is_open(self) -> bool:
        """Whether requests are sent on a schedule, regardless of response times."""
        stages = self.stages or ()
        return self.rate is not None or self.sweep is not None or any(stage.rate is not None for stage in stages)

    def __post_init__(self) -> None:
        shapes = {"concurrency": self.concurrency, "sessions": self.sessions, "rate": self.rate, "stages": self.stages,
                  "sweep": self.sweep}  # fmt: skip
        given = [name for name, value in shapes.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"set only one of {', '.join(shapes)}, not {' and '.join(given)}")
        if self.stages and len({stage.rate is None for stage in self.stages}) > 1:
            raise ValueError("stages must all have a rate, or all have a concurrency")
        if self.stages and not any(stage.rate or stage.concurrency for stage in self.stages):
            raise ValueError("at least one of the stages must have a load above 0")
        self._check_open()

    def _check_open(self) -> None:
        for name, value in (("arrivals", self.arrivals), ("maxInFlight", self.max_in_flight),
                            ("stopWhenSaturated", self.stop_when_saturated)):  # fmt: skip
            if value is not None and not self.is_open:
                raise ValueError(f"{name} is only allowed with a rate")
        if self.think_time_seconds is not None and self.is_open:
            raise ValueError("thinkTimeSeconds is only allowed with concurrency or sessions")
        if (self.burstiness is None) == (self.arrivals is Arrivals.GAMMA):
            raise ValueError("burstiness is required for gamma arrivals, and not allowed for others")
