"""Questions: YAML files with one category per file. `question_file` describes the format and reads one file."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import MAX_CATEGORIES
from llmendpoint_common.process.errors import QuestionError
from llmendpoint_loadjob.dataset.files import read_regular
from llmendpoint_loadjob.dataset.question_file import ParsedFile, Question, parse_file

__all__ = ["Question", "categories", "of_categories", "parse_questions", "read_questions", "sample",
           "shipped_questions", "skipped", "validate"]  # fmt: skip

MAX_FILE_BYTES = 200 * 1024
MAX_FILES = 500
MAX_QUESTIONS = 20_000
_SUFFIXES = (".yaml", ".yml")
#: Suffixes of files that explain questions, of which nobody expects that they are read.
_NOTES = ("", ".md", ".txt")


class CategoryCount(NamedTuple):
    """Number of questions of a category, of those with `turns`, of those with `expect`, and words of all messages."""

    name: str
    questions: int
    with_turns: int
    with_expect: int
    words: int


def shipped_questions() -> Path:
    """Return the folder of the shipped questions: in the installed package, or at the root of a source tree."""
    packaged = Path(__file__).parents[1] / "data" / "questions"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "questions"


def read_questions(*folders: Path) -> list[Question]:
    """Return the questions of folders and of the folders directly in them, in the order of the file names.

    Names that begin with a dot are skipped: the volume of a ConfigMap keeps its versions in such folders. A folder that
    occurs twice is read once, and it can also be one file. Raises QuestionError with the first error that `validate`
    returns.
    """
    questions, errors = _read(dict.fromkeys(folders))
    if errors:
        raise errors[0]
    return questions


def validate(paths: Iterable[Path]) -> list[QuestionError]:
    """Return all errors of question files and folders of question files. They are those of one run, which reads all."""
    return _read(paths)[1]


def skipped(paths: Iterable[Path]) -> list[str]:
    """Return a sentence for each file in folders of question files that is not read because of its name."""
    found: list[Path] = []
    for path in paths:
        with contextlib.suppress(OSError):
            found += [file for file in _entries(path) if not _is_read(file) and file.is_file()]
    return [
        f"{shown(file)}: the file is skipped, because its name does not end in .yaml or .yml"
        for file in found
        if file.suffix.lower() not in _NOTES
    ]


def parse_questions(text: str, file: str) -> list[Question]:
    """Return the questions in the text of one file. `file` is its name for errors. Raises the first QuestionError."""
    parsed = parse_file(text.encode("utf-8", "surrogatepass"), file)
    if parsed.errors:
        raise parsed.errors[0]
    return parsed.questions


def categories(questions: Iterable[Question]) -> list[CategoryCount]:
    """Return the number of questions by category, in the order of the names."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.category, []).append(question)
    return [
        CategoryCount(
            name=name,
            questions=len(group),
            with_turns=sum(bool(question.turns) for question in group),
            with_expect=sum(question.expect is not None for question in group),
            words=sum(question.words for question in group),
        )
        for name, group in sorted(groups.items())
    ]


def sample(questions: Sequence[Question], category: str | None, count: int, seed: int) -> list[Question]:
    """Return questions that the seed picks from a category, or from all, in the order in which they are given.

    Raises ValueError if no question has the category. There are fewer than `count` if the category has fewer.
    """
    wanted = of_categories(questions, [] if category is None else [category])
    picked = random.Random(seed).sample(range(len(wanted)), max(0, min(count, len(wanted))))  # noqa: S311 - repeatable
    return [wanted[index] for index in sorted(picked)]


def of_categories(questions: Sequence[Question], names: Sequence[str]) -> list[Question]:
    """Return the questions of some categories, or all if the list is empty.

    Raises ValueError if one of the categories has no question.
    """
    known = {question.category for question in questions}
    missing = [name for name in names if name not in known]
    if missing or not questions:
        there = f"; the categories are {', '.join(sorted(known))}" if known else ""
        raise ValueError(f"no question has the category {' or '.join(missing) or 'that is wanted'}{there}")
    return [question for question in questions if not names or question.category in names]


class _Collected:
    """Questions and errors of several files, and where each ID was first."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.errors: list[QuestionError] = []
        self._categories: set[str] = set()
        self._seen: dict[str, str] = {}

    def add(self, parsed: ParsedFile, file: str) -> None:
        self.errors.extend(parsed.errors)
        for question, line in zip(parsed.questions, parsed.lines, strict=True):
            first = self._seen.setdefault(question.id, file)
            if first != file:
                self.errors.append(QuestionError(file, line, f"id {question.id!r} is also in {first}"))
            self._categories.add(question.category)
            self.questions.append(question)

    def check_size(self, folder: str) -> None:
        """Add an error if there are more categories or questions than a run can have."""
        if len(self._categories) > MAX_CATEGORIES:
            self.errors.append(QuestionError(folder, 0, f"there are more than {MAX_CATEGORIES} categories"))
        if len(self.questions) > MAX_QUESTIONS:
            self.errors.append(QuestionError(folder, 0, f"there are more than {MAX_QUESTIONS} questions"))


def _read(paths: Iterable[Path]) -> tuple[list[Question], list[QuestionError]]:
    collected = _Collected()
    name = ""
    for path in paths:
        name = shown(path)
        try:
            files = _files_of(path)
        except QuestionError as error:
            collected.errors.append(error)
            continue
        for file in files:
            _add_file(collected, file)
    collected.check_size(name)
    return collected.questions, collected.errors


def _add_file(collected: _Collected, path: Path) -> None:
    name = shown(path)
    try:
        data = read_regular(path, MAX_FILE_BYTES, partial(QuestionError, name))
    except QuestionError as error:
        collected.errors.append(error)
    else:
        collected.add(parse_file(data, name), name)


def _files_of(path: Path) -> list[Path]:
    """Return the question files of a folder, or the file itself if it is not a folder."""
    if not path.is_dir():
        return [path]
    try:
        files = [file for file in _entries(path) if _is_read(file)]
    except OSError as error:
        raise QuestionError(shown(path), 0, f"the folder cannot be read: {error.strerror}") from None
    if not files:
        raise QuestionError(shown(path), 0, "the folder has no question files (*.yaml)")
    if len(files) > MAX_FILES:
        raise QuestionError(shown(path), 0, f"the folder has more than {MAX_FILES} question files")
    return files


def _is_read(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES


def _entries(folder: Path) -> list[Path]:
    """Return the entries of a folder, and, instead of the folders in it, their entries. A file has none."""
    if not folder.is_dir():
        return []
    return [file for entry in _visible(folder) for file in (_visible(entry) if entry.is_dir() else [entry])]


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def shown(path: Path) -> str:
    """Return a path as text that can be printed, also if its name is not valid UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()
