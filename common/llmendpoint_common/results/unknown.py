"""Sentences about what a run could not measure, or what its figures leave out."""

from __future__ import annotations

from collections.abc import Iterator

from llmendpoint_common.contracts.loadrun import (
    MAX_INPUT_TOKENS,
    MAX_OUTPUT_TOKENS_PER_SECOND,
    MetricName,
    PrefixCache,
    RunDocument,
)
from llmendpoint_common.results.measurements import Group, Lengths, Measurements
from llmendpoint_common.results.prompt_lengths import cut_by_the_run, cut_by_the_server
from llmendpoint_common.results.words import part_of, plural

#: Share of the answers that may come in the drain without a word.
_MAX_DRAINED_SHARE = 0.05
#: Share of the output tokens that were asked for below which answers are far shorter.
_SHORT_ANSWERS = 0.5
_NAMES = {"ttft": "TTFT", "tpot": "TPOT"}


def unknown_sentences(measurements: Measurements, document: RunDocument) -> Iterator[str]:
    """Yield one sentence for each thing that is unknown."""
    whole = measurements.whole
    yield from cut_by_the_run(measurements, document)
    if not whole.answered:
        return
    if document.has_conversations:
        yield (
            "Questions without turns were not asked, because the load is one of conversations"
            if measurements.continued
            else "No conversation had a second turn: the questions have no turns, or the run was too short"
        )
    yield from _other_lengths(measurements.lengths)
    drained = whole.answered - whole.completed
    if drained > _MAX_DRAINED_SHARE * whole.answered and not measurements.interrupted:
        which = part_of(drained, whole.answered)
        yield f"{which[:1].upper()}{which[1:]} came after the end of the load, and are in no rate; run it for longer"
    for field, name in _NAMES.items():
        count = whole.unmeasured.get(field, 0)
        if count:
            yield f"{name} is unknown for {part_of(count, whole.answered)}: {_reason(field, document)}"
    yield from _one_token(whole, document)
    if measurements.sent_again:
        yield (
            f"{measurements.sent_again} of {plural(whole.answered, 'answer')} came only after the request was sent "
            "again: the server closed the reused connection without a response, because it was idle, or after it had "
            "read the request"
        )
    if whole.without_usage > whole.implausible_usage:
        count = whole.without_usage - whole.implausible_usage
        yield f"The server reported no token counts for {part_of(count, whole.answered)}"
    if whole.implausible_usage:
        yield (
            f"The token counts of {part_of(whole.implausible_usage, whole.answered)} cannot be true, and are left out: "
            f"more than {MAX_INPUT_TOKENS:,} input tokens, or more output tokens than bytes and than "
            f"{MAX_OUTPUT_TOKENS_PER_SECOND:,} per second"
        )
    if not whole.cached_of_tokens and document.request.prefix_cache is not PrefixCache.UNIQUE:
        yield "The server did not report cached input tokens, so the share of repeated prompts is unknown"


def _other_lengths(lengths: Lengths) -> Iterator[str]:
    """Yield a sentence if prompts or answers were far shorter than the run asked for."""
    yield from cut_by_the_server(lengths)
    if lengths.output < _SHORT_ANSWERS * lengths.wanted_output:
        share = 100 * lengths.output / lengths.wanted_output
        yield (
            f"The answers have {share:.2g}% of the output tokens that the run asked for: a model stops when it has "
            "said everything, and the load would be higher with longer answers"
        )


def _one_token(whole: Group, document: RunDocument) -> Iterator[str]:
    """Yield a sentence if TPOT is that of some answers only, or if an objective needs it and no answer has it."""
    values = whole.histogram("tpot").count
    count = whole.answered - values - whole.unmeasured.get("tpot", 0)
    is_wanted = any(objective.metric is MetricName.TPOT for objective in document.objectives)
    if count > 0 and (values or is_wanted):
        verb = "has" if count == 1 else "have"
        rest = f": its percentiles are those of {plural(values, 'answer')}" if values else ""
        yield f"TPOT does not exist for {part_of(count, whole.answered)}, which {verb} only one token{rest}"


def _reason(field: str, document: RunDocument) -> str:
    if not document.request.stream:
        return "the responses were not streamed"
    if field == "tpot":
        return "they came in one piece, or without a plausible count of output tokens"
    return "they came in one object"
