"""Measurements of several pods: merged, they are those of one pod, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmendpoint_common.contracts.loadrun import RunDocument, RunStage, Saturation, SweepResult
from llmendpoint_common.process.errors import RunResultError
from llmendpoint_common.results.histogram import Histogram
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.merge import merge
from llmendpoint_common.results.packing import pack
from llmendpoint_common.results.summary import summarize
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import ErrorClass, Sample
from support.load.runs import LOAD_SECONDS, answered, document_of, empty, failed, measure

DOCUMENT = document_of(
    "ttft:p95=1s",
    "tpot:p50=20ms",
    "error_rate=5%",
    "attainment=90%",
    stages=(RunStage(50, rate=2.0), RunStage(50, rate=4.0)),
)
TIMES = st.floats(min_value=-20, max_value=700)
SAMPLES = st.lists(
    st.one_of(
        st.builds(
            answered,
            st.floats(min_value=0, max_value=5000),
            TIMES,
            st.integers(min_value=1, max_value=30),
            category=st.sampled_from(["Math", "Coding", "Creative"]),
            step=st.integers(min_value=0, max_value=1),
            is_spread=st.booleans(),
            matched=st.sampled_from([None, True, False]),
            cached_tokens=st.sampled_from([None, 0, 5]),
            wanted_input=st.sampled_from([None, 8, 3000]),
            wanted_output=st.sampled_from([None, 40]),
            turn=st.integers(min_value=0, max_value=2),
        ),
        st.builds(failed, st.sampled_from(list(ErrorClass)), TIMES, st.text(max_size=8), step=st.just(1)),
        st.builds(failed, st.just(ErrorClass.TIMEOUT), TIMES, ended=st.just(700.0)),
        st.builds(empty, TIMES),
    ),
    max_size=60,
)


def recorded(samples: list[Sample], document: RunDocument = DOCUMENT) -> Measurements:
    recorder = Recorder(document)
    recorder.begin(-10.0, 0.0, LOAD_SECONDS)
    for index in range(2):
        recorder.begin_step(f"stage {index + 1}", 2.0 * index + 2, 50.0 * index)
        recorder.end_step(index, 50.0 * (index + 1))
    for sample in samples:
        recorder.record(sample)
    return recorder.finish(LOAD_SECONDS + 5)


def bytes_of(measurements: Measurements) -> bytes:
    return msgspec.json.encode(measurements.encode())


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(SAMPLES)
def test_four_pods_are_one(samples: list[Sample]) -> None:
    merged = merge([recorded(samples[index::4]) for index in range(4)])
    assert merged.pods == 4
    merged.pods = 1
    assert bytes_of(merged) == bytes_of(recorded(samples))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(SAMPLES, SAMPLES, SAMPLES)
def test_the_order_of_merging_does_not_matter(one: list[Sample], two: list[Sample], three: list[Sample]) -> None:
    parts = [recorded(samples) for samples in (one, two, three)]
    first = merge([merge(parts[:2]), parts[2]])
    second = merge([parts[2], merge([parts[1], parts[0]])])
    assert bytes_of(first) == bytes_of(second)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(SAMPLES)
def test_measurements_survive_json_and_keep_their_summary(samples: list[Sample]) -> None:
    measurements = recorded(samples)
    decoded = Measurements.decode(json.loads(bytes_of(measurements)))
    assert bytes_of(decoded) == bytes_of(measurements)
    assert summarize(decoded, DOCUMENT) == summarize(measurements, DOCUMENT)


def test_merging_does_not_change_the_parts() -> None:
    parts = [recorded([answered(at=float(index))]) for index in range(3)]
    before = [bytes_of(part) for part in parts]
    merge(parts)
    merge(parts)
    assert [bytes_of(part) for part in parts] == before


def test_a_pod_that_left_nothing_makes_the_result_partial_and_names_it() -> None:
    merged = merge([recorded([answered()] * 20), recorded([answered()] * 20)], missing=1)
    summary = summarize(merged, DOCUMENT)
    assert summary.partial
    assert (summary.verdict, summary.reason) == ("None", "Canceled")
    assert summary.requests == 40
    assert summary.message.startswith("1 of 3 load pods left no result. The result is partial (40 measured requests)")


def test_a_pod_that_was_interrupted_makes_the_result_partial() -> None:
    document = document_of("error_rate=1%")
    parts = [measure([answered()], document, interrupted=index == 2) for index in range(4)]
    assert summarize(merge(parts), document).partial


def test_a_starved_pod_does_not_vanish_among_others() -> None:
    document = document_of("ttft:p95=1s")
    good = [measure([answered(1.02)] * 50, document, lag=(0.0001,) * 1000) for _ in range(9)]
    starved = measure([answered(1.02)] * 50, document, lag=(0.05,) * 100)
    assert summarize(merge(good), document).reason == "ObjectivesMissed"
    summary = summarize(merge([*good, starved]), document)
    assert summary.reason == "ClientLimited"
    assert summary.max_lag_p99_seconds == pytest.approx(0.05, abs=1e-4)


def test_throttling_of_one_pod_is_kept() -> None:
    document = document_of("ttft:p95=1s")
    parts = [measure([answered()] * 20, document, throttled=5.0 * (index == 1)) for index in range(4)]
    assert summarize(merge(parts), document).reason == "ClientLimited"


def test_requests_that_the_limit_of_open_files_kept_back_add_up() -> None:
    parts = [measure([answered()], document_of()) for _ in range(3)]
    parts[0].blocked, parts[2].blocked = 3, 4
    assert merge(parts).blocked == 7


def test_rates_of_pods_add_up() -> None:
    document = document_of()
    summary = summarize(merge([measure([answered()] * 20, document) for _ in range(4)]), document)
    assert summary.requests_per_second.value == pytest.approx(0.8)
    assert summary.duration.value == LOAD_SECONDS


def test_the_earliest_saturation_and_the_lowest_sweep_are_kept() -> None:
    document = document_of()
    parts = [measure([answered()], document) for _ in range(3)]
    parts[1].saturation, parts[2].saturation = Saturation(20.0, 5.0), Saturation(9.0, 6.0)
    parts[0].sweep, parts[1].sweep = SweepResult(5.0, 4.0, 6.0), SweepResult(4.0, 3.0, 5.0)
    merged = merge(parts)
    assert merged.saturation == Saturation(9.0, 6.0)
    assert merged.sweep == SweepResult(4.0, 3.0, 5.0)


def test_the_steps_of_a_sweep_keep_how_the_search_judged_them() -> None:
    part = recorded([])
    part.steps[0].met, part.steps[0].growth = False, 120_000
    read = Measurements.decode(merge([part]).encode())
    assert [(step.met, step.growth) for step in read.steps] == [(False, 120_000), (None, 0)]


@pytest.mark.parametrize(
    "other", [document_of("ttft:p95=2s"), document_of("ttft:p95=1s", "error_rate=1%"), document_of()]
)
def test_runs_with_other_objectives_are_not_merged_and_not_judged(other: RunDocument) -> None:
    document = document_of("ttft:p95=1s")
    parts = [measure([answered()], document), measure([answered()], other)]
    with pytest.raises(ValueError, match="different objectives"):
        merge(parts)
    with pytest.raises(RunResultError, match="other objectives"):
        summarize(parts[0], other)


def test_nothing_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="no measurements"):
        merge([])


def encoded(**fields: Any) -> dict[str, Any]:
    return {**measure([answered(), failed()], document_of("ttft:p95=1s")).encode(), **fields}


def with_whole(**fields: Any) -> dict[str, Any]:
    return encoded(whole={**encoded()["whole"], **fields})


ZEROS = pack([8, 0, 0, 250_000] + [0] * 500_000)


@pytest.mark.parametrize(
    "hostile",
    [
        None,
        [],
        {"whole": 1},
        encoded(offered=-1),
        encoded(offered=2**60),
        encoded(lag="x"),
        encoded(lag=5),
        encoded(timeline=pack([3, 0])),
        encoded(timeline=pack([1, 601])),
        encoded(timeline=pack([1, 1, 0, 1])),
        encoded(objectives=[]),
        encoded(categories={f"c{index}": {} for index in range(257)}),
        encoded(categories={"a\nb": encoded()["whole"]}),
        encoded(errors={"5xx": {"count": 1, "example": "two\nlines"}}),
        encoded(errors={"5xx": {"count": 1, "example": "x" * 201}}),
        with_whole(errors=3),
        with_whole(objectives=[{"within": 5}]),
        with_whole(objectives=[{"within": -5}]),
        with_whole(histograms={"ttft": Histogram(8).pack()}),
        with_whole(histograms={"ttft": pack([11, 1, 1, 2**30])}),
        with_whole(histograms={"ttft": pack([0] * 5_000_000)}),
        # Each text is small, and together they would be 100 MiB.
        encoded(categories={f"c{index}": {"histograms": {"ttft": ZEROS}} for index in range(200)}),
    ],
)
def test_measurements_of_a_stranger_are_refused(hostile: object) -> None:
    with pytest.raises(RunResultError, match="measurements are not valid"):
        Measurements.decode(hostile)
