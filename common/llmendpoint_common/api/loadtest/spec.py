"""Typed models of LoadTest: the source of its CustomResourceDefinition, and the spec that the operator reads.

The parts of the spec and the status are in modules of their own. `kubectl explain` shows the descriptions. Readers see
each one without the others, so it names the unit, the default, and the effect of an absent field.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import ApiModel, LocalReference, cel_list, rules
from llmendpoint_common.api.loadtest.dataset import Dataset, Order, Questions
from llmendpoint_common.api.loadtest.fields import ServedModel
from llmendpoint_common.api.loadtest.load import LoadShape
from llmendpoint_common.api.loadtest.pod import LoadPod, Results
from llmendpoint_common.api.loadtest.request import Request, RequestType
from llmendpoint_common.api.loadtest.resolution import resolve_load
from llmendpoint_common.api.loadtest.slo import BaselineReference, SloItem
from llmendpoint_common.api.loadtest.status import LoadTestStatus
from llmendpoint_common.api.loadtest.target import Protocol, Target
from llmendpoint_common.contracts.loadrun import PRESETS, ResolvedLoad, Scenario

__all__ = [
    "CHANGEABLE",
    "Dataset",
    "LoadPod",
    "LoadShape",
    "LoadTest",
    "LoadTestSpec",
    "Order",
    "Protocol",
    "Questions",
    "Request",
    "RequestType",
    "SloItem",
    "Target",
    "parse_spec",
]

_HAS_TRACE = "(has(self.dataset) && has(self.dataset.trace))"
_SHAPES = ("concurrency", "rate", "stages", "sweep", "sessions")
_NO_SHAPE = f"(!has(self.load) || !({' || '.join(f'has(self.load.{name})' for name in _SHAPES)}))"
#: The scenarios whose load is a rate.
_OPEN_SCENARIOS = [scenario.value for scenario, preset in PRESETS.items() if {"rate", "sweep"} & preset.load.keys()]
#: Whether requests are sent on a schedule, regardless of response times.
_IS_OPEN = (
    "((has(self.load) && (has(self.load.rate) || has(self.load.sweep) || "
    "(has(self.load.stages) && self.load.stages.exists(s, has(s.rate))))) || "
    f"({_NO_SHAPE} && !{_HAS_TRACE} && has(self.scenario) && self.scenario in {cel_list(_OPEN_SCENARIOS)}))"
)
_OPEN_WORDS = (
    "requires an open loop: load.rate, load.stages with a rate, load.sweep, or the scenario "
    f"{' or '.join(_OPEN_SCENARIOS)}"
)
_IS_OPENAI = "(has(self.target) && has(self.target.protocol) && self.target.protocol == 'OpenAI')"

_RULES = (
    ("has(self.endpointRef) != has(self.target)", "set exactly one of endpointRef and target"),
    ("!has(self.target) || has(self.model)", "model is required if target is set"),
    (
        f"!{_HAS_TRACE} || !has(self.load) || !({' || '.join(f'has(self.load.{name})' for name in _SHAPES)})",
        "dataset.trace determines when requests are sent: remove concurrency, rate, stages, sweep and sessions from "
        "load",
    ),
    (
        "!has(self.load) || !has(self.load.sweep) || (has(self.slo) && self.slo.size() > 0)",
        "load.sweep requires objectives in slo, which decide whether a rate is too high",
    ),
    (
        "!has(self.scenario) || self.scenario != 'Sweep' || !has(self.load) || !has(self.load.parallelism) || "
        "self.load.parallelism == 1",
        "the scenario Sweep requires load.parallelism 1, because the next rate depends on the responses to the last "
        "one",
    ),
    (
        "!has(self.scenario) || self.scenario != 'Sweep' || !has(self.load) || !has(self.load.concurrency)",
        "the scenario Sweep searches for a rate: set load.rate (the highest one to try) or load.sweep, not "
        "load.concurrency",
    ),
    (f"!has(self.stopWhenSaturated) || !self.stopWhenSaturated || {_IS_OPEN}", f"stopWhenSaturated {_OPEN_WORDS}"),
    (f"!has(self.load) || !has(self.load.arrivals) || {_IS_OPEN}", f"load.arrivals {_OPEN_WORDS}"),
    (f"!has(self.load) || !has(self.load.maxInFlight) || {_IS_OPEN}", f"load.maxInFlight {_OPEN_WORDS}"),
    (
        f"!has(self.load) || !has(self.load.thinkTime) || !({_IS_OPEN})",
        "load.thinkTime requires a closed loop: load.concurrency, load.stages with a concurrency, load.sessions, or a "
        "scenario with users",
    ),
    (
        f"!{_IS_OPENAI} || !has(self.request) || !has(self.request.type) || self.request.type != 'Generate'",
        "request.type Generate is not available for a target with the protocol OpenAI",
    ),
    (
        f"!{_IS_OPENAI} || !has(self.request) || !has(self.request.options)",
        "request.options are options of Ollama; for a target with the protocol OpenAI, use request.body",
    ),
)


class LoadTestSpec(ApiModel):
    """Specification of a load test. Once the run has started, only the fields in `CHANGEABLE` can be changed."""

    model_config = ConfigDict(json_schema_extra=rules(*_RULES))

    endpoint_ref: LocalReference | None = Field(
        None,
        description="LLMEndpoint to test, in the namespace of the LoadTest. The run starts when the LLMEndpoint is "
        "Ready. Exactly one of endpointRef and target is required.",
    )
    target: Target | None = Field(
        None,
        description="Server to test that is not an LLMEndpoint. Exactly one of endpointRef and target is required.",
    )
    model: ServedModel | None = Field(
        None,
        description="Model to send requests to, for example llama3.2:3b. Required if target is set, or if the "
        "LLMEndpoint has several models. Defaults to the model of the LLMEndpoint if it has only one.",
    )
    scenario: Scenario | None = Field(
        None,
        description="Preset of the load: Smoke, Baseline, Ramp, Spike, Soak, Stress, Sweep or Traffic. Fields of load "
        "take precedence over it, and slo over its objectives. status.resolvedLoad has the load that it became. "
        "docs/load-tests.md describes each one. If absent, load alone determines the load.",
    )
    load: LoadShape = Field(
        default_factory=LoadShape,
        description="Amount, shape and duration of the load. Without a scenario, it "
        f"defaults to {defaults.LOAD_CONCURRENCY} user for {defaults.LOAD_DURATION}.",
    )
    dataset: Dataset = Field(
        default_factory=Dataset, description="Content of the requests. Defaults to the operator's default questions."
    )
    request: Request = Field(
        default_factory=Request, description="Settings that apply to every request, such as its timeout."
    )
    slo: list[SloItem] = Field(
        default_factory=list,
        max_length=32,
        description="Objectives that the verdict depends on. If empty, those of the scenario apply, if it has any. A "
        "run without objectives only reports, and its verdict is None.",
    )
    baseline_ref: BaselineReference | None = Field(
        None,
        description="Earlier LoadTest that this run is compared with. A regression makes the verdict Failed. If "
        "absent, the run is not compared.",
    )
    stop_when_saturated: bool | None = Field(
        None,
        description="Whether the load ends early when the server can no longer follow the offered rate. Only allowed "
        "in an open loop. Defaults to that of the scenario, and without a scenario to false.",
    )
    pod: LoadPod = Field(
        default_factory=LoadPod, description="Resources, metadata and placement of the load generator's pods."
    )
    results: Results | None = Field(
        None,
        description="Volume for one line per request and for the report. The summary is always in a ConfigMap. If "
        "absent, the lines of the requests are not kept.",
    )
    suspend: bool = Field(
        False,
        description="If true, a run that has not started waits until this is false. A run that has started is "
        "canceled: its open requests end immediately, its result is partial and covers the requests that had ended "
        "by then, and it does not start again if this becomes false. Can be changed at any time. Defaults to false.",
    )
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=2_147_483_647,
        description="Number of seconds after the end of the run after which the LoadTest is deleted, together with its "
        "Job and ConfigMaps. If absent, the LoadTest is kept. Can be changed at any time.",
    )

    @property
    def resolved(self) -> ResolvedLoad:
        """The load and the objectives, with those of the scenario. Raises ValueError if they cannot be combined."""
        return resolve_load(
            self.load,
            self.slo,
            self.scenario,
            is_trace=self.dataset.trace is not None,
            stop_when_saturated=self.stop_when_saturated,
        )

    @model_validator(mode="after")
    def _check(self) -> LoadTestSpec:
        """Refuse what only the scenario and the other fields together make impossible."""
        limit = self.resolved.load.max_in_flight
        if limit is not None and self.load.parallelism > limit:
            raise ValueError(
                f"load.parallelism ({self.load.parallelism}) must not be more than load.maxInFlight ({limit}), so that "
                "each pod can have a request in flight"
            )
        return self


#: Fields of the spec that do not describe the run, so that they can be changed after it has started.
CHANGEABLE = frozenset({"suspend", "ttlSecondsAfterFinished"})
_CHANGEABLE = " and ".join(sorted(CHANGEABLE))


def _unchanged() -> str:
    """Return the CEL expression that is true if all other fields of the spec are the same as before.

    CEL cannot compare objects without some of their fields.
    """
    names = [str(field.alias) for field in LoadTestSpec.model_fields.values() if field.alias not in CHANGEABLE]
    return " && ".join(
        f"has(self.spec.{name}) == has(oldSelf.spec.{name}) && "
        f"(!has(self.spec.{name}) || self.spec.{name} == oldSelf.spec.{name})"
        for name in names
    )


class LoadTest(BaseModel):
    """A load test of an LLMEndpoint or of another server. It runs once and ends with a verdict."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must start with a letter, end with a letter or digit, contain only lowercase letters, "
                "digits and dashes, and have at most 50 characters",
            ),
            (
                "!has(self.spec.baselineRef) || self.spec.baselineRef.name != self.metadata.name",
                "spec.baselineRef must name another LoadTest",
            ),
            (
                f"!has(oldSelf.status) || !has(oldSelf.status.startTime) || ({_unchanged()})",
                f"spec cannot be changed once the run has started, except {_CHANGEABLE}; create another LoadTest",
            ),
        )
    )

    spec: LoadTestSpec = Field(
        description=f"Specification of the run. Once the run has started, it cannot be changed, except {_CHANGEABLE}."
    )
    status: LoadTestStatus | None = Field(
        None, description="Observed progress and result of the run. The operator writes it."
    )


def parse_spec(manifest: dict[str, Any]) -> LoadTestSpec:
    """Return the spec of a LoadTest. Raises pydantic.ValidationError, which names the field."""
    return LoadTestSpec.model_validate(manifest.get("spec", {}))
