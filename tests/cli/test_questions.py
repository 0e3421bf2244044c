"""`llmendpoint questions`: lists, checks and samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmendpoint_cli.main import main

VALID = "category: Own\nquestions:\n  - {id: one, prompt: What is one?}\n  - {id: two, prompt: What is two?, turns: [And three?]}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(VALID)
    return tmp_path


def test_the_shipped_questions_are_listed_and_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["questions", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 11
    assert main(["questions", "validate"]) == 0
    assert capsys.readouterr().out == f"{sum(row['questions'] for row in rows)} questions are valid\n"


def test_one_valid_question_is_counted_in_the_singular(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own.yaml").write_text("category: Own\nquestions:\n  - {id: one, prompt: What is one?}\n")
    assert main(["questions", "validate", str(folder)]) == 0
    assert capsys.readouterr().out == "1 question is valid\n"


def test_own_questions_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["questions", "list", str(folder)]) == 0
    output = capsys.readouterr().out
    assert "Own" in output
    assert "2 questions in 1 categories" in output


def test_a_load_run_refuses_a_wrong_field_with_the_same_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMENDPOINT_STATE_DIR", str(folder / "state"))
    (folder / "a.yaml").write_text("category: A\nquestions:\n  - {id: x, prompt: y, maxtokens: 5}\n")
    assert main(["questions", "validate", str(folder)]) == 2
    sentence = capsys.readouterr().err
    assert "a.yaml:3: unknown field 'maxtokens'; the fields are" in sentence
    assert main(["load", "--model=m", f"--questions={folder}"]) == 2
    assert capsys.readouterr().err == f"llmendpoint load: {sentence}"


def test_every_error_is_printed_with_file_and_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text("category: A\nquestions:\n  - {id: X}\n")
    (folder / "b.yaml").write_text("[")
    assert main(["questions", "validate", str(folder)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith(f"{folder}/a.yaml:3: ") for line in lines)
    assert any(line.startswith(f"{folder}/b.yaml:") for line in lines)


def test_files_that_are_not_read_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "more.json").write_text("{}")
    assert main(["questions", "validate", str(folder)]) == 0
    output = capsys.readouterr()
    assert output.out == "2 questions are valid\n"
    assert output.err == f"{folder}/more.json: the file is skipped, because its name does not end in .yaml or .yml\n"


def test_questions_are_sampled_by_seed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["questions", "sample", "--count=2", "--seed=4", "--json"]) == 0
    first = capsys.readouterr().out
    assert main(["questions", "sample", "--count=2", "--seed=4", "--json"]) == 0
    assert capsys.readouterr().out == first
    assert len(json.loads(first)) == 2
    assert main(["questions", "sample", str(folder), "--count=9"]) == 0
    assert "then: And three?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sample", "--category=Nonsense"], "Nonsense"),
        (["sample", "/nowhere"], "/nowhere"),
        (["fly"], "'fly' is not a command; choose list, validate, sample"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["questions", *arguments]) == 2
    assert sentence in capsys.readouterr().err
