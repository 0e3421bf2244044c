"""The result on a terminal: readable at any width, in which names are never markup."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from llmendpoint_common.contracts.loadrun import (
    ErrorResult,
    MetricName,
    ObjectiveResult,
    Progress,
    RegressionResult,
    StepResult,
    Summary,
    SweepResult,
    Verdict,
    VerdictReason,
)
from llmendpoint_loadjob.report.console import print_grid, show_summary
from llmendpoint_loadjob.report.progress import PLAIN_SECONDS, Line, fitting, parts_of
from support.load.reports import HOSTILE, smallest, summary


def printed(shown: Summary, width: int = 100, *, color: bool = False) -> str:
    file = io.StringIO()
    show_summary(Console(file=file, width=width, force_terminal=color, markup=False, highlight=False), shown)
    return file.getvalue()


def on_terminal(shown: Summary, width: int) -> list[str]:
    """Return the lines on a terminal, without colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", printed(shown, width, color=True)).splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_numbers_are_never_cut(width: int) -> None:
    text = printed(summary(), width)
    assert "…" not in text
    whole = printed(summary(), 300)
    numbers = set(re.findall(r"\d[\d.,]*(?:ms|us|s)\b", whole))
    assert numbers
    assert numbers <= set(re.findall(r"\d[\d.,]*(?:ms|us|s)\b", text))


def test_tables_fit_into_forty_columns() -> None:
    text = printed(summary(), 40)
    table = [line for line in text.splitlines() if re.match(r"(mean|p\d\d|max) ", line)]
    assert len(table) >= 12
    assert max(map(len, table)) <= 40


def test_a_column_that_is_too_wide_is_folded_and_not_cut() -> None:
    file = io.StringIO()
    name = "highest rate of the sweep, requests/s"
    print_grid(Console(file=file, width=24), [("", "run-a"), (name, "1.5")])
    assert max(map(len, file.getvalue().splitlines())) <= 24
    assert {*name.split(), "run-a", "1.5"} <= {*file.getvalue().split()}


@pytest.mark.parametrize("width", [20, 40, 80])
def test_sentences_on_a_terminal_end_their_lines_between_words(width: int) -> None:
    words = {word for line in printed(summary(), width).splitlines() for word in line.split()}
    lines = on_terminal(summary(), width)
    assert {word for line in lines for word in line.split()} <= words
    assert all(len(line.rstrip()) <= width for line in lines if " " in line.strip())


def test_sentences_in_a_file_are_one_line() -> None:
    assert printed(summary(), 40).splitlines()[-1] == f"Failed (ObjectivesMissed): {summary().message}"


def test_a_word_that_is_longer_than_a_line_of_a_terminal_is_not_divided() -> None:
    path = f"/results/{'x' * 60}"
    shown = summary(message=f"The files are in {path} as always.")
    assert path in on_terminal(shown, 40)


@pytest.mark.parametrize("name", [HOSTILE, "x[/bold]y", "x[red]y", ":smiley:"])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    assert printed(summary(model=name), 200).startswith(f"{name} at http://")


def test_a_name_cannot_control_the_terminal() -> None:
    assert "\u202e" not in printed(summary(model="a\u202eb"), 200)


def test_a_rate_of_a_sweep_that_was_too_high_says_why() -> None:
    steps = (StepResult("8/s", 8.0, 8.0, 90, 0, 9.0, None, None, met=False, reason="latencies grew by 1.2s"),)
    assert "missed: latencies grew by 1.2s" in printed(summary(steps=steps), 80)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (SweepResult(8.1, 7.6, 8.5, "found"), "sweep: found; 95 % interval 7.6 to 8.5 requests/s\n"),
        (SweepResult(16.0, 16.0, 16.0, "found"), "sweep: found; 95 % interval 16 or more requests/s\n"),
        (SweepResult(15.5, 15.1, 16.0, "found"), "sweep: found; 95 % interval 15.1 or more requests/s\n"),
        (SweepResult(8.0, 8.0, 20.0, "found"), "sweep: found; 95 % interval 8 or more requests/s\n"),
        (SweepResult(None, 0.0, 1.0, "none"), "sweep: none\n"),
    ],
)
def test_the_interval_of_a_sweep_has_no_upper_bound_that_was_not_tried(found: SweepResult, text: str) -> None:
    assert text in printed(summary(sweep=found), 200)


def test_errors_have_count_example_and_advice() -> None:
    text = printed(summary(), 200)
    assert '45 x 503: {"error":"the queue is full"}\n  reduce the load, or add replicas\n' in text


def test_an_error_without_advice_gets_that_of_its_class() -> None:
    text = printed(summary(error_details=(ErrorResult("503", 45),), errors_by_class={"503": 45}), 200)
    assert "45 x 503\n  The server is overloaded or still loading the model." in text


def test_what_could_not_be_measured_is_said() -> None:
    text = printed(summary(output_tokens=None, output_tokens_per_second=None), 200)
    assert "output tokens unknown" in text
    assert "not measured: TTFO: the responses had no thinking" in text


def test_the_verdict_is_the_last_line() -> None:
    last = printed(summary(), 300).splitlines()[-1]
    assert last == f"Failed (ObjectivesMissed): {summary().message}"


