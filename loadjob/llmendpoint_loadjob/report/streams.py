"""Consoles for the result, on stdout, and for the progress, on stderr."""

from __future__ import annotations

import re
import sys

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text


class _Output(Console):
    """A console that ends its process with exit code 1 if its reader is gone, unless this method does otherwise."""

    def on_broken_pipe(self) -> None:
        """Pass on the error, which `tolerated_output` expects."""
        raise BrokenPipeError


def output_console() -> Console:
    """Return the console for the result, on stdout. Texts are never read as markup."""
    return _Output(file=sys.stdout, markup=False, highlight=False, emoji=False)


def progress_console() -> Console:
    """Return the console for the progress, on stderr, so that stdout has the result alone."""
    return _Output(file=sys.stderr, stderr=True, markup=False, highlight=False, emoji=False)


def print_sentence(console: Console, sentence: Text) -> None:
    """Print a sentence. A terminal shows it in lines that end between words; elsewhere, it is one line.

    A word that is longer than the width is not divided, so that a URL or a path can be copied.
    """
    begins = _begins_of_lines(sentence.plain, console.width) if console.is_terminal else []
    for line in sentence.divide(begins):
        line.rstrip()
        console.print(line, soft_wrap=True)


def _begins_of_lines(sentence: str, width: int) -> list[int]:
    """Return the offset of each line after the first. Rich is not used for this, because it divides long words."""
    begins: list[int] = []
    begin = 0
    for word in re.finditer(r"\S+", sentence):
        has_word = bool(sentence[begin : word.start()].strip())
        if has_word and cell_len(sentence[begin : word.end()]) > width:
            begin = word.start()
            begins.append(begin)
    return begins
