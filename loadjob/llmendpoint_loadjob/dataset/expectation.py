"""`expect` of a question: a regular expression that a correct response matches.

The syntax is RE2's, as in Prometheus and Go. RE2 needs a time that is linear in the length of the text, whatever the
expression and the text are. Python's `re` and `regex` need exponential time for an expression such as `(a+)+b`, and
quadratic time for `\\w+:` if a model repeats one letter without end. That would delay all other requests of the run.
RE2 has neither lookaround nor back references, and its `\\b`, `\\d` and `\\w` know only ASCII.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import re2

MAX_PATTERN_LENGTH = 1000
#: Characters of a response that are searched: the first and the last of them if it is longer.
MAX_SEARCHED_CHARS = 65_536


class Expectation:
    """A compiled expression. Raises ValueError, whose message is the reason, if the expression is invalid."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN_LENGTH:
            raise ValueError(f"the expression has more than {MAX_PATTERN_LENGTH} characters")
        self.pattern = pattern
        try:
            self._compiled  # noqa: B018 - compiles it
        except re2.error as error:
            raise ValueError(_text_of(error)) from None

    def search(self, text: str) -> bool:
        """Return whether the expression matches anywhere in a response."""
        if len(text) > MAX_SEARCHED_CHARS:
            half = MAX_SEARCHED_CHARS // 2
            text = f"{text[:half]}\n{text[-half:]}"
        # A model can answer with lone surrogates, which are not valid UTF-8.
        return self._compiled.search(text.encode("utf-8", "replace").decode()) is not None

    @cached_property
    def _compiled(self) -> Any:
        options = re2.Options()
        options.log_errors = False
        return re2.compile(self.pattern, options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expectation) and other.pattern == self.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"Expectation({self.pattern!r})"


def _text_of(error: Exception) -> str:
    message = error.args[0] if error.args else "unknown error"
    return message.decode(errors="replace") if isinstance(message, bytes) else str(message)
