"""What a run that was too short to tell says about the next one."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_common.contracts.loadrun import ErrorClass, RunStage
from llmendpoint_common.results.summary import summarize
from support.load.runs import answered, document_of, failed, measure


def message(requests: int, *objectives: str, warmup: float = 0.0, drain: float = 0.0, **load: Any) -> str:
    """Return the message of a run with so many answers in 100 seconds."""
    document = document_of(*objectives, **load)
    samples = [answered(at=float(index)) for index in range(requests)]
    return summarize(measure(samples, document, warmup=warmup, drain=drain), document).message


@pytest.mark.parametrize(
    ("requests", "objectives", "load", "advice"),
    [
        (10, ["ttft:p95=9s"], {"concurrency": 1, "duration_seconds": 100}, "increase the duration to at least 4m00s."),
        (10, ["ttft:p95=9s"], {"rate": 0.1, "duration_seconds": 100}, "increase the duration to at least 4m00s."),
        (10, ["ttft:p95=9s", "tpot:p99=9s"], {"concurrency": 1}, "increase the duration to at least 20m00s."),
        (10, ["ttft:p95=9s"], {"stages": (RunStage(100, concurrency=2),)},
         "increase the total duration of the stages to at least 4m00s."),
        (10, ["ttft:p95=9s"], {"concurrency": 1, "max_requests": 10, "duration_seconds": 300},
         "increase maxRequests to at least 20."),
        (10, ["ttft:p95=9s"], {"concurrency": 1, "max_requests": 10, "duration_seconds": 150},
         "increase maxRequests to at least 20 and the duration to at least 4m00s."),
    ],
)  # fmt: skip
def test_a_run_with_too_few_requests_says_what_to_change(
    requests: int, objectives: list[str], load: dict[str, Any], advice: str
) -> None:
    assert message(requests, *objectives, **load).endswith(f"At the rate of this run, {advice}")


@pytest.mark.parametrize(
    ("load", "advice"),
    [
        # One user waits for 160 s for each answer, so 20 of them take 53 minutes.
        ({"concurrency": 1}, "increase the duration to at least 1h10m, or the load."),
        ({"concurrency": 20}, "increase the duration to at least 3m20s, or the load."),
        ({"rate": 0.5}, "increase the duration to at least 50s, or the load."),
    ],
)
def test_a_run_whose_warm_up_took_all_of_it_says_what_to_change(load: dict[str, Any], advice: str) -> None:
    text = message(0, "error_rate=1%", warmup=30.0, drain=30.0, **load)
    assert text == f"No request was measured. {advice[:1].upper()}{advice[1:]}"


def test_a_run_with_an_objective_that_was_missed_for_certain_needs_no_more_requests() -> None:
    document = document_of("error_rate=1%")
    samples = [answered()] * 5 + [failed(ErrorClass.TIMEOUT)] * 5
    assert "increase" not in summarize(measure(samples, document), document).message
