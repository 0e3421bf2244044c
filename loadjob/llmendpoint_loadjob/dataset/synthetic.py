"""Prompts of a wanted length, in tokens, from the words of the questions.

The load generator has no tokenizer: each model has its own. It estimates the tokens of a word from its characters. For
passages of 500 tokens from the shipped questions, Mistral's tokenizer Tekken counts 1 % more than that, and its older
tokenizer of 32,000 tokens counts 5 % more, with a standard deviation of 3 %. These are 1.28 and 1.34 tokens per word.
What the server counted is in the result of the run.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

MAX_TOKENS = 2_000_000
#: Letters of the words of the mark, which tokenizers keep in one piece.
_MARK_LETTERS = range(3, 9)
_MARK_WORDS = 3


@dataclass(frozen=True)
class SyntheticSpec:
    """Lengths of the synthetic prompts and of their responses, in tokens.

    Lengths are distributed evenly between `mean * (1 - spread)` and `mean * (1 + spread)`, as with vLLM's
    `--random-range-ratio`. `output_tokens` is the limit of a response; None leaves it to the server. Raises ValueError
    if a value is out of its bounds.
    """

    input_tokens: int
    output_tokens: int | None = None
    input_spread: float = 0.0
    output_spread: float = 0.0

    def __post_init__(self) -> None:
        for name, tokens in (("input tokens", self.input_tokens), ("output tokens", self.output_tokens)):
            if tokens is not None and not 1 <= tokens <= MAX_TOKENS:
                raise ValueError(f"{name} must be from 1 to {MAX_TOKENS}, not {tokens}")
        for name, spread in (("input spread", self.input_spread), ("output spread", self.output_spread)):
            if not 0 <= spread < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, not {spread}")

    def lengths(self, chooser: random.Random) -> tuple[int, int | None]:
        """Return the input tokens and the limit of output tokens of one request."""
        output = None if self.output_tokens is None else _around(self.output_tokens, self.output_spread, chooser)
        return _around(self.input_tokens, self.input_spread, chooser), output


def _around(mean: int, spread: float, chooser: random.Random) -> int:
    return max(1, round(mean * (1 + spread * (2 * chooser.random() - 1))))


def estimated_tokens(word: str) -> int:
    """Return the estimated tokens of a word: one per 8 letters, and one per digit, sign and letter outside of ASCII."""
    letters = sum(char.isascii() and char.isalpha() for char in word)
    return -(-letters // 8) + len(word) - letters


class Text:
    """The words that prompts of a wanted length are made of.

    Raises ValueError if `sources`, the texts that they are taken from, have none.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self._words = [word for source in sources for word in source.split()]
        if not self._words:
            raise ValueError("there are no words to make prompts of")
        #: Estimated tokens of all words before an index.
        self._totals = list(accumulate(map(estimated_tokens, self._words), initial=0))
        plain = {word for word in self._words if word.isascii() and word.islower() and word.isalpha()}
        self._mark_words = sorted(word for word in plain if len(word) in _MARK_LETTERS) or self._words

    def passage(self, name: str, tokens: int) -> str:
        """Return a text of about so many tokens, at least one word.

        Equal names give equal text, up to the shorter of two lengths. The first words stand for the name, so that
        passages with different names differ from the beginning on.
        """
        seed = int.from_bytes(blake2b(name.encode(), digest_size=16).digest(), "big")
        mark = []
        for _ in range(min(tokens, _MARK_WORDS)):
            seed, index = divmod(seed, len(self._mark_words))
            mark.append(self._mark_words[index])
        rest = tokens - sum(map(estimated_tokens, mark))
        return " ".join([*mark, *self._window(seed % len(self._words), max(0, rest))])

    def _window(self, start: int, tokens: int) -> list[str]:
        """Return the words from an index on, which are repeated from the beginning as often as needed."""
        laps, rest = divmod(tokens, self._totals[-1])
        words = (self._words[start:] + self._words[:start]) * laps if laps else []
        end = self._totals[start] + rest
        if end <= self._totals[-1]:
            return words + self._words[start : bisect_left(self._totals, end)]
        return words + self._words[start:] + self._words[: bisect_left(self._totals, end - self._totals[-1])]
