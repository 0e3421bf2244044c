"""Synthetic prompts: their lengths, their spread, and that equal names give equal text."""

from __future__ import annotations

import statistics
from itertools import islice

import pytest

from llmendpoint_loadjob.dataset.prompts import (
    Prompt,
    prompts_of_synthetic,
    synthetic_prompt,
    text_of_questions,
    with_unique_prefix,
)
from llmendpoint_loadjob.dataset.question_file import Question
from llmendpoint_loadjob.dataset.questions import read_questions, shipped_questions
from llmendpoint_loadjob.dataset.synthetic import SyntheticSpec, Text, estimated_tokens


@pytest.fixture(scope="module")
def text() -> Text:
    return text_of_questions(read_questions(shipped_questions()))


def tokens(prompt: str) -> int:
    return sum(map(estimated_tokens, prompt.split()))


@pytest.mark.parametrize("wanted", [1, 5, 100, 2_000, 200_000])
def test_a_passage_has_the_wanted_tokens(text: Text, wanted: int) -> None:
    for index in range(5):
        assert tokens(text.passage(str(index), wanted)) == pytest.approx(wanted, rel=0.02, abs=20)


def test_a_shorter_passage_of_the_same_name_is_the_beginning_of_a_longer_one(text: Text) -> None:
    longest = text.passage("a", 150_000)
    for wanted in (1, 2, 3, 4, 20, 500, 40_000):
        assert longest.startswith(text.passage("a", wanted))


def test_passages_of_different_names_differ_from_the_first_words_on(text: Text) -> None:
    begins = [" ".join(text.passage(str(index), 100).split()[:3]) for index in range(2_000)]
    assert len(set(begins)) == len(begins)


def test_a_few_words_are_enough_to_make_prompts_of_any_length() -> None:
    assert tokens(Text(["Grüße an alle"]).passage("a", 1_000)) == pytest.approx(1_000, rel=0.01)
    with pytest.raises(ValueError, match="no words"):
        Text(["", " \n"])


def test_the_words_of_other_scripts_are_used_only_if_there_are_no_others() -> None:
    english, japanese = Question("a", "X", "plain words"), Question("b", "X", "日本の四季")
    assert set(text_of_questions([english, japanese]).passage("a", 50).split()) == {"plain", "words"}
    assert set(text_of_questions([japanese]).passage("a", 50).split()) == {"日本の四季"}


def test_lengths_are_spread_evenly_around_the_mean(text: Text) -> None:
    spec = SyntheticSpec(200, 50, input_spread=0.5, output_spread=0.2)
    prompts = list(islice(prompts_of_synthetic(spec, text, 1), 1_000))
    inputs = [tokens(prompt.messages[0][1]) for prompt in prompts]
    outputs = [prompt.max_tokens or 0 for prompt in prompts]
    assert statistics.mean(inputs) == pytest.approx(200, rel=0.03)
    assert min(inputs) == pytest.approx(100, abs=20)
    assert max(inputs) == pytest.approx(300, abs=20)
    assert (min(outputs), max(outputs)) == (40, 60)
    assert {prompt.category for prompt in prompts} == {"Synthetic"}
    assert len({prompt.id for prompt in prompts}) == 1_000


def test_without_spread_each_prompt_has_the_mean_length(text: Text) -> None:
    prompts = list(islice(prompts_of_synthetic(SyntheticSpec(300), text, 1), 20))
    assert all(tokens(prompt.messages[0][1]) == pytest.approx(300, abs=20) for prompt in prompts)
    assert {prompt.max_tokens for prompt in prompts} == {None}
    assert len({prompt.messages for prompt in prompts}) == 20


def test_prompts_that_exceed_the_context_are_cut_and_marked(text: Text) -> None:
    spec = SyntheticSpec(300, 50, input_spread=0.5)
    prompts = list(islice(prompts_of_synthetic(spec, text, 1, max_tokens=350), 200))
    wanted = list(islice(prompts_of_synthetic(spec, text, 1), 200))
    assert {prompt.max_tokens for prompt in prompts} == {50}
    for prompt, whole in zip(prompts, wanted, strict=True):
        assert whole.input_tokens is not None
        assert prompt.is_cut == (whole.input_tokens > 300)
        assert prompt.input_tokens == min(whole.input_tokens, 300)
        assert tokens(prompt.messages[0][1]) == pytest.approx(prompt.input_tokens, abs=20)


def test_an_answer_that_fills_the_context_leaves_one_token_of_input(text: Text) -> None:
    prompt = next(prompts_of_synthetic(SyntheticSpec(300, 500), text, 1, max_tokens=256))
    assert (prompt.input_tokens, prompt.max_tokens, prompt.is_cut) == (1, 255, True)
    assert next(prompts_of_synthetic(SyntheticSpec(300), text, 1, max_tokens=256)).input_tokens == 255


def test_the_same_seed_makes_the_same_prompts(text: Text) -> None:
    spec = SyntheticSpec(50, 10, input_spread=0.9)
    first, again, other = (list(islice(prompts_of_synthetic(spec, text, seed), 20)) for seed in (1, 1, 2))
    assert first == again
    assert not {prompt.messages for prompt in first} & {prompt.messages for prompt in other}
    # Several pods make their own prompts of one schedule, without those of the others.
    assert first[7] == synthetic_prompt(spec, text, 1, 7)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"input_tokens": 0}, "input tokens must be from 1"),
        ({"input_tokens": 10**9}, "input tokens must be from 1"),
        ({"input_tokens": 1, "output_tokens": 0}, "output tokens must be from 1"),
        ({"input_tokens": 1, "input_spread": 1.0}, "input spread must be at least 0 and less than 1"),
        ({"input_tokens": 1, "output_spread": -0.1}, "output spread must be at least 0 and less than 1"),
        ({"input_tokens": 1, "output_spread": float("nan")}, "output spread must be at least 0 and less than 1"),
    ],
)
def test_lengths_out_of_bounds_are_refused(fields: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SyntheticSpec(**fields)  # type: ignore[arg-type]


# The prefix that defeats a server's prefix cache


@pytest.mark.parametrize("messages", [(("user", "p"),), (("system", "s"), ("user", "p"))])
def test_a_unique_prefix_stands_before_everything_else(messages: tuple[tuple[str, str], ...]) -> None:
    prompt = Prompt("a", "X", messages, 5, follow_ups=("t",))
    prefixed = [with_unique_prefix(prompt, 1, index) for index in range(1_000)]
    (role, content), *others = prefixed[0].messages
    assert role == messages[0][0]
    assert content.endswith(messages[0][1])
    assert tuple(others) == messages[1:]
    assert (prefixed[0].id, prefixed[0].max_tokens, prefixed[0].follow_ups) == ("a", 5, ("t",))
    assert len({one.messages[0][1][:18] for one in prefixed}) == 1_000


def test_a_unique_prefix_is_repeatable_within_a_run_and_differs_between_runs() -> None:
    prompt = Prompt("a", "X", (("user", "p"),))
    assert with_unique_prefix(prompt, 1, 2, "run-1") == with_unique_prefix(prompt, 1, 2, "run-1")
    assert with_unique_prefix(prompt, 1, 2, "run-1") != with_unique_prefix(prompt, 1, 2, "run-2")
    assert with_unique_prefix(prompt, 1, 2) != with_unique_prefix(prompt, 2, 2)
