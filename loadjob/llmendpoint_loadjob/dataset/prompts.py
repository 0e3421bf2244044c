"""Prompts: what one request asks, whether it comes from a question, is synthetic, or replays a trace."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import count

from llmendpoint_common.contracts.loadrun import Order
from llmendpoint_loadjob.dataset.expectation import Expectation
from llmendpoint_loadjob.dataset.questions import Question, of_categories
from llmendpoint_loadjob.dataset.synthetic import SyntheticSpec, Text
from llmendpoint_loadjob.dataset.traces import TraceRequest

SYNTHETIC = "Synthetic"
TRACE = "Trace"
#: The lowest share of ASCII characters in a question whose words are used. Measured: decision 37.
_MIN_ASCII = 0.99


@dataclass(frozen=True)
class Prompt:
    """What one request asks.

    `messages` are pairs of role and content; the system message, if there is one, is the first. `follow_ups` are the
    further messages of the user in a conversation, of which each is sent after the response to the one before it.
    `expect` is about the response to the last message. `input_tokens` is how many tokens a text was made for, by the
    estimate of `synthetic`, and None if it was not made for a length. `is_cut` is whether its input would have exceeded
    the context of the model, so that it was made shorter.
    """

    id: str
    category: str
    messages: tuple[tuple[str, str], ...]
    max_tokens: int | None = None
    expect: Expectation | None = None
    follow_ups: tuple[str, ...] = ()
    input_tokens: int | None = None
    is_cut: bool = False


def matches(asked: Question | Prompt, text: str) -> bool | None:
    """Return whether a response matches `expect`, or None if there is no `expect`.

    `text` is the response to the last message: to the last of the follow-ups, if they are sent.
    """
    return None if asked.expect is None else asked.expect.search(text)


def prompt_of(question: Question) -> Prompt:
    """Return the prompt that asks a question."""
    system = (("system", question.system),) if question.system else ()
    return Prompt(
        id=question.id,
        category=question.category,
        messages=(*system, ("user", question.prompt)),
        max_tokens=question.max_tokens,
        expect=question.expect,
        follow_ups=question.turns,
    )


def prompts_of_questions(
    questions: Sequence[Question], categories: Sequence[str], order: Order, seed: int, *, prefer_turns: bool = False
) -> Iterator[Prompt]:
    """Return an endless iterator over the questions of some categories, or of all categories if the list is empty.

    When all questions have been asked, a new round starts. The seed determines the order of shuffled rounds, which
    differs between them. If `prefer_turns` is set and some of the questions have turns, the others are not asked.
    Raises ValueError if no question has one of the categories.
    """
    chosen = of_categories(questions, categories)
    if prefer_turns:
        chosen = [question for question in chosen if question.turns] or chosen
    wanted = [prompt_of(question) for question in chosen]
    return _rounds(wanted, is_shuffled=order is Order.SHUFFLED, seed=seed)


def _rounds(wanted: list[Prompt], *, is_shuffled: bool, seed: int) -> Iterator[Prompt]:
    order = random.Random(seed)  # noqa: S311 - has to be repeatable, not secret
    while True:
        if is_shuffled:
            order.shuffle(wanted)
        yield from wanted


def text_of_questions(questions: Sequence[Question]) -> Text:
    """Return the words of the prompts, for synthetic prompts and traces.

    Prompts that are not nearly all ASCII are left out, unless there are no others: tokenizers differ most in them.
    """
    plain = [question.prompt for question in questions if _share_of_ascii(question.prompt) >= _MIN_ASCII]
    return Text(plain or [question.prompt for question in questions])


def _share_of_ascii(text: str) -> float:
    return sum(map(str.isascii, text)) / len(text)


def prompts_of_synthetic(spec: SyntheticSpec, text: Text, seed: int, max_tokens: int | None = None) -> Iterator[Prompt]:
    """Return an endless iterator over prompts of the wanted lengths. No two of them begin alike.

    If `max_tokens`, the context of the model, is set, prompts are cut so that input and output fit into it together.
    """
    return (synthetic_prompt(spec, text, seed, index, max_tokens) for index in count())


def synthetic_prompt(spec: SyntheticSpec, text: Text, seed: int, index: int, max_tokens: int | None = None) -> Prompt:
    """Return the prompt with a number. It depends on nothing but the arguments."""
    chooser = random.Random(f"{seed}/{index}")  # noqa: S311 - has to be repeatable, not secret
    wanted, output_tokens = spec.lengths(chooser)
    input_tokens = wanted
    if max_tokens is not None:
        output_tokens = None if output_tokens is None else min(output_tokens, max(1, max_tokens - 1))
        input_tokens = max(1, min(wanted, max_tokens - (output_tokens or 1)))
    content = text.passage(f"synthetic/{seed}/{index}", input_tokens)
    return Prompt(
        f"synthetic-{index}",
        SYNTHETIC,
        (("user", content),),
        output_tokens,
        input_tokens=input_tokens,
        is_cut=input_tokens < wanted,
    )


class TraceReplay:
    """Prompts of a trace, as pairs of the offset from the start in seconds and the prompt.

    Equal blocks give equal text, so that the server's prefix cache sees what it saw in production. Requests that have
    no blocks begin with a text of their own. If `max_tokens`, the context of the model, is set, requests are cut so
    that input and output fit into it together.
    """

    def __init__(self, requests: Iterable[TraceRequest], text: Text, seed: int, max_tokens: int | None = None) -> None:
        self._requests = requests
        self._text = text
        self._seed = seed
        self._max_tokens = max_tokens

    def __iter__(self) -> Iterator[tuple[float, Prompt]]:
        for index, request in enumerate(self._requests):
            cut = request if self._max_tokens is None else request.within(self._max_tokens)
            yield request.offset_seconds, self._prompt(cut, index, is_cut=cut != request)

    def _prompt(self, request: TraceRequest, index: int, *, is_cut: bool) -> Prompt:
        parts = [
            self._text.passage(f"block/{self._seed}/{block}", tokens) for block, tokens in request.blocks_with_lengths()
        ]
        rest = request.input_tokens - request.tokens_in_blocks
        if rest > 0:
            parts.append(self._text.passage(f"trace/{self._seed}/{index}", rest))
        content = " ".join(parts)
        return Prompt(
            f"trace-{index}",
            TRACE,
            (("user", content),),
            max(1, request.output_tokens),
            input_tokens=request.input_tokens,
            is_cut=is_cut,
        )


def prompts_of_trace(
    requests: Iterable[TraceRequest], text: Text, seed: int, max_tokens: int | None = None
) -> TraceReplay:
    """Return the prompts of a trace with their offsets. `TraceReplay` describes the parameters."""
    return TraceReplay(requests, text, seed, max_tokens)


def with_unique_prefix(prompt: Prompt, seed: int, index: int, run: str = "") -> Prompt:
    """Return the prompt behind a few words that no other request begins with, which defeats the server's prefix cache.

    The words stand at the start of the first message, which is the system message if there is one. They depend on the
    seed, the number of the request and `run`. Pass the ID of the run: otherwise a second run with the same seed sends
    what the cache still has from the first.
    """
    token = blake2b(f"{run}/{seed}/{index}".encode(), digest_size=8).hexdigest()
    (role, content), *others = prompt.messages
    return replace(prompt, messages=((role, f"[{token}] {content}"), *others))
