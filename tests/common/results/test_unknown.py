"""Sentences about what a run could not measure, and about prompts and answers that are not those it seems to ask for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llmendpoint_common.contracts.loadrun import (
    RunDocument,
    RunRequest,
    RunSessions,
    RunSynthetic,
    Summary,
    Verdict,
    VerdictReason,
)
from llmendpoint_common.results.summary import summarize
from support.load.runs import answered, document_of, failed, measure, run

LENGTHS = ("input tokens for", "output tokens that the run asked for")
SYNTHETIC = msgspec.structs.replace(document_of(), synthetic=RunSynthetic(3000, 500))


def told(*samples: Any, document: RunDocument = SYNTHETIC) -> list[str]:
    """Return the sentences about lengths."""
    unknown = summarize(measure(samples, document), document).unknown
    return [sentence for sentence in unknown if any(words in sentence for words in (*LENGTHS, "was cut to fit"))]


def made(counted: int, wanted: int | None = 3000, **fields: Any) -> Any:
    return answered(input_tokens=counted, wanted_input=wanted, **fields)


def test_prompts_that_the_server_cut_are_named_with_both_lengths() -> None:
    assert told(*[made(256)] * 3) == [
        "The server counted on average 256 input tokens for all 3 answers, whose prompts have about 3,000; it probably "
        "cut them, as Ollama does without an error if they exceed the context of the model"
    ]
    assert told(made(3010), made(3010), made(1700), made(1500))[0].startswith(
        "The server counted on average 1,600 input tokens for 2 of 4 answers, whose prompts have about 3,000;"
    )


def test_other_tokenizers_templates_and_unknown_counts_are_no_cut_prompts() -> None:
    assert not told(made(2400), made(3300), made(3, wanted=5), made(0, has_usage=True), made(7, wanted=None), failed())
    assert not told(*[made(3000)] * 19, made(256))


def judged_with(samples: list[Any], *objectives: str) -> Summary:
    document = msgspec.structs.replace(document_of(*objectives), synthetic=RunSynthetic(3000, 500))
    return summarize(measure(samples, document), document)


@pytest.mark.parametrize("objectives", [("ttft:p95=1s",), ("request_latency:p50=1s", "attainment=90%")])
def test_objectives_about_the_time_for_prompts_are_not_met_with_prompts_that_the_server_cut(
    objectives: tuple[str, ...],
) -> None:
    summary = judged_with([made(3000)] * 18 + [made(256)] * 2, *objectives)
    assert (summary.verdict, summary.reason) == (Verdict.INVALID, VerdictReason.NOT_MEASURED)
    assert "met with shorter prompts than those of the document. The server counted on average 256" in summary.message
    assert judged_with([made(3000)] * 19 + [made(256)], *objectives).verdict is Verdict.PASSED


def test_other_objectives_are_judged_and_cut_prompts_are_told() -> None:
    summary = judged_with([made(256)] * 20, "tpot:p95=1s", "error_rate=1%")
    assert summary.verdict is Verdict.PASSED
    assert "it probably cut them" in summary.message
    assert judged_with([made(256)] * 20, "ttft:p95=1ms").verdict is Verdict.FAILED


def test_a_verdict_tells_prompts_that_the_run_itself_made_shorter() -> None:
    summary = judged_with([made(250, wanted=255, is_cut=True)] * 20, "ttft:p95=1s")
    assert summary.verdict is Verdict.PASSED
    assert "The input of 20 of 20 requests was cut to fit into the context of the model (num_ctx)" in summary.message


def test_answers_that_are_far_shorter_than_asked_for_are_told() -> None:
    assert told(*[made(3000, tokens=2, wanted_output=500)] * 3) == [
        "The answers have 0.4% of the output tokens that the run asked for: a model stops when it has said everything, "
        "and the load would be higher with longer answers"
    ]
    assert not told(*[made(3000, tokens=300, wanted_output=500)] * 3)


def test_the_limit_of_the_run_counts_and_not_that_of_the_prompt() -> None:
    short = [made(3000, tokens=9, wanted_output=500)]
    limited = msgspec.structs.replace(SYNTHETIC, request=RunRequest(max_tokens=10))
    assert not told(*short, document=limited)
    assert not told(*short, document=msgspec.structs.replace(SYNTHETIC, request=RunRequest(options={"num_predict": 9})))


def test_synthetic_prompts_that_were_made_shorter_are_told() -> None:
    assert told(made(250, wanted=255, is_cut=True), made(100, wanted=101)) == [
        "The input of 1 of 2 requests was cut to fit into the context of the model (num_ctx), so the load was not that "
        "of the run document"
    ]


def test_answers_with_one_token_are_told_beside_the_tpot_of_the_others() -> None:
    summary = run([answered(tokens=1)] * 3 + [answered(is_spread=False)] + [answered()] * 2)
    assert [sentence for sentence in summary.unknown if "one token" in sentence] == [
        "TPOT does not exist for 3 of 6 answers, which have only one token: its percentiles are those of 2 answers"
    ]


def test_answers_with_one_token_are_told_if_an_objective_needs_their_tpot() -> None:
    summary = run([answered(tokens=1)] * 20, "tpot:p95=50ms")
    assert "TPOT does not exist for all 20 answers, which have only one token" in summary.unknown


def conversations(*samples: Any, turns: int | None = None) -> list[str]:
    """Return the sentences about conversations."""
    document = document_of(sessions=RunSessions(3, turns))
    unknown = summarize(measure(samples, document), document).unknown
    return [sentence for sentence in unknown if "turn" in sentence]


def test_a_run_of_conversations_says_which_questions_it_leaves_out() -> None:
    assert conversations(answered(), answered(turn=1)) == [
        "Questions without turns were not asked, because the load is one of conversations"
    ]


def test_a_run_without_a_second_turn_says_so() -> None:
    assert conversations(answered(), answered()) == [
        "No conversation had a second turn: the questions have no turns, or the run was too short"
    ]
    assert not conversations(answered(), turns=1)
