"""Whether the server processed the prompts of the document, or shorter ones.

A prompt that exceeds the context of the model is cut by the load generator if the run sets the context. Otherwise, the
server may cut it: Ollama does so without an error, and then has less to process than the document asks for. Prompts
have a known length if they are synthetic or those of a trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmendpoint_common.contracts.loadrun import MetricName, RunDocument
from llmendpoint_common.results.measurements import Lengths, Measurements
from llmendpoint_common.results.objectives import Judged, State
from llmendpoint_common.results.words import listed, part_of, plural, was

#: Share of the prompts that may seem to be cut without a word, because tokenizers differ.
_MAX_SHORT_SHARE = 0.05
#: Metrics that depend on the time for processing the prompt.
_OF_PROMPTS = frozenset({MetricName.TTFT, MetricName.REQUEST_LATENCY, MetricName.ATTAINMENT})


def cut_by_the_run(measurements: Measurements, document: RunDocument) -> Iterator[str]:
    """Yield a sentence if the load generator has cut prompts."""
    if measurements.cut:
        requests = plural(measurements.whole.requests, "request")
        yield (
            f"The input of {measurements.cut} of {requests} was cut to fit into the context of the model (num_ctx), so "
            f"the load was not that of the {'run document' if document.trace is None else 'trace'}"
        )


def cut_by_the_server(lengths: Lengths) -> Iterator[str]:
    """Yield a sentence if the server has probably cut prompts."""
    if lengths.short > _MAX_SHORT_SHARE * lengths.answers:
        counted, wanted = (round(tokens / lengths.short) for tokens in (lengths.short_input, lengths.short_wanted))
        yield (
            f"The server counted on average {counted:,} input tokens for {part_of(lengths.short, lengths.answers)}, "
            f"whose prompts have about {wanted:,}; it probably cut them, as Ollama does without an error if they "
            "exceed the context of the model"
        )


def met_with_cut_prompts(measurements: Measurements, judged: Sequence[Judged]) -> Iterator[str]:
    """Yield sentences if objectives were met that shorter prompts make easier, and the server has cut prompts."""
    names = [item.name for item in judged if item.state is State.MET and item.metric.name in _OF_PROMPTS]
    cut = list(cut_by_the_server(measurements.lengths))
    if names and cut:
        yield f"{listed(names)} {was(len(names))} met with shorter prompts than those of the document"
        yield from cut
        yield "let the model have a larger context (Ollama: the option num_ctx), or ask for shorter prompts"
