"""The regression gate: what it finds, how rarely it is wrong, and what it says about runs that differ."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import numpy
import pytest

from llmendpoint_common.contracts.loadrun import Environment, RunBaseline, RunDocument, Summary, Verdict, parse_result
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.regression import FALSE_ALARMS, compare
from llmendpoint_common.results.summary import summarize
from llmendpoint_loadjob.result.timings import Sample
from support.load.runs import LOAD_SECONDS, answered, document_of, failed, measure, run

Draw = Callable[[random.Random], float]


def samples(count: int, seed: int, factor: float = 1.0, errors: float = 0.0, **fields: Any) -> list[Sample]:
    """Return requests with log-normal latencies, spread over the load."""
    source = random.Random(seed)
    result = []
    for _ in range(count):
        at = source.uniform(0, LOAD_SECONDS * 0.9)
        ttft, decode = factor * source.lognormvariate(-2, 0.5), factor * source.lognormvariate(-1, 0.3)
        if source.random() < errors:
            result.append(failed(at=at))
        else:
            result.append(answered(ttft, at, last=at + ttft + decode, ended=at + ttft + decode, **fields))
    return result


BASELINE = run(samples(1000, 1))


def regressed(summary: Summary) -> list[str]:
    return [result.metric for result in summary.regressions if result.regressed]


def test_an_equal_run_passes() -> None:
    summary = run(samples(1000, 2), baseline=BASELINE)
    assert (summary.verdict, summary.reason) == ("Passed", "ObjectivesMet")
    assert [result.metric for result in summary.regressions] == [
        "TTFT p50", "TTFT p95", "TPOT p50", "TPOT p95", "RequestLatency p50", "RequestLatency p95", "Throughput", "ErrorRate",
    ]  # fmt: skip
    assert all(abs(result.change) < 0.2 for result in summary.regressions)
    assert summary.message == "No metric is worse than in the baseline by more than is allowed."


def test_a_slower_server_fails_and_the_message_shows_both_values() -> None:
    summary = run(samples(1000, 2, factor=1.4), baseline=BASELINE)
    assert (summary.verdict, summary.reason) == ("Failed", "Regression")
    assert "RequestLatency p50" in regressed(summary)
    worse = next(result for result in summary.regressions if result.metric == "RequestLatency p50")
    assert worse.change == pytest.approx(0.4, abs=0.05)
    assert f"RequestLatency p50 was {worse.measured}, and {worse.baseline} in the baseline, which is" in summary.message
    assert "(allowed: 10%)" in summary.message


def test_a_faster_server_does_not_fail() -> None:
    assert regressed(run(samples(1000, 2, factor=0.5), baseline=BASELINE)) == []


def test_a_slower_server_within_what_is_allowed_does_not_fail() -> None:
    assert regressed(run(samples(1000, 2, factor=1.05), baseline=BASELINE)) == []


def test_more_errors_and_less_throughput_are_regressions() -> None:
    assert "ErrorRate" in regressed(run(samples(1000, 2, errors=0.1), baseline=BASELINE))
    assert "Throughput" in regressed(run(samples(500, 2), baseline=BASELINE))


def test_a_tail_that_fails_has_regressed() -> None:
    summary = run(samples(1000, 2, errors=0.2), baseline=BASELINE)
    assert "TTFT p95" in regressed(summary)
    assert next(result for result in summary.regressions if result.metric == "TTFT p95").measured == "never answered"
    assert parse_result(msgspec.json.encode(summary).decode()) == summary


def test_objectives_and_the_baseline_are_both_said() -> None:
    document = document_of("ttft:p95=1ms", baseline=0.1)
    summary = summarize(measure(samples(1000, 2, factor=1.5), document), document, baseline=BASELINE)
    assert summary.reason == "Regression"
    assert "TTFT p95 was" in summary.message
    assert "objective: at most 1ms" in summary.message


def judged(now: list[Sample], baseline: Summary | None, **settings: Any) -> Summary:
    document = document_of("ttft:p95=1s", baseline=0.1)
    return summarize(measure(now, document, **settings), document, baseline=baseline)


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (None, "There is no result of the baseline"),
        (msgspec.structs.replace(BASELINE, measurements={}), "no measurements"),
        (msgspec.structs.replace(BASELINE, measurements={"offered": -1}), "no measurements"),
        (run([failed()] * 50), "No request of the baseline was answered"),
        (run(samples(1000, 1), interrupted=True), "The baseline is partial: its run was stopped before its end"),
        (
            run([answered(1.03)] * 1000, "ttft:p95=1s", lag=(0.06,) * 100),
            "The load generator was the bottleneck of the baseline",
        ),
    ],
)
def test_without_a_usable_baseline_the_run_cannot_tell(baseline: Summary | None, words: str) -> None:
    summary = judged(samples(1000, 2), baseline)
    assert (summary.verdict, summary.reason) == ("Invalid", "NotMeasured")
    assert words in summary.message


def test_a_latency_that_only_the_baseline_has_cannot_be_told() -> None:
    summary = judged([answered(is_spread=False)] * 1000, BASELINE)
    assert (summary.verdict, summary.reason) == ("Invalid", "NotMeasured")
    assert "The baseline has TPOT, and this run could not measure it" in summary.message


def gate(now: list[Sample], before: list[Sample], users: int = 1) -> Summary:
    """Compare two runs. The baseline has one user, so throughputs are compared only if this one has one too."""
    document = document_of(baseline=0.1, concurrency=users)
    return summarize(measure(now, document), document, baseline=run(before))


@pytest.mark.parametrize("sizes", [(5, 6), (5, 300), (1000, 5), (10, 10), (10, 1000)])
def test_too_few_requests_do_not_pass_the_gate(sizes: tuple[int, int]) -> None:
    summary = gate(samples(sizes[0], 2), samples(sizes[1], 1), users=2)
    assert (summary.verdict, summary.reason) == ("Invalid", "TooFewRequests")
    assert f"there were {sizes[0]} in this run and {sizes[1]} in the baseline" in summary.message
    assert "A comparison of TTFT p50, TPOT p50, RequestLatency p50" in summary.message
    assert not any(result.judged for result in summary.regressions if result.metric.endswith("p50"))


def test_the_medians_of_a_server_that_always_takes_as_long_need_11_requests() -> None:
    steady = [answered(0.1 + 1e-5 * index, at=index) for index in range(11)]
    assert gate(steady, steady).verdict == "Passed"
    few = gate(steady[:10], steady)
    assert few.message == (
        "A comparison of TTFT p50, TPOT p50, RequestLatency p50 and ErrorRate with the baseline needs about 11 requests in "
        "each run, and there were 10 in this run and 11 in the baseline."
    )


def test_percentiles_that_need_more_requests_do_not_spoil_what_the_medians_tell() -> None:
    summary = gate(samples(82, 2), samples(104, 1))
    assert (summary.verdict, summary.reason) == ("Passed", "ObjectivesMet")
    outcomes = {result.metric: result.judged for result in summary.regressions}
    assert outcomes["TTFT p50"]
    assert not outcomes["TTFT p95"]
    assert "No metric is certainly worse than in the baseline" in summary.message
    assert "This cannot be told of TTFT p95" in summary.message
    assert next(result for result in summary.regressions if result.metric == "TTFT p95").needed in range(144, 200)


def test_a_slow_median_of_few_requests_is_never_within_the_limit() -> None:
    before = [answered(0.1 if index % 3 else 4.0, at=index) for index in range(12)]
    now = [answered(3.0, at=index) for index in range(12)]
    summary = gate(now, before)
    assert (summary.verdict, summary.reason) == ("Invalid", "TooFewRequests")
    median = next(result for result in summary.regressions if result.metric == "TTFT p50")
    assert (median.regressed, median.judged) == (False, False)
    assert median.needed > 12


def test_a_difference_beyond_the_limit_that_may_be_chance_says_how_many_requests_would_tell() -> None:
    summary = gate(samples(100, 2, factor=1.25), samples(100, 1))
    worse = next(result for result in summary.regressions if result.metric == "RequestLatency p50")
    assert 0.1 < worse.change < 0.5
    assert (worse.regressed, worse.judged) == (False, False)
    many = worse.needed
    assert "RequestLatency p50" in regressed(gate(samples(2 * many, 4, factor=1.25), samples(2 * many, 3)))


def test_a_share_of_errors_that_may_be_chance_cannot_be_told() -> None:
    summary = gate([*samples(79, 2), *[failed(at=50.0)] * 3], samples(104, 1))
    errors = next(result for result in summary.regressions if result.metric == "ErrorRate")
    assert (errors.baseline, errors.measured) == ("0%", "3.659%")
    assert (errors.regressed, errors.judged) == (False, False)
    assert 300 < errors.needed < 1500


def test_a_run_that_is_worse_is_found_with_few_requests_if_it_is_certain() -> None:
    assert gate(samples(5, 2, factor=50), samples(300, 1)).reason == "Regression"


def test_a_baseline_of_which_most_requests_failed_has_no_median() -> None:
    summary = gate(samples(100, 2), [*samples(40, 1), *[failed()] * 60])
    assert (summary.verdict, summary.reason) == ("Invalid", "NotMeasured")
    assert "More than half of the requests of the baseline failed" in summary.message


@pytest.mark.parametrize("count", [11, 20, 40, 80, 300])
def test_a_server_that_is_three_times_as_slow_never_passes(count: int) -> None:
    """What the gate says to be within the limit is not twice as high: it would have been found."""
    reasons = {gate(samples(count, seed, factor=3.0), samples(count, seed + 1)).reason for seed in range(0, 60, 2)}
    assert reasons <= {"Regression", "TooFewRequests"}


def test_equal_servers_pass_with_a_hundred_requests_if_latencies_spread_by_a_factor_of_five() -> None:
    verdicts = [gate(samples(100, seed), samples(100, seed + 1)).verdict for seed in range(0, 60, 2)]
    assert Verdict.FAILED not in verdicts
    assert verdicts.count(Verdict.PASSED) >= len(verdicts) - 1


def test_a_dead_server_is_not_a_regression() -> None:
    assert judged([failed()] * 100, BASELINE).reason == "TargetUnreachable"


def test_delays_of_the_load_generator_are_not_a_regression() -> None:
    baseline = run([answered(0.100 + index * 1e-5) for index in range(1000)])
    slower = [answered(0.130 + index * 1e-5) for index in range(1000)]
    assert "TTFT p50" in regressed(judged(slower, baseline))
    delayed = judged(slower, baseline, lag=(0.04,) * 100)
    assert "TTFT p50" not in regressed(delayed)
    assert (delayed.verdict, delayed.reason) == ("Invalid", "ClientLimited")
    assert "TTFT p50 was 135ms, and 105ms in the baseline" in delayed.message
    median = next(result for result in delayed.regressions if result.metric == "TTFT p50")
    assert (median.judged, median.needed) == (False, 0)


def test_delays_of_the_load_generator_do_not_hide_that_a_run_is_within_the_limit() -> None:
    """They only make latencies longer, so those of a run that is as fast in spite of them are within the limit."""
    summary = judged(samples(1000, 2), BASELINE, lag=(0.3,) * 100)
    assert summary.verdict == "Passed"
    assert next(result for result in summary.regressions if result.metric == "TTFT p50").judged


def test_what_differs_from_the_baseline_is_said() -> None:
    document = document_of(baseline=0.1, concurrency=4)
    environment = Environment(model_digest="sha256:2", gpu="L4", server="0.13.0")
    before = msgspec.structs.replace(
        BASELINE, model="other", environment=Environment(model_digest="sha256:1", gpu="H100"), run=as_run(document_of())
    )
    summary = summarize(measure(samples(1000, 2), document), document, environment=environment, baseline=before)
    assert summary.baseline_differences == (
        "the baseline ran another model (other)",
        "the baseline had another model digest (sha256:1)",
        "the baseline had another GPU (H100)",
        "the baseline had other settings (load.concurrency)",
    )
    assert "The baseline ran another model (other)." in summary.message
    # Another load has another throughput.
    assert "Throughput" not in {result.metric for result in summary.regressions}


def as_run(document: RunDocument) -> dict[str, Any]:
    return dict(msgspec.json.decode(msgspec.json.encode(document)))


def test_equal_settings_are_not_mentioned() -> None:
    document = document_of("ttft:p95=1s", baseline=0.1)
    summary = summarize(measure(samples(1000, 2), document), document, baseline=BASELINE)
    assert summary.baseline_differences == ()


class TestFalseAlarms:
    """Runs of equal servers, with no allowed regression at all: the worst case for the gate."""

    RUNS = 150

    def rate(self, make: Callable[[int], Measurements]) -> float:
        document = msgspec.structs.replace(document_of(), baseline=RunBaseline(0.0))
        alarms = 0
        for index in range(self.RUNS):
            before = summarize(make(2 * index), document_of())
            comparison = compare(make(2 * index + 1), document, before, Environment())
            assert comparison is not None
            alarms += any(result.regressed for result in comparison.results)
        return alarms / self.RUNS

    def test_of_independent_requests_are_as_rare_as_stated(self) -> None:
        assert self.rate(lambda seed: run_of(numpy.random.default_rng(seed), 300, 0.0)) <= FALSE_ALARMS

    def test_of_requests_that_wait_for_each_other_are_as_rare(self) -> None:
        assert self.rate(lambda seed: run_of(numpy.random.default_rng(seed), 300, 0.9)) <= FALSE_ALARMS


def run_of(source: numpy.random.Generator, count: int, correlation: float) -> Measurements:
    """Return a run whose latencies have log-normal spread, and the correlation of neighbours of a queue (AR(1))."""
    noise = source.normal(size=count)
    level = numpy.empty(count)
    state = source.normal()
    for index in range(count):
        state = correlation * state + (1 - correlation**2) ** 0.5 * noise[index]
        level[index] = state
    values = numpy.exp(-2 + 0.5 * level)
    measured = []
    for index, value in enumerate(values.tolist()):
        at = index * 0.95 * LOAD_SECONDS / count
        error = source.random() < 0.02
        measured.append(failed(at=at) if error else answered(value, at, last=at + 2 * value, ended=at + 3 * value))
    return measure(measured, document_of())


def test_a_regression_of_thirty_percent_is_found_with_a_thousand_requests() -> None:
    found = [regressed(run(samples(1000, seed, factor=1.3), baseline=BASELINE)) for seed in range(10, 20)]
    assert all(found)
