"""Reads one question file, and names the line and the reason of everything that is wrong with it.

    category: Coding
    questions:
      - id: coding-001
        prompt: Write a Python function that merges two sorted lists.
        system: You are a careful programmer.       # optional, like all that follow
        turns: [Now make it stable.]
        maxTokens: 128
        tags: [short]
        expect: "def "

The YAML is composed into nodes, which have line numbers, and never constructed into objects. The depth is checked
before that, because the composer is recursive. Aliases are refused: a few lines of them can stand for gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import yaml

from llmendpoint_common.contracts.loadrun import LINE_PATTERN, MAX_CATEGORY_LENGTH
from llmendpoint_common.process.errors import QuestionError
from llmendpoint_loadjob.dataset.expectation import Expectation

MAX_DEPTH = 8
MAX_TURNS = 64
MAX_TAGS = 32
MAX_TOKENS = 1_000_000
#: An ID is in every line of the results.
MAX_ID_LENGTH = 64
MAX_ERRORS = 100
_QUOTED_CHARS = 60
_REQUIRED = ("id", "prompt")
_OPTIONAL = ("expect", "maxTokens", "system", "tags", "turns")
_ID = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_WHOLE = re.compile(r"[1-9][0-9]{0,6}")
# Not allowed in YAML, https://yaml.org/spec/1.2.2/#51-character-set
_NOT_YAML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# libyaml's parser is about ten times as fast. It is missing where PyYAML was built without it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Question:
    """A question.

    `max_tokens` limits the response. `turns` are the further messages of the user in a conversation. `expect` is what a
    correct response matches; in a conversation it is about the last response.
    """

    id: str
    category: str
    prompt: str
    system: str | None = None
    max_tokens: int | None = None
    turns: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    expect: Expectation | None = None

    @property
    def words(self) -> int:
        """Number of words of all messages."""
        return sum(len(text.split()) for text in (self.system or "", self.prompt, *self.turns))


@dataclass
class ParsedFile:
    """Questions of a file, their lines, and its errors, of which there are at most MAX_ERRORS."""

    questions: list[Question] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    errors: list[QuestionError] = field(default_factory=list)


def parse_file(data: bytes, file: str) -> ParsedFile:
    """Return the questions and errors of a file. `file` is its name for errors. Raises nothing."""
    reader = _Reader(file)
    parsed = ParsedFile(errors=reader.errors)
    root = reader.attempt(lambda: _compose(_decoded(data, file), file))
    if root is not None:
        reader.attempt(lambda: _read_root(reader, root, parsed))
    del parsed.errors[MAX_ERRORS:]
    return parsed


def _decoded(data: bytes, file: str) -> str:
    try:
        # Editors on Windows write a byte-order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line_at(data[: error.start].decode("utf-8", "replace"))
        raise QuestionError(file, line, f"byte 0x{data[error.start]:02x} is not valid UTF-8") from None
    found = _NOT_YAML.search(text)
    if found:
        line = _line_at(text[: found.start()])
        raise QuestionError(file, line, f"the file is not valid YAML: character U+{ord(found[0]):04X} is not allowed")
    return text


def _line_at(before: str) -> int:
    return len(re.findall("\r\n|\r|\n", before)) + 1


def _compose(text: str, file: str) -> yaml.Node:
    try:
        _check_nesting(text, file)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "unknown error"
        raise QuestionError(file, mark.line + 1 if mark else 0, f"the file is not valid YAML: {reason}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise QuestionError(file, 0, f"the file is not valid YAML: {error}") from None
    if root is None:
        raise QuestionError(file, 1, "the file is empty; expected an object with the fields category, questions")
    return root


def _check_nesting(text: str, file: str) -> None:
    """Check the depth, and that there are no aliases, with the parser's events. The parser is not recursive."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            raise QuestionError(file, line, f"aliases such as *{event.anchor} are not supported; repeat the text")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise QuestionError(file, line, f"lists and objects are nested more than {MAX_DEPTH} levels deep")


def _read_root(reader: _Reader, root: yaml.Node, parsed: ParsedFile) -> None:
    fields = reader.mapping(root, required=("category", "questions"))
    category = reader.attempt(lambda: reader.category(fields["category"])) if "category" in fields else None
    items = fields.get("questions")
    if items is None:
        return
    if not isinstance(items, yaml.SequenceNode) or not items.value:
        raise reader.error(items, "questions must be a list with at least one question")
    ids: dict[str, int] = {}
    for item in items.value:
        question = reader.question(item, category or "")
        if question is None:
            continue
        line = _line(item)
        if question.id in ids:
            reader.add(item, f"id {question.id!r} occurs twice, first in line {ids[question.id]}")
            continue
        ids[question.id] = line
        if category is not None:
            parsed.questions.append(question)
            parsed.lines.append(line)


