"""The progress of a LoadTest as `llmendpoint load --endpoint` shows it."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_cli.cluster.results import progress_of
from llmendpoint_common.contracts.loadrun import Progress
from llmendpoint_loadjob.report.progress import line_of
from llmendpoint_operator.loadtest.progress import RunProgress


def load_test(message: str, **status: Any) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "Reconciling", "status": "True", "message": message}], **status}}


@pytest.mark.parametrize("note", ["", ". LLMEndpoint a was deleted during the run."])
def test_the_numbers_of_the_load_pods_are_shown(note: str) -> None:
    answer = Progress(40, 30, 2, 3, 800, 12.0, stage="stage 2 of 5", error="2 timeout: no answer in 5 s")
    answers = RunProgress([{}], [answer], 1)
    status = {"progress": answers.state([]), "progressPercent": answers.percent}
    line = line_of(progress_of(load_test(answers.message(note), **status)))
    assert line.startswith(" 40 %, stage 2 of 5, 30 requests, 2 errors, 3 in flight, 2 timeout: no answer in 5 s")
    assert note.rstrip(".") in line


def test_before_the_load_only_what_is_awaited_is_shown() -> None:
    line = line_of(progress_of(load_test("LLMEndpoint a is not Ready: pulls its model.")))
    assert line == "  0 %, LLMEndpoint a is not Ready: pulls its model."
