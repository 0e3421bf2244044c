"""Two runs side by side."""

from __future__ import annotations

import json

import pytest

from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.comparison import as_json, compare, figure
from llmendpoint_common.results.figures import number
from support.load.reports import smallest, summary


@pytest.mark.parametrize(
    ("first", "second", "is_higher_better", "better"),
    [(1.0, 2.0, True, 1), (1.0, 2.0, False, 0), (2.0, 2.0001, True, None), (None, 2.0, True, None), (0.0, 0.0, True, None),
     (0.0, 0.1, False, 0), (1.0, 2.0, None, None)],
)  # fmt: skip
def test_the_better_value_is_marked(
    first: float | None, second: float | None, is_higher_better: bool | None, better: int | None
) -> None:
    assert figure("x", first, second, number, is_higher_better=is_higher_better).better == better


def test_no_value_is_better_if_both_look_the_same() -> None:
    shown = figure("x", 0.02011, 0.02014, format_duration, is_higher_better=False)
    assert shown.first_text == shown.second_text
    assert shown.better is None


def test_a_slower_run_is_worse_in_its_latencies() -> None:
    figures = {item.name: item for item in compare(summary(), summary(scale=1.5)).figures}
    assert figures["TTFT p95"].better == 0
    assert figures["TTFT p95"].change == pytest.approx(0.5, abs=0.01)
    assert figures["error rate"].better is None
    assert figures["offered, requests/s"].better is None


def test_settings_that_differ_are_listed() -> None:
    document = {"model": "other", "load": {"rate": 16.0, "arrivals": "poisson", "durationSeconds": 120.0}}
    assert compare(summary(), summary(run=document)).settings == (
        ("run.load.rate", "8.0", "16.0"),
        ("run.model", "llama3.2:3b", "other"),
    )


def test_what_one_run_did_not_measure_is_unknown() -> None:
    figures = {item.name: item for item in compare(smallest(), summary()).figures}
    assert figures["TTFT p95"].first_text == "unknown"
    assert figures["TTFT p95"].better is None
    assert figures["error rate"].change_text == "-"


def test_a_comparison_is_json() -> None:
    document = json.loads(as_json(compare(summary(), summary(scale=2.0), ("before", "after"))))
    assert [run["name"] for run in document["runs"]] == ["before", "after"]
    assert next(item for item in document["figures"] if item["name"] == "request p99")["better"] == "first"
