"""Prompts of a wanted length, in tokens, from the words of the questions.

The load generator has no tokenizer: each model has its own. Lengths are therefore words times a fixed ratio. For the
texts of the shipped questions, current tokenizers need 1.2 to 1.5 tokens per English word, punctuation included. What
the server counted is in the result of the run.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

TOKENS_PER_WORD = 1.35
#: Tokens of the words with which a passage begins, and of the chat template around a message.
_MARK_TOKENS = 12
MAX_TOKENS = 2_000_000


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


class Text:
    """The words that prompts of a wanted length are made of.

    Raises ValueError if `sources`, the texts that they are taken from, have none.
    """

    def __init__(self, sources: Iterable[str], tokens_per_word: float = TOKENS_PER_WORD) -> None:
        self._words = [word for source in sources for word in source.split()]
        self._tokens_per_word = tokens_per_word
        if not self._words:
            raise ValueError("there are no words to make prompts of")

    def passage(self, name: str, tokens: int) -> str:
        """Return a text of about so many tokens. Equal names give equal text, up to the shorter of two lengths.

        The first words say the name, so that passages with different names differ from the first words on.
        """
        digest = blake2b(name.encode(), digest_size=8).digest()
        mark = f"[{digest.hex()}]"
        wanted = max(0, round((tokens - _MARK_TOKENS) / self._tokens_per_word))
        start = int.from_bytes(digest, "big") % len(self._words)
        return " ".join([mark, *self._window(start, wanted)])

    def _window(self, start: int, length: int) -> list[str]:
        words = self._words[start : start + length]
        while len(words) < length:
            words += self._words[: length - len(words)]
        return words
