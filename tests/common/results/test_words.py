"""Objectives, durations and settings in words."""

from __future__ import annotations

import pytest

from llmendpoint_common.contracts.loadrun import MetricName
from llmendpoint_common.results.settings_text import setting_text
from llmendpoint_common.results.words import objective_text, spaced


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1m00s", "1 min"),
        ("1m30s", "1 min 30 s"),
        ("1h05m", "1 h 5 min"),
        ("2.9s", "2.9 s"),
        ("212ms to 240ms", "212 ms to 240 ms"),
        ("99.5%", "99.5 %"),
        ("0s", "0 s"),
        ("never answered", "never answered"),
        ("qwen3:4b", "qwen3:4b"),
    ],
)
def test_durations_and_percentages_are_written_with_spaces(text: str, words: str) -> None:
    assert spaced(text) == words


def test_objectives_have_the_names_of_the_field() -> None:
    assert objective_text(MetricName.TTFT, 95, "1s") == "TTFT p95 ≤ 1 s"
    assert objective_text(MetricName.REQUEST_LATENCY, 99, "1m00s") == "request latency p99 ≤ 1 min"
    assert objective_text(MetricName.ERROR_RATE, None, "1%") == "error rate ≤ 1 %"
    assert objective_text(MetricName.ATTAINMENT, None, "99.5%") == "attainment ≥ 99.5 %"


OBJECTIVES = '[{"metric": "TTFT", "percentile": 95, "threshold": 1.0}, {"metric": "ErrorRate", "threshold": 0.01}]'


@pytest.mark.parametrize(
    ("name", "first", "second", "text"),
    [
        ("run.load.concurrency", "4", "6", "Concurrency 4 → 6"),
        ("run.load.durationSeconds", "30.0", "60.0", "Duration 30 s → 1 min"),
        ("run.target.url", "http://a", "http://b", "Target http://a → http://b"),
        ("run.request.maxTokens", "64", "not set", "Request max tokens 64 → not set"),
        ("run.load.stopWhenSaturated", "true", "not set", "Stop when saturated yes → not set"),
        ("run.objectives", "[]", OBJECTIVES, "Objectives none → TTFT p95 ≤ 1 s, error rate ≤ 1 %"),
        ("run.load.stages", "not set", "[" + "1, " * 100 + "1]", "Stages not set → [" + "1, " * 26 + "…"),
        ("gpu", "1 x a", "1 x b", "GPU 1 x a → 1 x b"),
        ("llmendpoint", "0.1.0", "0.2.0", "Version of llmendpoint 0.1.0 → 0.2.0"),
    ],
)
def test_a_setting_that_differs_is_a_sentence(name: str, first: str, second: str, text: str) -> None:
    assert setting_text(name, first, second) == text
