"""Consoles for the result, on stdout, and for the progress, on stderr."""

from __future__ import annotations

import sys

from rich.console import Console


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
