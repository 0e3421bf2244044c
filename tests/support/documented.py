"""Commands and queries in the code blocks of the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
#: The pages whose commands are checked.
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("docs/runbooks/*.md")])
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
# The operators that end a command in a shell: pipes, lists, the background, and redirections.
_OPERATORS = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<"})


class Command(NamedTuple):
    """A command of a page, without what follows a pipe or another operator of the shell."""

    page: Path
    line: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """The page and the command, for messages and IDs of tests."""
        return f"{self.page.stem}: {' '.join(self.words)}"


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """Yield the texts of the code blocks in one of these languages. A line that goes on with a backslash is one line."""
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["language"] in languages:
            yield re.sub(r"\\\n\s*", "", block["text"])


def lines(page: Path, *languages: str) -> Iterator[str]:
    """Yield the lines of the code blocks in one of these languages, without empty ones and comments."""
    for text in blocks(page, *languages):
        yield from (line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


def commands(program: str, pages: Sequence[Path] = PAGES) -> list[Command]:
    """Return the commands of a program. In a block of a console, a line with a command begins with `$ `."""
    found = []
    for page in pages:
        typed = (line.removeprefix("$ ") for line in lines(page, "console") if line.startswith("$ "))
        for line in (*lines(page, "sh"), *typed):
            found += [Command(page, line, words) for words in _parts(line) if words[0] == program]
    return found


def programs(line: str) -> set[str]:
    """Return the names of the programs in a line of a shell."""
    return {words[0] for words in _parts(line)}


def _parts(line: str) -> list[tuple[str, ...]]:
    """Return the words of each command in a line. Names of files after redirections are left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    operator = ""
    for word in lexer:
        if word in _OPERATORS:
            operator = word
            parts.append([])
        elif operator not in (">", ">>", "<") or parts[-1]:
            parts[-1].append(word)
        else:
            operator = ""
    return [tuple(part) for part in parts if part]