def _line(item: yaml.Node | yaml.Event) -> int:
    return int(item.start_mark.line) + 1 if item.start_mark else 1


class _Reader:
    """Checks YAML nodes and turns them into values. An error of a field does not hide those of other fields."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.errors: list[QuestionError] = []

    def error(self, node: yaml.Node, reason: str) -> QuestionError:
        return QuestionError(self._file, _line(node), reason)

    def add(self, node: yaml.Node, reason: str) -> None:
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(self.error(node, reason))

    def attempt(self, read: Callable[[], _T]) -> _T | None:
        """Return what `read` returns, or keep its error and return None."""
        try:
            return read()
        except QuestionError as error:
            if len(self.errors) < MAX_ERRORS:
                self.errors.append(error)
            return None

    def mapping(self, node: yaml.Node, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return the fields of an object. Fields that are unknown, repeated or missing are errors that are kept."""
        if not isinstance(node, yaml.MappingNode) or node.tag != "tag:yaml.org,2002:map":
            raise self.error(node, f"expected an object with the fields {', '.join(required)}")
        fields: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.add(key, "the name of a field must be a string, not a list or an object")
            elif key.value not in (*required, *optional):
                known = ", ".join(sorted((*required, *optional)))
                self.add(key, f"unknown field {_quoted(key.value)}; the fields are {known}")
            elif key.value in fields:
                self.add(key, f"field {key.value!r} occurs twice")
            else:
                fields[key.value] = value
        for name in required:
            if name not in fields:
                self.add(node, f"field {name!r} is missing")
        return fields

    def category(self, node: yaml.Node) -> str:
        """Return the name of a category, which has to fit into the result of a run."""
        name = self.text(node, "category")
        if len(name) > MAX_CATEGORY_LENGTH or not re.fullmatch(LINE_PATTERN, name):
            raise self.error(node, f"category must be one line of at most {MAX_CATEGORY_LENGTH} characters")
        return name

    def question(self, node: yaml.Node, category: str) -> Question | None:
        """Return a question, or None if it has an error, which is kept."""
        before = len(self.errors)
        fields = self.attempt(lambda: self.mapping(node, _REQUIRED, _OPTIONAL)) or {}
        values: dict[str, Any] = {}
        for name, value in fields.items():
            values[name] = self.attempt(partial(self._value, value, name))
        if len(self.errors) != before or len(values) < len(_REQUIRED):
            return None
        return Question(
            id=values["id"],
            category=category,
            prompt=values["prompt"],
            system=values.get("system"),
            max_tokens=values.get("maxTokens"),
            turns=values.get("turns", ()),
            tags=values.get("tags", ()),
            expect=values.get("expect"),
        )

    def _value(self, node: yaml.Node, name: str) -> Any:
        match name:
            case "id":
                return self._id(node)
            case "maxTokens":
                return self._number(node, name)
            case "turns":
                return self._texts(node, name, MAX_TURNS)
            case "tags":
                return self._texts(node, name, MAX_TAGS)
            case "expect":
                return self._expectation(node)
        return self.text(node, name)

    def _id(self, node: yaml.Node) -> str:
        identity = self.text(node, "id")
        if len(identity) > MAX_ID_LENGTH or not _ID.fullmatch(identity):
            raise self.error(
                node,
                f"id {_quoted(identity)} must contain only lowercase letters, digits and dashes, start and end with a "
                f"letter or digit, and have at most {MAX_ID_LENGTH} characters",
            )
        return identity

    def _expectation(self, node: yaml.Node) -> Expectation:
        pattern = self.text(node, "expect")
        try:
            return Expectation(pattern)
        except ValueError as error:
            raise self.error(node, f"expect is not a valid regular expression (RE2 syntax): {error}") from None

    def text(self, node: yaml.Node, name: str) -> str:
        """Return a string that is not empty."""
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            hint = "; put it in quotes" if isinstance(node, yaml.ScalarNode) and node.value else ""
            raise self.error(node, f"{name} must be a string that is not empty{hint}")
        if not node.value.strip():
            raise self.error(node, f"{name} must be a string that is not empty")
        found = _SURROGATE.search(node.value)
        if found:
            raise self.error(node, f"{name} contains U+{ord(found[0]):04X}, half of a character, which is not text")
        return str(node.value)

    def _texts(self, node: yaml.Node, name: str, longest: int) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, f"{name} must be a list of strings")
        if len(node.value) > longest:
            raise self.error(node, f"{name} has more than {longest} entries")
        return tuple(self.text(item, name) for item in node.value)

    def _number(self, node: yaml.Node, name: str) -> int:
        is_number = isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int"
        if not is_number or not _WHOLE.fullmatch(node.value) or int(node.value) > MAX_TOKENS:
            raise self.error(node, f"{name} must be a whole number from 1 to {MAX_TOKENS}")
        return int(node.value)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _QUOTED_CHARS else f"{text[:_QUOTED_CHARS]}…")
