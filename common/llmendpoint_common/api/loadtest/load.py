"""`spec.load`: amount, shape and duration of the load."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import ApiModel, rules
from llmendpoint_common.api.loadtest.fields import (
    BoundedDuration,
    Burstiness,
    LevelRate,
    PositiveDuration,
    Precision,
    Rate,
)
from llmendpoint_common.contracts.loadrun import MAX_CONCURRENCY, MAX_RATE, MAX_STAGES

#: Maximum number of pods of a run. Each one has a result ConfigMap, and the operator reads all of them.
MAX_PARALLELISM = 32


class ArrivalLaw(StrEnum):
    """Distributions of the gaps between the requests of an open loop."""

    CONSTANT = "Constant"
    POISSON = "Poisson"
    GAMMA = "Gamma"


class Stage(ApiModel):
    """A part of the load, with a number of users or a rate."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.concurrency) != has(self.rate)", "set exactly one of concurrency and rate in a stage")
        )
    )

    duration: PositiveDuration = Field(description="Duration of the stage, as a duration such as 90s or 5m.")
    concurrency: int | None = Field(
        None,
        ge=0,
        le=MAX_CONCURRENCY,
        description="Number of concurrent users during the stage. Exactly one of concurrency and rate is required, "
        "and it must be the same one in all stages.",
    )
    rate: LevelRate | None = Field(
        None,
        description=f"Number of requests per second during the stage, for example 0.5; at most {MAX_RATE}. Exactly one "
        "of concurrency and rate is required, and it must be the same one in all stages.",
    )
    ramp: bool = Field(
        False,
        description="Whether the load changes linearly from that of the previous stage, or from 0, to that of this "
        "stage. If false, it changes immediately. Defaults to false.",
    )