def test_objectives_of_an_interrupted_run_are_not_judged() -> None:
    shown = summary(partial=True, verdict=Verdict.NONE, reason=VerdictReason.CANCELED, steps=())
    text = printed(shown, 200)
    assert text.count("not judged") == 3
    assert not re.search(r" (met|missed)$", text, re.MULTILINE)


def test_an_objective_with_too_few_requests_is_neither_met_nor_missed() -> None:
    few = ObjectiveResult(MetricName.TTFT, "1s", "113ms", False, 95, "108ms", None, 12, judged=False, needed=20)
    text = printed(summary(slo=(few,), steps=()), 200)
    assert "113ms  108ms or more  too few requests" in text
    assert "missed" not in text


def test_colours_are_left_out_without_a_terminal() -> None:
    assert "\x1b[" not in printed(summary())
    assert "\x1b[" in printed(summary(), color=True)


def test_a_run_without_requests_is_shown() -> None:
    assert printed(smallest()).endswith("None (NoObjectives): the run has no objectives\n")


def progress(**changes: object) -> Progress:
    fields: dict[str, object] = {
        "percent": 100, "requests": 1234, "errors": 7, "in_flight": 3, "output_tokens": 999_999,
        "elapsed_seconds": 9.0, "ttft_p95_seconds": 0.25, "awaiting": "waiting for 3 responses, at most 58 s",
    }  # fmt: skip
    return Progress(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [10, 39, 60, 79, 200])
def test_the_live_line_fits_and_has_whole_numbers(width: int) -> None:
    line = fitting(parts_of(progress()), width)
    assert len(line) <= width
    assert line.startswith("100 %")
    assert set(re.findall(r"[\d,]+", line)) <= {"100", "3", "58", "1,234", "7", "95", "250", "999,999", ","}


def test_the_live_line_says_what_is_awaited() -> None:
    assert "waiting for 3 responses" in fitting(parts_of(progress()), 79)


@pytest.mark.parametrize(
    ("awaiting", "shown"),
    [
        ("waiting for 1,234 requests, at most 60 s", "100 %, waiting for 1,234 requests"),
        ("12 users wait after an error", "100 %, 12 users wait after an error"),
        ("the maximum is in flight, so the next request waits", "100 %, the maximum is in flight"),
        ("the open-file limit is reached, so the next request waits", "100 %, the open-file limit is reached"),
    ],
)
def test_the_live_line_says_what_is_awaited_at_40_columns(awaiting: str, shown: str) -> None:
    assert fitting(parts_of(progress(awaiting=awaiting)), 39).startswith(shown)


def test_the_limit_of_a_wait_is_not_shown_without_the_wait() -> None:
    assert "at most" not in fitting(parts_of(progress(awaiting="waiting for 1,234 requests, at most 60 s")), 30)


def test_a_long_sentence_about_a_run_that_waits_is_cut() -> None:
    assert fitting(["LoadTest nightly does not exist."], 20) == "LoadTest nightly do…"
    assert fitting(["LoadTest nightly does not exist."], 79) == "LoadTest nightly does not exist."


def test_without_a_terminal_there_is_a_line_every_ten_seconds() -> None:
    file, now = io.StringIO(), 0.0
    with Line(Console(file=file, width=40), lambda: now) as show:
        for tick in range(250):
            now = tick / 10
            show(parts_of(progress(requests=tick)))
    lines = file.getvalue().splitlines()
    assert len(lines) == int(24.9 / PLAIN_SECONDS)
    assert lines[0].endswith("999,999 tokens")


def test_without_a_terminal_a_line_is_not_repeated() -> None:
    file, now = io.StringIO(), 0.0
    with Line(Console(file=file, width=40), lambda: now) as show:
        for tick in range(1000):
            now = tick / 10
            show(parts_of(progress(requests=1 if now < 45 else 2, awaiting="")))
    requests = [re.search(r"(\d+) request", line) for line in file.getvalue().splitlines()]
    assert [found and found[1] for found in requests] == ["1", "2"]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (RegressionResult("TTFT p50", "100ms", "3s", 29.0, True), "worse"),
        (RegressionResult("TTFT p50", "100ms", "101ms", 0.01, False), "within the limit"),
        (RegressionResult("TTFT p95", "93ms", "never answered", 1e9, False, "", False), "cannot tell"),
        (RegressionResult("TTFT p50", "100ms", "118ms", 0.18, False, "", False, 1200),
         "cannot tell: about 1,200 requests needed"),
    ],
)  # fmt: skip
def test_a_comparison_has_one_of_three_outcomes(result: RegressionResult, words: str) -> None:
    text = printed(summary(regressions=(result,)), 200)
    assert f"baseline: {result.metric} {result.baseline} -> {result.measured}, {words}\n" in text


def test_an_objective_that_was_not_judged_says_why() -> None:
    few = ObjectiveResult(MetricName.ERROR_RATE, "1%", "0%", False, requests=5, judged=False, needed=20)
    doubtful = ObjectiveResult(MetricName.TTFT, "1s", "900ms", False, 95, requests=50, judged=False)
    text = printed(summary(slo=(few, doubtful)), 200)
    assert re.search(r"error rate .* too few requests: 20 needed", text)
    assert re.search(r"TTFT p95 .* not judged", text)
