"""Commands, queries and other code in the code blocks of the documentation."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
_LIST = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
#: All pages of the repository, also those that are generated.
PAGES = sorted(
    path
    for name in subprocess.check_output(_LIST, cwd=ROOT, text=True).split()
    if (path := ROOT / name).exists() and "testdata" not in path.parts
)
#: Languages of blocks with commands. In a console, a command begins with `$ `, and the other lines are output.
SHELLS = ("sh", "console", "bash", "shell")
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
# The operators that end a command in a shell: pipes, lists, the background, and redirections.
_OPERATORS = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "<<"})
#: Words of the shell before a command, and words that are no command.
_BEFORE = frozenset({"do", "then", "else", "!", "time"})
_SHELL_WORDS = frozenset({"for", "done", "if", "fi", "while", "cd", "export", "[", "echo"})
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_HERE_DOCUMENT = re.compile(r"<<'?(\w+)'?$")
_SUBSTITUTION = re.compile(r"\$\(([^()]+)\)")


class Command(NamedTuple):
    """A command of a page, without what follows a pipe or another operator of the shell. `number` is that of its line."""

    page: Path
    line: str
    words: tuple[str, ...]
    number: int = 0

    @property
    def name(self) -> str:
        """The page and the command, for messages and IDs of tests."""
        return f"{self.page.stem}: {' '.join(self.words)}"

    @property
    def place(self) -> str:
        """The file and the line, as compilers write them."""
        return f"{self.page.relative_to(ROOT)}:{self.number}"

    @property
    def program(self) -> str:
        """The name of the program, without its folder."""
        return Path(self.words[0]).name


class Block(NamedTuple):
    """A code block. Its text has no indentation, and `number` is the line of its first line of code."""

    page: Path
    language: str
    text: str
    number: int

    @property
    def place(self) -> str:
        """The file and the line, as compilers write them."""
        return f"{self.page.relative_to(ROOT)}:{self.number}"

    @property
    def script(self) -> list[tuple[int, str]]:
        """The lines that are typed, with their numbers. A line that a backslash continues is one line."""
        lines: list[tuple[int, str]] = []
        begun, marker = "", ""
        for number, line in enumerate(self.text.splitlines(), self.number):
            if marker:  # within a here-document
                marker = "" if line.strip() == marker else marker
                continue
            is_output = self.language == "console" and not line.startswith("$ ") and not begun
            if is_output or (not begun and (not line.strip() or line.strip().startswith("#"))):
                continue
            part = line if begun else line.removeprefix("$ ")
            start = lines.pop()[0] if begun else number
            text = begun + part.strip()
            begun = text[:-1] if text.endswith("\\") else ""
            marker = found[1] if (found := _HERE_DOCUMENT.search(text)) else ""
            lines.append((start, text))
        return lines


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield all code blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        code = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        yield Block(page, found["language"], code, text.count("\n", 0, found.start("text")) + 1)


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """Yield the texts of the code blocks in one of these languages. A line that a backslash continues is one line."""
    for block in blocks_of(page):
        if block.language in languages:
            yield re.sub(r"\\\n\s*", "", block.text)


def lines(page: Path, *languages: str) -> Iterator[str]:
    """Yield the lines of the code blocks in one of these languages, without empty ones and comments."""
    for text in blocks(page, *languages):
        yield from (line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


def all_commands(pages: Sequence[Path] = PAGES) -> list[Command]:
    """Return every command of every block of a shell, and those in command substitutions."""
    return [command for page in pages for block in blocks_of(page) for command in commands_of(block)]


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a block; none if it is not one of a shell."""
    if block.language not in SHELLS:
        return []
    found = []
    for number, line in block.script:
        texts = [line, *_SUBSTITUTION.findall(line)]
        found += [Command(block.page, line, words, number) for text in texts for words in _parts(text)]
    return found


def commands(program: str, pages: Sequence[Path] = PAGES) -> list[Command]:
    """Return the commands of a program, whatever folder it is called from."""
    return [command for command in all_commands(pages) if command.program == program]


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
        elif operator not in (">", ">>", "<", "<<") or parts[-1]:
            parts[-1].append(word)
        else:
            operator = ""
    return [words for part in parts if (words := _command(part))]


def _command(words: list[str]) -> tuple[str, ...]:
    """Return the words of a command without assignments and words of the shell, or an empty list without a command."""
    while words and (words[0] in _BEFORE or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    return () if not words or words[0] in _SHELL_WORDS else tuple(words)