class Sweep(ApiModel):
    """Search for the highest rate at which every objective is met."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.minRate) || double(string(self.minRate)) < double(string(self.maxRate))",
                "minRate must be less than maxRate",
            )
        )
    )

    max_rate: Rate = Field(
        description=f"Highest rate to try, in requests per second, for example 50; at most {MAX_RATE}."
    )
    min_rate: Rate = Field(
        defaults.SWEEP_MIN_RATE,
        description=f"Lowest rate to try, in requests per second. Defaults to {defaults.SWEEP_MIN_RATE}.",
    )
    step_duration: PositiveDuration = Field(
        defaults.SWEEP_STEP_DURATION,
        description="Duration of the load at each rate, as a duration such as 60s. "
        f"Defaults to {defaults.SWEEP_STEP_DURATION}.",
    )
    precision: Precision = Field(
        defaults.SWEEP_PRECISION,
        description="The search ends when the interval in which the highest rate lies is at most this percentage wide, "
        f"for example 5%. Defaults to {defaults.SWEEP_PRECISION}.",
    )


class Sessions(ApiModel):
    """Closed loop of conversations with several turns. Each request contains the conversation so far."""

    users: int = Field(ge=1, le=MAX_CONCURRENCY, description="Number of concurrent conversations.")
    turns: int | None = Field(
        None,
        ge=1,
        le=100,
        description="Maximum number of turns per conversation. If absent, each conversation has the turns of its "
        "question: 1, and one for each item of turns in the question file.",
    )


_SHAPES = ("concurrency", "rate", "stages", "sweep", "sessions")
_GIVEN = ", ".join(f"has(self.{name})" for name in _SHAPES)
#: True if the shape in this object is a closed loop. False without a shape, because the scenario may have one.
_IS_CLOSED = (
    "(has(self.concurrency) || has(self.sessions) || (has(self.stages) && self.stages.exists(s, has(s.concurrency))))"
)
_IS_OPEN = "(has(self.rate) || has(self.sweep) || (has(self.stages) && self.stages.exists(s, has(s.rate))))"
_OPEN_FIELDS = ("arrivals", "maxInFlight")


class LoadShape(ApiModel):
    """Amount, shape and duration of the load."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                f"[{_GIVEN}].filter(given, given).size() <= 1",
                "set at most one of concurrency (closed loop), rate (open loop), stages, sweep and sessions",
            ),
            (
                "!has(self.stages) || self.stages.all(s, has(s.rate)) || self.stages.all(s, has(s.concurrency))",
                "stages must all have a rate, or all have a concurrency",
            ),
            (
                "!has(self.stages) || self.stages.exists(s, has(s.concurrency) ? s.concurrency > 0 : "
                "(has(s.rate) && double(string(s.rate)) > 0.0))",
                "at least one of the stages must have a load above 0",
            ),
            *(
                (
                    f"!has(self.{name}) || !{_IS_CLOSED}",
                    f"{name} requires an open loop: rate, stages with a rate, or sweep",
                )
                for name in _OPEN_FIELDS
            ),
            (
                f"!has(self.thinkTime) || !{_IS_OPEN}",
                "thinkTime requires a closed loop: concurrency, stages with a concurrency, or sessions",
            ),
            (
                "has(self.burstiness) == (has(self.arrivals) && self.arrivals == 'Gamma')",
                "burstiness is required if arrivals is Gamma, and not allowed otherwise",
            ),
            (
                "!has(self.duration) || !(has(self.stages) || has(self.sweep))",
                "duration is not allowed with stages and sweep, which have durations of their own",
            ),
            (
                "!has(self.parallelism) || self.parallelism == 1 || !has(self.sweep)",
                "sweep requires parallelism 1, because the next rate depends on the responses to the last one",
            ),
            (
                "!has(self.parallelism) || ((!has(self.concurrency) || self.parallelism <= self.concurrency) && "
                "(!has(self.sessions) || self.parallelism <= self.sessions.users))",
                "parallelism must not be more than concurrency or sessions.users, so that each pod has a user",
            ),
            (
                "!has(self.parallelism) || !has(self.maxInFlight) || self.parallelism <= self.maxInFlight",
                "parallelism must not be more than maxInFlight, so that each pod can have a request in flight",
            ),
        )
    )

    concurrency: int | None = Field(
        None,
        ge=1,
        le=MAX_CONCURRENCY,
        description="Number of concurrent users in a closed loop, over all pods. Each user waits for a response before "
        "it sends the next request. At most one of concurrency, rate, stages, sweep and sessions may be set. If none "
        f"is, the scenario determines the load; without a scenario, it is {defaults.LOAD_CONCURRENCY} user.",
    )
    rate: Rate | None = Field(
        None,
        description="Number of requests per second in an open loop, over all pods, for example 0.5; more than 0, and "
        f"at most {MAX_RATE}. Requests are sent at this rate regardless of response times. At most one of concurrency, "
        "rate, stages, sweep and sessions may be set.",
    )
    stages: Annotated[list[Stage], Field(min_length=1, max_length=MAX_STAGES)] | None = Field(
        None,
        description="Loads one after the other, such as a ramp, a spike and a plateau. All of them have a rate, or all "
        "of them have a concurrency. At most one of concurrency, rate, stages, sweep and sessions may be set.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    sweep: Sweep | None = Field(
        None,
        description="Search for the highest rate at which every objective of spec.slo is met. Requires objectives. At "
        "most one of concurrency, rate, stages, sweep and sessions may be set.",
    )
    sessions: Sessions | None = Field(
        None,
        description="Closed loop of conversations with several turns. If some of the questions have turns, only these "
        "are asked, unless sessions.turns is 1. At most one of concurrency, rate, stages, sweep "
        "and sessions may be set.",
    )
    arrivals: ArrivalLaw | None = Field(
        None,
        description="Distribution of the gaps between the requests of an open loop: Constant for equal gaps, Poisson "
        "for random gaps, Gamma for random gaps with the given burstiness. Only allowed in an open loop. "
        f"Defaults to {ArrivalLaw.POISSON}.",
    )
    burstiness: Burstiness | None = Field(
        None,
        description="Shape of the gaps of Gamma arrivals, more than 0 and at most 1000: 1 is Poisson, less than 1 is "
        "burstier, more than 1 is more even. Required if arrivals is Gamma, and not allowed otherwise.",
    )
    think_time: BoundedDuration | None = Field(
        None,
        description="Mean time between a response and the next request of the same user, as a duration such as 5s. The "
        "times are random, with an exponential distribution. Only allowed in a closed loop. Defaults to 0s.",
    )
    max_in_flight: int | None = Field(
        None,
        ge=1,
        le=MAX_CONCURRENCY,
        description="Maximum number of requests in flight in an open loop, over all pods, which share it equally. If a "
        "pod reaches its share, a request that is due there waits, and the wait counts in the latencies from the "
        "schedule. Only allowed in an open loop, and at least parallelism. If absent, the number is not limited.",
    )
    duration: PositiveDuration | None = Field(
        None,
        description="Duration of the load after the warm-up, as a duration such as 90s or 5m. After that, the run "
        "waits for the requests that are still in flight. Not allowed with stages and sweep. Defaults to the duration "
        f"of the scenario, without a scenario to {defaults.LOAD_DURATION}, and with a trace to its length.",
    )
    drain_timeout: BoundedDuration | None = Field(
        None,
        description="Time for which the run waits for requests that are in flight at the end of the load, as a "
        "duration such as 60s. Requests that have not ended by then fail as unfinished. Defaults to that of the "
        f"scenario, and without a scenario to {defaults.LOAD_DRAIN_TIMEOUT}.",
    )
    warmup: BoundedDuration | None = Field(
        None,
        description="Duration of the load before the measurement starts, as a duration such as 10s. Requests of the "
        "warm-up are not part of the result. Defaults to that of the scenario, and without a scenario to "
        f"{defaults.LOAD_WARMUP}.",
    )
    max_requests: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Maximum number of measured requests, over all pods. Requests of the warm-up do not count. The "
        "load ends early when it is reached. If absent, the number is not limited.",
    )
    seed: int = Field(
        defaults.LOAD_SEED,
        ge=0,
        le=2_147_483_647,
        description="Seed of the random numbers. The same seed gives the same schedule and the same order of "
        f"questions. Defaults to {defaults.LOAD_SEED}.",
    )
    parallelism: int = Field(
        defaults.LOAD_PARALLELISM,
        ge=1,
        le=MAX_PARALLELISM,
        description="Number of load pods. They start at the same time and share one schedule: all numbers in load are "
        "those of the whole run. Their results are merged exactly. More pods are needed if one core cannot send the "
        f"load, roughly from 1000 concurrent streams on. Defaults to {defaults.LOAD_PARALLELISM}.",
    )
