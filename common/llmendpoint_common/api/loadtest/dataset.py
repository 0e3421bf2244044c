"""`spec.dataset`: content of the requests."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import ApiModel, LocalReference, rules
from llmendpoint_common.api.loadtest.fields import Category, TimeScale
from llmendpoint_common.api.loadtest.target import ConfigMapKeyReference


class Order(StrEnum):
    """Orders of the questions."""

    SHUFFLED = "Shuffled"
    SEQUENTIAL = "Sequential"


class Questions(ApiModel):
    """Selection and order of the questions."""

    categories: list[Category] = Field(
        default_factory=list,
        max_length=64,
        description="Categories of questions to ask, for example Coding. If empty, all categories are used.",
    )
    config_map_refs: list[LocalReference] = Field(
        default_factory=list,
        max_length=32,
        description="ConfigMaps with your own question files, in the namespace of the LoadTest. They replace the "
        "default questions. If empty, the run uses the default questions: all ConfigMaps in the operator's namespace "
        "with the label llmendpoint.dev/questions=true, which include the shipped questions.",
    )
    order: Order = Field(
        Order.SHUFFLED,
        description="Order of the questions: Shuffled for an order that the seed determines, Sequential for the order "
        f"of the files. Defaults to {Order.SHUFFLED}.",
    )


class Synthetic(ApiModel):
    """Generated prompts of a given length."""

    input_tokens: int = Field(ge=1, le=1_000_000, description="Approximate number of tokens per prompt.")
    output_tokens: int = Field(ge=1, le=1_000_000, description="Maximum number of generated tokens per response.")


class Trace(ApiModel):
    """Recorded times and lengths of requests, which the run replays."""

    config_map_key_ref: ConfigMapKeyReference = Field(
        description="Key of a ConfigMap with the trace: lines of JSON as in the Mooncake traces, or CSV as in the "
        "Azure LLM inference traces. The run uses a copy from the time before it starts."
    )
    time_scale: TimeScale = Field(
        defaults.TRACE_TIME_SCALE,
        description="Factor for the times of the trace, more than 0 and at most 1000000: 0.5 replays it twice as fast. "
        f"Defaults to {defaults.TRACE_TIME_SCALE}.",
    )


class Dataset(ApiModel):
    """Content of the requests."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.questions), has(self.synthetic), has(self.trace)].filter(given, given).size() <= 1",
                "set at most one of questions, synthetic and trace",
            )
        )
    )

    questions: Questions | None = Field(
        None,
        description="Questions from ConfigMaps. At most one of questions, synthetic and trace may be set. If none is, "
        "the run asks all default questions.",
    )
    synthetic: Synthetic | None = Field(
        None,
        description="Generated prompts of a given length, instead of questions. At most one of questions, synthetic "
        "and trace may be set.",
    )
    trace: Trace | None = Field(
        None,
        description="Replay of a trace, which determines when requests are sent and how long they are. The prompts are "
        "generated. At most one of questions, synthetic and trace may be set.",
    )
