"""Question files: the shipped files are complete, and an invalid file is rejected with file, line and reason."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from llmendpoint_common.process.errors import QuestionError
from llmendpoint_loadjob.dataset.questions import choose, parse_questions, read_questions, shipped_questions

CATEGORIES = (
    "Coding", "Creative", "Analysis", "Reasoning", "Math", "Science", "Humanities", "Summarization", "Extraction",
    "Roleplay", "Multilingual",
)  # fmt: skip


def test_eleven_categories_are_shipped_with_at_least_ten_questions_each() -> None:
    questions = read_questions(shipped_questions())
    for category in CATEGORIES:
        mine = [question for question in questions if question.category == category]
        assert len(mine) >= 10, category
        assert len({question.prompt for question in mine}) == len(mine)
    assert len({question.category for question in questions}) == 11


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("category: X\nquestions: []\n", 2, "at least one"),
        ("category: X\nquestions:\n  - id: a\n", 3, "'prompt' is missing"),
        ("category: X\nquestions:\n  - {id: a, prompt: p}\n  - {id: a, prompt: q}\n", 4, "occurs twice"),
        ("category: X\nquestions:\n  - {id: a, prompt: p, promt: q}\n", 3, "unknown field 'promt'"),
        ("category: X\nquestions:\n  - {id: A b, prompt: p}\n", 3, "lowercase letters"),
        ("category: X\nquestions:\n  - id: a\n    prompt: p\n    maxTokens: many\n", 5, "whole number"),
        ("category: X\nquestions:\n  - id: a\n    prompt: p\n    expect: '('\n", 5, "regular expression"),
        ("category: X\nquestions:\n  - id: a\n   prompt: p\n", 4, "not valid YAML"),
        (f"category: {'x' * 65}\nquestions:\n  - {{id: a, prompt: p}}\n", 1, "one line of at most 64 characters"),
        ('category: "a\\n"\nquestions:\n  - {id: a, prompt: p}\n', 1, "one line of at most 64 characters"),
        ("- just\n- a list\n", 1, "expected an object with the fields category, questions"),
        ("", 1, "expected an object with the fields category, questions"),
    ],
)
def test_a_wrong_file_is_refused_with_file_line_and_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(QuestionError, match=rf"^mine\.yaml:{line}: .*{reason}"):
        parse_questions(text, "mine.yaml")


def test_ids_are_unique_over_all_files(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("category: X\nquestions:\n  - {id: same, prompt: p}\n")
    with pytest.raises(QuestionError, match=r"'same' is also in .*a\.yaml"):
        read_questions(tmp_path)


def test_the_number_of_categories_has_a_limit(tmp_path: Path) -> None:
    for index in range(257):
        (tmp_path / f"{index}.yaml").write_text(f"category: C{index}\nquestions:\n  - {{id: q{index}, prompt: p}}\n")
    with pytest.raises(QuestionError, match="more than 256 categories"):
        read_questions(tmp_path)


def test_the_same_seed_asks_the_same_questions() -> None:
    questions = read_questions(shipped_questions())
    first, again, other = (
        [q.id for q in islice(choose(questions, ["Math"], shuffled=True, seed=seed), 40)] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert all(identity.startswith("math-") for identity in first)


def test_an_unknown_category_names_those_that_are_there() -> None:
    with pytest.raises(ValueError, match="the categories are Analysis, Coding"):
        choose(read_questions(shipped_questions()), ["Poetry"], shuffled=False, seed=1)
