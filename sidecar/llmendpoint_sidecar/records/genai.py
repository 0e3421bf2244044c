"""Table of the OpenTelemetry GenAI names that the sidecar exports: operations, attributes and metrics.

The names are those of the semantic conventions v1.41.1. It is the last version that defines them itself: v1.42 moved
them to github.com/open-telemetry/semantic-conventions-genai, which has no release yet. GenAI names are in development,
so a later version may change them. This table changes with SCHEMA_URL, which is part of every exported span and metric.
"""

from __future__ import annotations

from typing import NamedTuple

from llmendpoint_common.contracts.sidecar import Operation

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.1"

#: Values of `gen_ai.operation.name`. Other operations are not exported, because the conventions have no name for them.
OPERATION_NAMES = {
    Operation.CHAT: "chat",
    Operation.OPENAI_CHAT: "chat",
    Operation.OPENAI_RESPONSES: "chat",
    Operation.ANTHROPIC_MESSAGES: "chat",
    Operation.GENERATE: "text_completion",
    Operation.OPENAI_COMPLETIONS: "text_completion",
    Operation.EMBED: "embeddings",
    Operation.EMBEDDINGS: "embeddings",
    Operation.OPENAI_EMBEDDINGS: "embeddings",
}

OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
USAGE_TYPE = "gen_ai.token.type"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
ERROR_TYPE = "error.type"
STATUS_CODE = "http.response.status_code"

#: Values of `gen_ai.token.type`.
INPUT, OUTPUT = "input", "output"


class HistogramName(NamedTuple):
    """A histogram: its name, unit, description, and the bounds of its buckets that the conventions advise."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...]


REQUEST_DURATION = HistogramName(
    "gen_ai.server.request.duration",
    "s",
    "Generative AI server request duration such as time-to-last byte or last output token.",
    (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
TIME_TO_FIRST_TOKEN = HistogramName(
    "gen_ai.server.time_to_first_token",
    "s",
    "Time to generate first token for successful responses.",
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
TIME_PER_OUTPUT_TOKEN = HistogramName(
    "gen_ai.server.time_per_output_token",
    "s",
    "Time per output token generated after the first token for successful responses.",
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
TOKEN_USAGE = HistogramName(
    "gen_ai.client.token.usage",
    "{token}",
    "Number of input and output tokens used.",
    tuple(float(4**power) for power in range(14)),
)
