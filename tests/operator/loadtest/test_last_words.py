"""What a LoadTest says if a load pod refuses one of its files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llmendpoint_operator.loadtest.last_words import plain

FOLDER = "/etc/llmendpoint"
QUESTION = "category: Mine\nquestions:\n  - {id: a, prompt: hello}\n"


def refused(folder: Path, *options: str) -> str:
    """Return what a load generator with the folder as `/etc/llmendpoint` writes before it ends."""
    command = [sys.executable, "-m", "llmendpoint_loadjob", "--model=m", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    return done.stderr.replace(str(folder), FOLDER)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (
            {"q.yaml": f"{QUESTION}    maxtokens: 5\n".replace("{id: a, prompt: hello}", "id: a\n    prompt: hello")},
            "ConfigMap mine, entry q.yaml, line 5: unknown field 'maxtokens'; the fields are expect, id, maxTokens, prompt, "
            "system, tags, turns. Correct it, and create another LoadTest.",
        ),
        (
            {"a.yaml": QUESTION, "b.yaml": QUESTION},
            "ConfigMap mine, entry b.yaml, line 3: id 'a' is also in ConfigMap mine, entry a.yaml. Correct it, and create "
            "another LoadTest.",
        ),
    ],
)
def test_a_wrong_question_file_is_an_entry_of_a_config_map(
    tmp_path: Path, entries: dict[str, str], sentence: str
) -> None:
    source = tmp_path / "questions/mine"
    source.mkdir(parents=True)
    for name, text in entries.items():
        (source / name).write_text(text)
    assert plain(refused(tmp_path, f"--questions={tmp_path / 'questions'}")) == sentence


def test_a_wrong_trace_is_named_by_its_field(tmp_path: Path) -> None:
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace/a.jsonl").write_text('{"timestamp": -1}\n')
    words = plain(refused(tmp_path, f"--trace={tmp_path / 'trace/a.jsonl'}"))
    assert words.startswith("The trace, entry a.jsonl of spec.dataset.trace.configMapKeyRef, line 1: ")
    assert words.endswith(". Correct it, and create another LoadTest.")


@pytest.mark.parametrize(
    "words", ["", "Traceback\n  File /etc/x:3: y\nValueError: boom", f"{FOLDER}/questions: no files"]
)
def test_other_words_are_quoted(words: str) -> None:
    assert plain(f" {words}\n") == words


def test_of_many_words_the_last_ones_are_quoted() -> None:
    assert plain("a" * 5000 + "the end").endswith("the end")
    assert len(plain("a" * 5000)) == 900
