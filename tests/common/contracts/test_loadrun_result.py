"""The result of a load run, as the operator reads it from a pod that it does not trust."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from llmendpoint_common.contracts.loadrun import Progress, RunDocument, RunLoad, RunTarget, parse_result
from llmendpoint_common.process.errors import RunResultError
from llmendpoint_loadjob.result.timings import Sample
from support.load.outcomes import Outcome, summarize


def honest() -> dict[str, Any]:
    samples = [
        Sample(str(index), "q", name, 0.0, 0.0, 0.1, 0.2, 0.2, 200, output_tokens=2)
        for index, name in enumerate(("Math", "Coding"))
    ]
    outcome = Outcome(samples, duration=1e-9, offered=2, sent=2)
    document = RunDocument(RunTarget("http://x"), "tiny:latest", RunLoad(concurrency=1))
    return dict(json.loads(msgspec.json.encode(summarize(outcome, document))))


def test_what_the_load_generator_writes_is_read() -> None:
    summary = parse_result(json.dumps(honest()))
    assert [item.category for item in summary.categories] == ["Coding", "Math"]


def with_category(**fields: Any) -> dict[str, Any]:
    return {"categories": [{**honest()["categories"][0], **fields}]}


CANARY = "sk-canary"
HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"categories": honest()["categories"] + honest()["categories"]}, "two categories have the same name"),
    ({"categories": [{**honest()["categories"][0], "category": f"c{index}"} for index in range(257)]}, "categories"),
    (with_category(category="x" * 65), "category"),
    (with_category(category="a\nb"), "category"),
    (with_category(category="a\n"), "category"),
    (with_category(category="a\0"), "category"),
    (with_category(requests=-1), "requests"),
    ({"requests": 2**63}, "requests"),
    ({"requests": 10**30}, "requests"),
    ({"inputTokens": 1.5}, "inputTokens"),
    ({"errors": None}, "errors"),
    ({"message": "x" * 4097}, "message"),
    ({"message": "two\nlines"}, "message"),
    ({"verdict": CANARY}, "verdict"),
    ({"reason": f"{CANARY}' - x"}, "reason"),
    ({"requestsPerSecond": {"value": 1e300, "unit": "requests/s"}}, "requestsPerSecond"),
    ({"ttft": {**honest()["ttft"], "p95": -1}}, "ttft.p95"),
    ({"ttft": {**honest()["ttft"], "p95": 1e300}}, "ttft.p95"),
    ({"slo": [{"metric": "TTFT", "threshold": "x" * 65, "measured": "1s", "met": True}]}, "slo"),
    ({"slo": [{"metric": "TTFT", "threshold": "1s", "measured": "1s", "met": True, "percentile": 2**70}]}, "slo"),
    ({"slo": [{"metric": "TTFT", "threshold": "1s", "measured": "1s", "met": True}] * 65}, "slo"),
    ({"measurements": [1]}, "measurements"),
]


@pytest.mark.parametrize(("change", "field"), HOSTILE)
def test_what_does_not_fit_into_a_status_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RunResultError) as refused:
        parse_result(json.dumps({**honest(), **change}))
    assert field in str(refused.value)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"verdict": NaN}',
        "[" * 100_000,
        '{"unknown": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"requests": ' + "9" * 100_000 + "}",
        '{"message": "\\ud800"}',
        " " * (1024 * 1024 + 1),
    ],
)
def test_what_is_no_summary_is_refused(text: str) -> None:
    with pytest.raises(RunResultError):
        parse_result(text)


@pytest.mark.parametrize("change", [{"percent": 101}, {"percent": -1}, {"requests": 2**64}, {"elapsedSeconds": 1e300}])
def test_progress_has_bounds(change: dict[str, Any]) -> None:
    progress = json.loads(msgspec.json.encode(Progress(5, 1, 0, 1, 9, 0.5)))
    assert msgspec.json.decode(json.dumps(progress), type=Progress).percent == 5
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps({**progress, **change}), type=Progress)
