"""Question files: YAML with one category per file. Errors name the file, the line and the reason."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llmendpoint_common.contracts.loadrun import LINE_PATTERN, MAX_CATEGORIES, MAX_CATEGORY_LENGTH
from llmendpoint_common.process.errors import QuestionError

MAX_FILE_BYTES = 200 * 1024
_ID = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True)
class Question:
    """A question.

    `max_tokens` limits the response, and `expect` is a regular expression that a correct response matches.
    """

    id: str
    category: str
    prompt: str
    system: str | None = None
    max_tokens: int | None = None
    turns: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    expect: str | None = None


def shipped_questions() -> Path:
    """Return the folder of the shipped questions: in the installed package, or at the root of a source tree."""
    packaged = Path(__file__).parents[1] / "data" / "questions"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "questions"


def read_questions(folder: Path) -> list[Question]:
    """Return the questions of all YAML files in a folder, in the order of the file names.

    Raises QuestionError if a file is invalid, if there are no files, if an ID occurs in two files, or if there are too
    many categories.
    """
    files = sorted(path for pattern in ("*.yaml", "*.yml") for path in folder.glob(pattern))
    if not files:
        raise QuestionError(str(folder), 0, "the folder has no question files (*.yaml)")
    questions: list[Question] = []
    seen: dict[str, str] = {}
    for path in files:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise QuestionError(str(path), 0, f"the file is larger than {MAX_FILE_BYTES // 1024} KiB; split it")
        for question in parse_questions(path.read_text(encoding="utf-8"), str(path)):
            if question.id in seen:
                raise QuestionError(str(path), 0, f"id {question.id!r} is also in {seen[question.id]}")
            seen[question.id] = str(path)
            questions.append(question)
    if len({question.category for question in questions}) > MAX_CATEGORIES:
        raise QuestionError(str(folder), 0, f"the folder has more than {MAX_CATEGORIES} categories")
    return questions


def parse_questions(text: str, file: str) -> list[Question]:
    """Return the questions in the text of one file. `file` is its name for errors."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise QuestionError(file, line, f"the file is not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise QuestionError(file, 0, f"the file is not valid YAML: {error}") from error
    reader = _Reader(file)
    fields = reader.mapping(root, {"category", "questions"}, required={"category", "questions"})
    category = reader.category(fields["category"])
    items = fields["questions"]
    if not isinstance(items, yaml.SequenceNode) or not items.value:
        raise reader.error(items, "questions must be a list with at least one question")
    questions = [reader.question(item, category) for item in items.value]
    ids: set[str] = set()
    for question, item in zip(questions, items.value, strict=True):
        if question.id in ids:
            raise reader.error(item, f"id {question.id!r} occurs twice")
        ids.add(question.id)
    return questions


def choose(
    questions: Sequence[Question], categories: Sequence[str], *, shuffled: bool, seed: int
) -> Iterator[Question]:
    """Return an endless iterator over the questions of some categories, or of all categories if the list is empty.

    When all questions have been asked, a new round starts. If `shuffled`, the seed determines the order, which differs
    between rounds. Raises ValueError if no question has one of the categories.
    """
    wanted = [question for question in questions if not categories or question.category in categories]
    if not wanted:
        known = ", ".join(sorted({question.category for question in questions}))
        raise ValueError(f"no question has the category {' or '.join(categories)}; the categories are {known}")
    return _rounds(wanted, shuffled=shuffled, seed=seed)


def _rounds(wanted: list[Question], *, shuffled: bool, seed: int) -> Iterator[Question]:
    order = random.Random(seed)  # noqa: S311 - has to be repeatable, not secret
    while True:
        if shuffled:
            order.shuffle(wanted)
        yield from wanted


class _Reader:
    """Checks YAML nodes, which carry their line numbers, and turns them into values."""

    def __init__(self, file: str) -> None:
        self._file = file

    def error(self, node: Any, reason: str) -> QuestionError:
        return QuestionError(self._file, node.start_mark.line + 1 if node is not None else 1, reason)

    def mapping(self, node: Any, allowed: set[str], required: set[str]) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"expected an object with the fields {', '.join(sorted(required))}")
        fields: dict[str, Any] = {}
        for key, value in node.value:
            if key.value not in allowed:
                raise self.error(key, f"unknown field {key.value!r}; the fields are {', '.join(sorted(allowed))}")
            if key.value in fields:
                raise self.error(key, f"field {key.value!r} occurs twice")
            fields[key.value] = value
        missing = required - fields.keys()
        if missing:
            raise self.error(node, f"field {sorted(missing)[0]!r} is missing")
        return fields

    def category(self, node: Any) -> str:
        """Return the name of a category, which has to fit into the result of a run."""
        name = self.text(node, "category")
        if len(name) > MAX_CATEGORY_LENGTH or not re.fullmatch(LINE_PATTERN, name):
            raise self.error(node, f"category must be one line of at most {MAX_CATEGORY_LENGTH} characters")
        return name

    def question(self, node: Any, category: str) -> Question:
        allowed = {"id", "prompt", "system", "maxTokens", "turns", "tags", "expect"}
        fields = self.mapping(node, allowed, required={"id", "prompt"})
        identity = self.text(fields["id"], "id")
        if not _ID.fullmatch(identity):
            raise self.error(
                fields["id"],
                f"id {identity!r} must contain only lowercase letters, digits and dashes, and start and end with a "
                "letter or digit",
            )
        expect = self.text(fields["expect"], "expect") if "expect" in fields else None
        if expect is not None:
            try:
                re.compile(expect)
            except re.error as error:
                raise self.error(fields["expect"], f"expect is not a valid regular expression: {error}") from error
        return Question(
            id=identity,
            category=category,
            prompt=self.text(fields["prompt"], "prompt"),
            system=self.text(fields["system"], "system") if "system" in fields else None,
            max_tokens=self.number(fields["maxTokens"], "maxTokens") if "maxTokens" in fields else None,
            turns=self.texts(fields.get("turns"), "turns"),
            tags=self.texts(fields.get("tags"), "tags"),
            expect=expect,
        )

    def text(self, node: Any, name: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str" or not node.value.strip():
            raise self.error(node, f"{name} must be a string that is not empty")
        return str(node.value)

    def texts(self, node: Any, name: str) -> tuple[str, ...]:
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, f"{name} must be a list of strings")
        return tuple(self.text(item, name) for item in node.value)

    def number(self, node: Any, name: str) -> int:
        if not isinstance(node, yaml.ScalarNode) or not node.value.isdigit() or int(node.value) < 1:
            raise self.error(node, f"{name} must be a whole number of at least 1")
        return int(node.value)
