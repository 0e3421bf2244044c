"""Verdicts of runs: each way in which a run could pass although it should not, or fail although it should not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from llmendpoint_common.contracts.loadrun import (
    NOTHING_MEASURED,
    RunLoad,
    RunSessions,
    RunStage,
    RunTrace,
    Saturation,
    Summary,
    SweepResult,
    Verdict,
    VerdictReason,
    exit_code_of,
)
from llmendpoint_common.results.merge import merge
from llmendpoint_common.results.summary import summarize
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import ErrorClass, Sample
from support.load.runs import LOAD_SECONDS, answered, document_of, empty, failed, measure, run


def outcome(summary: Summary) -> tuple[str, str, int]:
    return summary.verdict.value, summary.reason.value, exit_code_of(summary.verdict, summary.reason)


PASSED = ("Passed", "ObjectivesMet", 0)
MISSED = ("Failed", "ObjectivesMissed", 99)
NOT_MEASURED = ("Invalid", "NotMeasured", 98)
TOO_FEW = ("Invalid", "TooFewRequests", 98)
LIMITED = ("Invalid", "ClientLimited", 98)
UNREACHABLE = ("Error", "TargetUnreachable", 1)
NO_OBJECTIVES = ("None", "NoObjectives", 0)
CANCELED = ("None", "Canceled", 130)

ONE_PIECE: dict[str, Any] = {"is_spread": False}
AGAIN: dict[str, Any] = {"was_sent_again": True}
NO_USAGE: dict[str, Any] = {"has_usage": False, "input_tokens": 0, "tokens": 0}


@pytest.mark.parametrize(
    ("samples", "objectives", "expected"),
    [
        pytest.param([answered()] * 20, ["ttft:p95=1s", "error_rate=0%"], PASSED, id="all met"),
        pytest.param([answered(2.0)] * 20, ["ttft:p95=1s"], MISSED, id="slow"),
        pytest.param([answered()] * 18 + [answered(2.0)] * 2, ["ttft:p95=1s"], MISSED, id="slow tail"),
        pytest.param([answered()] * 19 + [answered(2.0)], ["ttft:p95=1s"], PASSED, id="5 % slow"),
        pytest.param([answered()] * 7 + [failed()] * 33, ["ttft:p95=1s"], MISSED, id="most failed"),
        pytest.param([answered()] * 18 + [failed()] * 2, ["ttft:p95=1s"], MISSED, id="failed tail"),
        pytest.param([answered()] * 19 + [failed()], ["ttft:p95=1s"], PASSED, id="5 % failed"),
        pytest.param([answered()] * 18 + [failed()] * 2, ["request_latency:p95=1h"], MISSED, id="failed have no latency"),
        pytest.param([answered()] * 18 + [failed()] * 2, ["tpot:p95=1h"], MISSED, id="failed have no tpot"),
        pytest.param([answered()] * 99 + [failed()], ["error_rate=1%"], PASSED, id="error rate at the threshold"),
        pytest.param([answered()] * 98 + [failed()] * 2, ["error_rate=1%"], MISSED, id="error rate above it"),
        pytest.param([answered()] * 993 + [failed()] * 7, ["error_rate=0.7%"], PASSED, id="a share that is not binary"),
        pytest.param([answered()] * 992 + [failed()] * 8, ["error_rate=0.7%"], MISSED, id="one error above such a share"),
        pytest.param([answered()] * 993 + [failed()] * 7, ["attainment=99.3%"], PASSED, id="attainment at the threshold"),
        pytest.param([answered()] * 992 + [failed()] * 8, ["attainment=99.3%"], MISSED, id="attainment below it"),
        pytest.param([answered()] * 10 + [empty()] * 10, ["attainment=99%"], MISSED, id="empty answers attain nothing"),
        pytest.param([answered()] * 10 + [empty()] * 10, ["ttft:p95=1s"], MISSED, id="empty answers have no first token"),
        pytest.param([answered()] + [empty()] * 19, ["request_latency:p95=1s"], MISSED, id="fast empty answers"),
        pytest.param([answered()] * 10 + [empty(tokens=20)] * 10, ["attainment=99%"], MISSED, id="tokens without content"),
        pytest.param([answered()] * 10 + [empty(tokens=20)] * 10, ["error_rate=1%"], MISSED, id="empty answers are errors"),
        pytest.param([empty(tokens=20)] * 20, ["error_rate=99%"], UNREACHABLE, id="nothing but empty answers"),
        pytest.param([answered(**ONE_PIECE)] * 20, ["tpot:p95=1ms"], NOT_MEASURED, id="one piece"),
        pytest.param([answered(**NO_USAGE)] * 20, ["tpot:p95=1s"], NOT_MEASURED, id="no usage"),
        pytest.param([answered(tokens=1)] * 20, ["tpot:p95=1s"], NOT_MEASURED, id="one token"),
        pytest.param([answered(**ONE_PIECE)] * 20, ["tpot:p95=1s", "attainment=1%"], NOT_MEASURED, id="unknown attainment"),
        pytest.param([answered()] * 99 + [answered(**ONE_PIECE)], ["tpot:p95=1s"], PASSED, id="one unknown of 100"),
        pytest.param([answered()] * 94 + [answered(**ONE_PIECE)] * 6, ["tpot:p95=1s"], NOT_MEASURED, id="6 unknown of 100"),
        pytest.param([answered()] * 94 + [answered(**ONE_PIECE)] * 6, ["tpot:p95=1ms"], MISSED, id="missed anyway"),
        pytest.param([answered()] * 20 + [answered(tokens=1)] * 80, ["tpot:p95=11ms"], PASSED, id="one token has no tpot"),
        pytest.param([answered()], ["ttft:p99=1s"], TOO_FEW, id="one request"),
        pytest.param([answered()] * 99, ["ttft:p99=1s"], TOO_FEW, id="99 for p99"),
        pytest.param([answered()] * 100, ["ttft:p99=1s"], PASSED, id="100 for p99"),
        pytest.param([answered()] * 19, ["ttft:p95=1s"], TOO_FEW, id="19 for p95"),
        pytest.param([answered()] * 9, ["ttft:p90=1s"], TOO_FEW, id="9 for p90"),
        pytest.param([answered()] * 10, ["ttft:p90=1s"], PASSED, id="10 for p90"),
        pytest.param([answered()], ["ttft:p50=1s"], TOO_FEW, id="1 for p50"),
        pytest.param([answered()] * 2, ["ttft:p50=1s"], PASSED, id="2 for p50"),
        pytest.param([answered(2.0)], ["ttft:p99=1s"], TOO_FEW, id="one slow request tells nothing either"),
        pytest.param([answered(tokens=1)] * 90 + [answered()] * 10, ["tpot:p95=1s"], TOO_FEW, id="10 with a tpot"),
        pytest.param([answered()] * 2, ["error_rate=1%"], TOO_FEW, id="2 for an error rate"),
        pytest.param([answered()] * 19, ["error_rate=1%"], TOO_FEW, id="19 for an error rate"),
        pytest.param([answered()] * 19, ["error_rate=0%"], TOO_FEW, id="19 for no errors"),
        pytest.param([answered()] * 20, ["error_rate=1%"], PASSED, id="20 for an error rate"),
        pytest.param([answered()] * 5, ["attainment=99%"], TOO_FEW, id="5 for attainment"),
        pytest.param([answered()] * 20, ["attainment=99%"], PASSED, id="20 for attainment"),
        pytest.param([answered()] * 9 + [failed()], ["error_rate=1%"], TOO_FEW, id="one error of 10 may be chance"),
        pytest.param([answered()] * 5 + [failed()] * 5, ["error_rate=1%"], MISSED, id="5 errors of 10 are not chance"),
        pytest.param([answered(**AGAIN)] * 5 + [answered()] * 95, ["error_rate=0%"], PASSED, id="5 % sent again"),
        pytest.param([answered(**AGAIN)] * 6 + [answered()] * 94, ["error_rate=0%"], NOT_MEASURED, id="6 % sent again"),
        pytest.param([answered(2.0, **AGAIN)] * 20, ["ttft:p95=1s"], MISSED, id="sent again and too late"),
        pytest.param([answered(**AGAIN)] * 20, [], NO_OBJECTIVES, id="sent again, no objectives"),
        pytest.param([failed(**AGAIN)] * 6 + [answered()] * 94, ["error_rate=6%"], PASSED, id="sent again in vain"),
        pytest.param([], ["error_rate=1%"], TOO_FEW, id="no request"),
        pytest.param([], [], TOO_FEW, id="no request, no objective"),
        pytest.param([failed(ErrorClass.REFUSED)] * 3, [], UNREACHABLE, id="refused"),
        pytest.param([failed(ErrorClass.CLIENT_ERROR)] * 3, [], UNREACHABLE, id="404 without objectives"),
        pytest.param([failed(ErrorClass.TIMEOUT)] * 3, ["error_rate=99%"], UNREACHABLE, id="even if errors are allowed"),
        pytest.param([failed()] * 300, ["ttft:p99=1s"], UNREACHABLE, id="nothing but errors"),
        pytest.param([answered()] * 20, [], NO_OBJECTIVES, id="no objectives"),
        pytest.param([answered()] + [failed()] * 99, [], NO_OBJECTIVES, id="errors, no objectives"),
    ],
)  # fmt: skip
def test_verdicts(samples: list[Sample], objectives: list[str], expected: tuple[str, str, int]) -> None:
    summary = run(samples, *objectives)
    assert outcome(summary) == expected
    assert all(result.met for result in summary.slo) or expected != PASSED
    assert all(result.judged for result in summary.slo) or expected not in (PASSED, MISSED)
    assert not any(result.met and not result.judged for result in summary.slo)


def test_a_verdict_says_that_the_server_may_have_dropped_requests() -> None:
    summary = run([answered(**AGAIN)] * 30 + [answered()] * 70, "error_rate=0%")
    assert summary.message.startswith("30 of 100 requests were answered only when sent again (maximum: 5 %), because")
    assert "may have read and dropped them" in summary.message


@pytest.mark.parametrize("samples", [[answered()] * 50, [failed()] * 50, [], [answered(9.0)] * 50])
def test_a_run_that_was_interrupted_is_never_judged(samples: list[Sample]) -> None:
    summary = run(samples, "ttft:p95=1s", interrupted=True)
    assert outcome(summary) == CANCELED
    assert summary.partial


def test_one_missed_objective_fails_the_run_although_another_cannot_be_told() -> None:
    samples = [answered(is_spread=False)] * 15 + [failed()] * 5
    summary = run(samples, "tpot:p95=1s", "error_rate=1%", "ttft:p99=1s")
    assert outcome(summary) == MISSED
    assert "Error rate was 25%" in summary.message
    assert "TTFT p99 needs at least 100 requests, and there were 20" in summary.message


def test_without_streaming_there_is_no_time_to_first_token() -> None:
    document = document_of("ttft:p95=1s", stream=False)
    summary = summarize(measure([answered(is_spread=False)] * 20, document), document)
    assert outcome(summary) == NOT_MEASURED
    assert summary.ttft is None
    assert summary.tpot is None
    assert "TTFT is unknown for all 20 answers: the responses were not streamed" in summary.unknown
    assert summary.slo[0].measured == NOTHING_MEASURED


@pytest.mark.parametrize("objective", ["ttft:p95=1s", "request_latency:p95=1100ms", "ttft:p50=1s", "ttft:p99=1s"])
@pytest.mark.parametrize(("factor", "expected"), [(0.99, PASSED), (1.0, PASSED), (1.01, MISSED), (1.000002, MISSED)])
def test_one_percent_around_a_threshold_flips_the_verdict(
    objective: str, factor: float, expected: tuple[str, str, int]
) -> None:
    """The threshold is the middle of a bucket of the histogram, which is 1 ms wide here."""
    samples = [answered(factor, tokens=11)] * 200 if "ttft" in objective else [answered(1.1 * factor - 0.1)] * 200
    assert outcome(run(samples, objective)) == expected


@pytest.mark.parametrize("microseconds", [1_000_000, 1_000_001, 1_023_999, 1_024_000, 1_024_001, 2_048_000])
def test_thresholds_are_exact_to_the_microsecond_at_every_edge_of_a_bucket(microseconds: int) -> None:
    threshold = f"ttft:p95={microseconds}us"
    assert outcome(run([answered(microseconds / 1e6, at=0.0)] * 20, threshold)) == PASSED
    assert outcome(run([answered((microseconds + 1) / 1e6, at=0.0)] * 20, threshold)) == MISSED


def test_too_few_requests_say_how_many_are_needed() -> None:
    summary = run([answered()] * 5, "error_rate=1%", "ttft:p99=1s")
    assert summary.message == (
        "Error rate needs at least 20 requests, and there were 5. TTFT p99 needs at least 100 requests, and there were 5. "
        "At the rate of this run, increase the duration to at least 40m00s."
    )
    assert [result.needed for result in summary.slo] == [20, 100]
    one = run([answered()], "attainment=90%")
    assert one.message == (
        "Attainment needs at least 20 requests, and there was 1. "
        "At the rate of this run, increase the duration to at least 40m00s."
    )


@pytest.mark.parametrize(
    ("samples", "settings"),
    [
        pytest.param([answered()] * 20, {"interrupted": True}, id="interrupted"),
        pytest.param([answered()] * 20, {"throttled": 50.0}, id="limited by the load generator"),
        pytest.param([answered()] * 5, {}, id="too few requests"),
        pytest.param([answered(is_spread=False)] * 20, {}, id="not measured"),
    ],
)
def test_an_objective_of_a_run_that_cannot_tell_is_not_met(samples: list[Sample], settings: dict[str, Any]) -> None:
    summary = run(samples, "ttft:p50=1s", "tpot:p95=1s", **settings)
    assert summary.verdict in (Verdict.INVALID, Verdict.NONE)
    assert [(result.met, result.judged) for result in summary.slo] == [(False, False)] * 2


def test_an_objective_of_a_failed_run_can_be_met() -> None:
    summary = run([answered()] * 20, "ttft:p95=1s", "tpot:p95=1ms")
    assert [(result.met, result.judged) for result in summary.slo] == [(True, True), (False, True)]


def test_a_missed_objective_shows_more_than_its_threshold() -> None:
    summary = run([answered(1.0004, at=0.0)] * 20, "ttft:p95=1s")
    assert summary.slo[0].measured == "1.0004s"
    assert summary.slo[0].threshold == "1s"
    assert (
        "TTFT p95 was 1.0004s (95 % interval: 1s or more; objective: at most 1s, outside the interval)"
        in summary.message
    )


def test_a_message_says_if_the_threshold_lies_inside_the_interval() -> None:
    samples = [answered(0.1 + 0.01 * index, at=0.0) for index in range(100)]
    near = run(samples, "ttft:p50=600ms")
    assert near.slo[0].low == "490ms"
    assert near.slo[0].high == "700ms"
    assert near.message == (
        "The objective was met. TTFT p50 was 590ms (95 % interval: 490ms to 700ms; objective: at most 600ms, inside the "
        "interval)."
    )
    assert "objective: at most 2s, outside the interval" in run(samples, "ttft:p50=2s").message


def test_a_message_says_how_many_requests_an_objective_was_judged_on_if_not_all() -> None:
    one = answered(tokens=1)
    left_out = "because 970 answers have only one token"
    summary = run([one] * 970 + [answered()] * 30, "tpot:p50=50ms")
    assert outcome(summary) == PASSED
    assert summary.message.endswith(f"outside the interval); 30 of 1000 requests count, {left_out}.")
    assert left_out in run([one] * 970 + [answered()] * 30, "tpot:p50=5ms").message
    few = run([one] * 970 + [answered()], "tpot:p95=50ms")
    assert outcome(few) == TOO_FEW
    assert f"and there was 1; 1 of 971 requests counts, {left_out}." in few.message
    none = run([one] * 970, "tpot:p95=50ms")
    assert f"(objective: at most 50ms); 0 of 970 requests count, {left_out}." in none.message
    assert "only one token" not in run([one] * 5 + [answered()] * 30, "ttft:p50=1s").message


def test_a_percentile_that_failed_requests_reach_was_never_answered() -> None:
    summary = run([answered()] * 7 + [failed()] * 33, "ttft:p95=1s")
    assert summary.slo[0].measured == "never answered"
    assert summary.slo[0].requests == 40
    assert summary.ttft is not None
    assert summary.ttft.count == 7
    assert summary.message == (
        "TTFT p95 has no value, because 33 of 40 requests were never answered (95 % interval: never answered; "
        "objective: at most 1s, outside the interval)."
    )


def test_a_server_that_answers_nothing_is_named_with_its_own_words() -> None:
    words = "model 'x' not found\n"
    refused = [failed(ErrorClass.CLIENT_ERROR, detail=words), failed(ErrorClass.CLIENT_ERROR, at=5.0)]
    summary = run([*refused, failed(ErrorClass.RESET)])
    assert summary.message.startswith(
        "No request was answered: 2 of 3 requests were 4xx: model 'x' not found. Check the "
    )


def test_the_only_request_of_a_run_is_named_as_one() -> None:
    summary = run([failed(ErrorClass.REFUSED, detail="no connection")])
    assert summary.message.startswith("No request was answered: the only request was refused: no connection. Check ")


def test_answers_without_content_are_told_with_their_tokens_and_advice() -> None:
    summary = run([empty(tokens=20)] * 20, "error_rate=1%")
    assert summary.message.startswith("No request was answered: 20 of 20 requests were empty: no content. ")
    assert "maxTokens" in summary.message
    assert (summary.errors, summary.empty, summary.errors_by_class) == (20, 20, {"empty": 20})


def test_a_server_that_answers_nothing_in_the_warm_up_is_named_too() -> None:
    summary = run([failed(ErrorClass.REFUSED, at=-3.0)] * 5, "ttft:p95=1s", warmup=5.0)
    assert outcome(summary) == UNREACHABLE


def test_a_load_that_ends_before_the_first_measured_request_measured_nothing() -> None:
    assert outcome(run([answered(at=-3.0)] * 50, "ttft:p95=1s", warmup=5.0)) == TOO_FEW


class TestDelaysOfTheLoadGenerator:
    """The load generator was busy, so times that it read are up to 60 ms late."""

    LAG = (0.06,) * 100

    def test_make_a_near_miss_invalid(self) -> None:
        summary = run([answered(1.03)] * 20, "ttft:p95=1s", lag=self.LAG)
        assert outcome(summary) == LIMITED
        assert "The p99 delay of its event loop was 60ms (maximum: 10ms), which can change TTFT p95." in summary.message

    def test_do_not_excuse_a_slow_server(self) -> None:
        assert outcome(run([answered(1.2)] * 20, "ttft:p95=1s", lag=self.LAG)) == MISSED

    def test_do_not_spoil_a_run_that_passes_in_spite_of_them(self) -> None:
        summary = run([answered(0.98)] * 20, "ttft:p95=1s", "error_rate=1%", "attainment=90%", lag=self.LAG)
        assert outcome(summary) == PASSED
        assert summary.max_lag_p99_seconds == pytest.approx(0.06, abs=1e-4)

    def test_change_the_time_per_token_in_both_directions(self) -> None:
        # 10 gaps share a delay of 60 ms, so TPOT is between 4 and 16 ms.
        assert outcome(run([answered()] * 20, "tpot:p95=12ms", lag=self.LAG)) == LIMITED
        assert outcome(run([answered()] * 20, "tpot:p95=8ms", lag=self.LAG)) == LIMITED
        assert outcome(run([answered()] * 20, "tpot:p95=17ms", lag=self.LAG)) == PASSED
        assert outcome(run([answered()] * 20, "tpot:p95=3ms", lag=self.LAG)) == MISSED

    def test_can_hide_attainment(self) -> None:
        samples = [answered(1.03)] * 10 + [answered(0.5)] * 10
        assert outcome(run(samples, "ttft:p50=1s", "attainment=90%", lag=self.LAG)) == LIMITED
        far = [answered(2.0)] * 10 + [answered(0.5)] * 10
        assert outcome(run(far, "ttft:p50=1s", "attainment=90%", lag=self.LAG)) == MISSED

    def test_do_not_excuse_errors_or_a_dead_server(self) -> None:
        assert outcome(run([answered()] * 10 + [failed()] * 10, "error_rate=1%", lag=self.LAG)) == MISSED
        assert outcome(run([failed(ErrorClass.REFUSED)] * 20, "error_rate=1%", lag=self.LAG)) == UNREACHABLE

    def test_change_nothing_without_objectives(self) -> None:
        assert outcome(run([answered()] * 20, lag=self.LAG)) == NO_OBJECTIVES

    def test_of_up_to_ten_milliseconds_are_normal(self) -> None:
        assert outcome(run([answered(1.005)] * 20, "ttft:p95=1s", lag=(0.0099,) * 100)) == MISSED

    def test_do_not_count_if_one_in_a_hundred_is_long(self) -> None:
        assert outcome(run([answered(1.005)] * 20, "ttft:p95=1s", lag=(0.001,) * 990 + (0.5,) * 10)) == MISSED


class TestBusyLoadGenerator:
    """The event loop had short delays, but the load generator used nearly a CPU core, so they are its own work."""

    BUSY: ClassVar[dict[str, Any]] = {"lag": (0.006,) * 100, "cpu": 0.9 * LOAD_SECONDS}

    def test_makes_a_miss_invalid_that_is_smaller_than_its_delays(self) -> None:
        summary = run([answered(1.005)] * 20, "ttft:p95=1s", **self.BUSY)
        assert outcome(summary) == LIMITED
        sentence = "It used 90 % of a CPU core, and the p99 delay of its event loop was 6ms, which can change TTFT p95."
        assert sentence in summary.message

    def test_is_named_beside_a_larger_miss(self) -> None:
        summary = run([answered(1.05)] * 20, "ttft:p95=1s", **self.BUSY)
        assert outcome(summary) == MISSED
        assert summary.message.endswith(
            "The load generator used 90 % of a CPU core, and the p99 delay of its event loop was 6ms."
        )

    def test_is_not_named_beside_other_objectives_or_if_it_had_time(self) -> None:
        assert "CPU" not in run([answered()] * 10 + [failed()] * 10, "error_rate=1%", **self.BUSY).message
        had_time = {**self.BUSY, "cpu": 0.79 * LOAD_SECONDS}
        assert outcome(run([answered(1.005)] * 20, "ttft:p95=1s", **had_time)) == MISSED
        assert "CPU" not in run([answered(1.05)] * 20, "ttft:p95=1s", **had_time).message

    def test_does_not_spoil_objectives_that_were_met(self) -> None:
        samples = [answered(0.999)] * 990 + [answered(0.999, tokens=2)] * 10
        assert outcome(run(samples, "ttft:p95=1s", "tpot:p99=10ms", **self.BUSY)) == PASSED

    def test_is_the_busiest_pod(self) -> None:
        document = document_of("ttft:p95=1s")
        parts = [measure([answered(1.05)] * 20, document, cpu=share * LOAD_SECONDS) for share in (0.2, 0.95, 0.3)]
        assert "used 95 % of a CPU core" in summarize(merge(parts), document).message


class TestLoadThatWasNotSent:
    """100 requests are due. Those that were sent after the end of the load are not the offered load."""

    @staticmethod
    def late(count: int, **fields: Any) -> list[Sample]:
        late = answered(at=LOAD_SECONDS + 1, **{"scheduled": 50.0, **fields})
        return [answered()] * (100 - count) + [late] * count

    def test_is_the_fault_of_the_load_generator(self) -> None:
        summary = run(self.late(20), "ttft:p95=1s")
        assert outcome(summary) == LIMITED
        assert "It sent 80 % of the due requests before the load ended (minimum: 95 %)" in summary.message

    def test_is_no_matter_up_to_five_percent(self) -> None:
        assert outcome(run(self.late(5), "ttft:p95=1s")) == PASSED

    def test_is_the_fault_of_the_server_if_the_maximum_in_flight_was_reached(self) -> None:
        assert outcome(run(self.late(20, held=51.0), "ttft:p50=1s")) == PASSED

    @pytest.mark.parametrize(("held", "expected"), [(False, LIMITED), (True, PASSED)])
    def test_counts_too_if_it_was_never_sent(self, held: bool, expected: tuple[str, str, int]) -> None:
        document = document_of("ttft:p95=1s")
        recorder = Recorder(document)
        recorder.begin(0.0, 0.0, LOAD_SECONDS)
        for _ in range(80):
            recorder.record(answered())
        for _ in range(20):
            recorder.skip(50.0, held=held)
        summary = summarize(recorder.finish(LOAD_SECONDS), document)
        assert (summary.offered, summary.sent) == (100, 80)
        assert outcome(summary) == expected

    @pytest.mark.parametrize(("count", "expected"), [(3, PASSED), (20, LIMITED)])
    def test_is_no_failure_of_the_server(self, count: int, expected: tuple[str, str, int]) -> None:
        now = LOAD_SECONDS + 60
        kept = failed(ErrorClass.UNFINISHED, scheduled=50.0, sent=now, ended=now)
        summary = run([*[answered()] * (100 - count), *[kept] * count], "error_rate=1%", "ttft:p95=1s")
        assert outcome(summary) == expected
        assert (summary.requests, summary.errors, summary.offered) == (100 - count, 0, 100)

    def test_is_a_failure_if_the_maximum_in_flight_was_reached_until_the_end(self) -> None:
        now = LOAD_SECONDS + 60
        held = failed(ErrorClass.UNFINISHED, scheduled=50.0, sent=now, ended=now, held=now - 50)
        assert outcome(run([*[answered()] * 97, *[held] * 3], "error_rate=1%")) == MISSED

    def test_to_a_slow_or_dead_server_is_not_its_fault(self) -> None:
        samples = [failed(ErrorClass.REFUSED, at=LOAD_SECONDS + 1, scheduled=1.0)] * 100
        assert outcome(run(samples, "ttft:p95=1s")) == UNREACHABLE


def test_the_limit_of_open_files_is_named_if_it_kept_requests_back() -> None:
    document = document_of("error_rate=1%")
    late = [answered(at=LOAD_SECONDS + 1, scheduled=50.0)] * 10
    measured = measure([*[answered()] * 90, *late], document)
    assert summarize(measured, document).message.endswith("Give it more CPU, or reduce the load.")
    measured.blocked = 12
    assert summarize(measured, document).message == (
        "The load generator was the bottleneck. It sent 90 % of the due requests before the load ended (minimum: 95 %). "
        "12 requests waited because it could not open another connection: its limit of open files was reached. "
        "Raise the limit (`ulimit -n`), or reduce the load."
    )


@pytest.mark.parametrize(
    ("seconds", "ttft", "expected"), [(90.0, 0.1, LIMITED), (49.0, 0.1, PASSED), (90.0, 2.0, MISSED)]
)
def test_users_whose_requests_the_load_generator_sent_late_were_fewer(
    seconds: float, ttft: float, expected: tuple[str, str, int]
) -> None:
    document = document_of("ttft:p95=1s", concurrency=10)
    recorder = Recorder(document)
    recorder.begin(-5.0, 0.0, LOAD_SECONDS)
    for index in range(100):
        recorder.record(answered(ttft, at=float(index)))
        recorder.add_idle(float(index), index + 0.009)
    recorder.add_idle(-3.0, seconds)
    summary = summarize(recorder.finish(LOAD_SECONDS), document)
    assert outcome(summary) == expected
    sentence = "For 9 % of their time, users were ready to send a request that it sent later (maximum: 5 %)"
    assert (sentence in summary.message) is (expected == LIMITED)


def test_throttling_makes_a_run_invalid() -> None:
    assert outcome(run([answered()] * 20, "ttft:p95=1s", throttled=1.1)) == LIMITED
    assert outcome(run([answered()] * 20, "ttft:p95=1s", throttled=0.9)) == PASSED


class TestServerThatIsDownForPartOfTheRun:
    """The users of a closed loop wait after failures, so few requests fail although the server is down for long."""

    DOWN = (failed(ErrorClass.REFUSED, at=40.0, retry_after=5.0),) * 10

    def test_does_not_pass_because_few_requests_failed(self) -> None:
        summary = run([*[answered()] * 990, *self.DOWN], "error_rate=2%", "ttft:p95=1s")
        assert outcome(summary) == NOT_MEASURED
        assert summary.message == (
            "The load was not that of the document, because users waited for 50 % of the time after failures "
            "(Retry-After, or no connection)."
        )

    def test_fails_if_an_objective_was_missed_all_the_same(self) -> None:
        assert outcome(run([*[answered()] * 90, *self.DOWN], "error_rate=2%")) == MISSED

    def test_passes_if_it_was_short(self) -> None:
        assert outcome(run([*[answered()] * 990, self.DOWN[0]], "error_rate=2%")) == PASSED

    def test_is_told_without_objectives(self) -> None:
        summary = run([*[answered()] * 90, *self.DOWN])
        assert outcome(summary) == NO_OBJECTIVES
        assert "Users waited for 50 % of the time" in summary.message

    def test_does_not_count_pauses_after_the_end_of_the_load(self) -> None:
        late = failed(ErrorClass.REFUSED, at=LOAD_SECONDS - 1, retry_after=600.0)
        assert outcome(run([*[answered()] * 990, late], "error_rate=2%")) == PASSED

    def test_is_judged_by_its_errors_in_an_open_loop_which_does_not_wait(self) -> None:
        document = document_of("error_rate=2%", rate=10.0)
        summary = summarize(measure([*[answered()] * 990, *self.DOWN], document), document)
        assert outcome(summary) == PASSED


class TestServerThatHangs:
    """A user of a closed loop sends nothing while a request is in flight, so few requests show that a server hangs."""

    #: Two users get an answer every 0.2 s for 40 of 100 s.
    BEFORE = tuple(answered(at=0.2 * index) for index in range(200) for _ in range(2))

    def test_until_the_end_does_not_pass_because_few_requests_were_in_flight(self) -> None:
        hung = [failed(ErrorClass.UNFINISHED, at=40.0, ended=102.0)] * 2
        summary = self.run([*self.BEFORE, *hung], "error_rate=5%", "request_latency:p95=2s")
        assert outcome(summary) == NOT_MEASURED
        assert "users waited for 60 % of the time for 2 requests that failed, and sent nothing" in summary.message
        assert "and the server ended no request for 59s or more (59 % of the load) while" in summary.message

    def test_in_the_middle_does_not_pass_although_every_request_was_answered(self) -> None:
        hung = [answered(45.0, at=40.0)] * 2
        after = [answered(at=85.2 + 0.2 * index) for index in range(70) for _ in range(2)]
        summary = self.run([*self.BEFORE, *hung, *after], "request_latency:p95=2s")
        assert outcome(summary) == NOT_MEASURED
        assert "because the server ended no request for 44s or more (44 % of the load)" in summary.message
        assert summary.message.endswith(
            "Find out why, or increase the duration to at least 15m00s, of which this is 5 % or less."
        )

    @pytest.mark.parametrize("before", [0.0, 1.5], ids=["at once", "some time"])
    def test_is_not_a_load_generator_that_stood_still_after_the_last_answer(self, before: float) -> None:
        document = document_of("request_latency:p95=2s", concurrency=2)
        late = [answered(10.0 + before, at=40.0)] * 2
        after = [answered(at=50.3 + before + 0.2 * index) for index in range(200) for _ in range(2)]
        measurements = measure([*self.BEFORE, *late, *after], document)
        measurements.lag.record(9.9)
        summary = summarize(measurements, document)
        assert outcome(summary) == LIMITED
        assert "it stood still for 9.9s (10 % of the load)" in summary.message.lower()
        assert "the server" not in summary.message

    def test_and_answers_in_the_drain_does_not_pass(self) -> None:
        summary = self.run([*self.BEFORE, *[answered(65.0, at=40.0)] * 2], "request_latency:p95=2s", "error_rate=5%")
        assert outcome(summary) == NOT_MEASURED

    def test_for_one_of_two_users_does_not_pass(self) -> None:
        other = [answered(at=40 + 0.2 * index) for index in range(299)]
        hung = failed(ErrorClass.TIMEOUT, at=40.0, ended=100.0)
        assert outcome(self.run([*self.BEFORE, *other, hung], "error_rate=5%")) == NOT_MEASURED

    def test_is_told_without_objectives(self) -> None:
        summary = self.run([*self.BEFORE, *[answered(65.0, at=40.0)] * 2])
        assert outcome(summary) == NO_OBJECTIVES
        assert "The server ended no request for 59s or more" in summary.message

    def test_is_not_one_that_streams_a_long_answer(self) -> None:
        long = [answered(at=40.0, last=90.0, ended=90.0, gaps=[0.1] * 500)] * 2
        after = [answered(at=90.2 + 0.2 * index) for index in range(40) for _ in range(2)]
        assert outcome(self.run([*self.BEFORE, *long, *after], "ttft:p95=1s")) == PASSED

    def test_is_not_one_that_needs_long_for_every_answer(self) -> None:
        samples = [answered(20.0, at=20.1 * index) for index in range(4) for _ in range(10)]
        assert outcome(self.run(samples, "request_latency:p95=30s", users=10)) == PASSED

    def test_is_not_one_that_fails_quickly_within_the_error_rate(self) -> None:
        samples = [failed(at=0.2 * index) if index % 12 == 0 else answered(at=0.2 * index) for index in range(499)]
        assert outcome(self.run(samples, "error_rate=10%", users=1)) == PASSED

    def test_is_not_one_that_loads_its_model_first(self) -> None:
        summary = self.run([*self.cold(0.0, 20.0), *self.after(20.2, 300)], "ttft:p95=1s", "error_rate=1%")
        assert outcome(summary) == PASSED
        assert "The server was loading the model for 20s of the load" in summary.message
        assert "a warm-up leaves it out" in summary.message

    def test_is_not_one_that_loads_its_model_in_the_warm_up_and_longer(self) -> None:
        samples = [*self.cold(-5.0, 20.0), *self.after(15.2, 300)]
        document = document_of("ttft:p95=1s", concurrency=2)
        summary = summarize(measure(samples, document, warmup=5.0), document)
        assert outcome(summary) == PASSED
        assert "loading the model for 15s of the load" in summary.message

    def test_after_it_has_loaded_its_model_does_not_pass(self) -> None:
        hung = [answered(40.0, at=30.2)] * 2
        summary = self.run(
            [*self.cold(0.0, 20.0), *self.after(20.2, 48), *hung, *self.after(70.4, 140)], "ttft:p90=30s"
        )
        assert outcome(summary) == NOT_MEASURED
        assert "the server ended no request for 39s or more" in summary.message

    def test_and_then_loads_its_model_again_does_not_pass(self) -> None:
        samples = [*self.BEFORE, *self.cold(40.0, 45.0), *self.after(85.2, 70)]
        assert outcome(self.run(samples, "request_latency:p95=2s")) == NOT_MEASURED

    @staticmethod
    def cold(at: float, seconds: float) -> list[Sample]:
        """Two requests for which the server loads its model."""
        return [answered(seconds, at=at, server_load=seconds) for _ in range(2)]

    @staticmethod
    def after(at: float, count: int) -> list[Sample]:
        """Answers for two users, one every 0.2 s."""
        return [answered(at=at + 0.2 * index, server_load=0.03) for index in range(count) for _ in range(2)]

    @staticmethod
    def run(samples: list[Sample], *objectives: str, users: int = 2) -> Summary:
        document = document_of(*objectives, concurrency=users)
        return summarize(measure(samples, document), document)


class TestServerThatHangsFromTheWarmUpOn:
    """Requests of the warm-up are in no figure. Those that hang keep their users, or their slots, from the load."""

    #: The only user, or the only slot, that is left gets an answer every 0.2 s.
    OTHERS = tuple(answered(at=0.2 * index) for index in range(499))
    #: Three requests of the warm-up hang until the end of the drain, or until 95 s of the load.
    HUNG = (failed(ErrorClass.UNFINISHED, at=-2.0, ended=LOAD_SECONDS + 2),) * 3
    LATE = (answered(97.0, at=-2.0),) * 3

    @pytest.mark.parametrize("load", [
        {"concurrency": 4}, {"sessions": RunSessions(4)}, {"stages": (RunStage(LOAD_SECONDS, concurrency=4),)},
    ])  # fmt: skip
    def test_does_not_pass_with_the_load_of_the_other_users(self, load: dict[str, Any]) -> None:
        summary = self.run([*self.HUNG, *self.OTHERS], "ttft:p95=500ms", "error_rate=1%", **load)
        assert outcome(summary) == NOT_MEASURED
        assert (summary.requests, summary.errors) == (499, 0)
        assert (
            "users waited for 75 % of the time for 3 requests that failed (3 sent in the warm-up), and sent "
            "nothing meanwhile"
        ) in summary.message

    def test_does_not_pass_if_it_answers_late_because_such_answers_are_not_measured(self) -> None:
        summary = self.run([*self.LATE, *self.OTHERS], "ttft:p95=500ms", "error_rate=1%", concurrency=4)
        assert outcome(summary) == NOT_MEASURED
        assert (
            "users waited for 71 % of the time for 3 requests of the warm-up, whose answers came late and were not "
            "measured"
        ) in summary.message

    @pytest.mark.parametrize("samples", [HUNG, LATE])
    def test_does_not_pass_with_the_slots_that_are_left(self, samples: tuple[Sample, ...]) -> None:
        summary = self.run([*samples, *self.OTHERS], "ttft:p95=500ms", "error_rate=1%", rate=5.0, max_in_flight=4)
        assert outcome(summary) == NOT_MEASURED
        assert "3 requests of the warm-up, which failed or came late, took up 7" in summary.message
        assert "% of maxInFlight (4)" in summary.message

    def test_is_judged_by_its_other_requests_if_up_to_five_percent_of_the_users_hang(self) -> None:
        for load in ({"concurrency": 60}, {"rate": 5.0, "max_in_flight": 60}):
            assert outcome(self.run([*self.HUNG, *self.OTHERS], "ttft:p95=500ms", **load)) == PASSED

    def test_is_judged_by_the_load_if_it_fails_only_in_the_warm_up(self) -> None:
        hung = [failed(ErrorClass.TIMEOUT, at=-5.0, ended=-0.1)] * 3
        assert outcome(self.run([*hung, *self.OTHERS], "ttft:p95=500ms", concurrency=4)) == PASSED

    def test_is_not_one_that_needs_long_for_every_answer(self) -> None:
        samples = [answered(20.0, at=20.1 * index - 2) for index in range(6) for _ in range(10)]
        assert outcome(self.run(samples, "error_rate=1%", concurrency=10)) == PASSED

    def test_does_not_pass_if_users_wait_in_the_load_after_failures_of_the_warm_up(self) -> None:
        refused = [failed(ErrorClass.UNAVAILABLE, at=-2.0, retry_after=300.0)] * 3
        summary = self.run([*refused, *self.OTHERS], "ttft:p95=500ms", "error_rate=1%", concurrency=4)
        assert outcome(summary) == NOT_MEASURED
        assert "users waited for 75 % of the time after failures (Retry-After" in summary.message

    @staticmethod
    def run(samples: Sequence[Sample], *objectives: str, **load: Any) -> Summary:
        document = document_of(*objectives, **load)
        return summarize(measure(samples, document, warmup=5.0), document)


class TestUserThatHangsInARamp:
    """The time of the users is the area below the curve of the load: 30 users for 100 s are 15 in a ramp from 0."""

    OTHERS = tuple(answered(at=0.05 * index) for index in range(1990))
    HUNG = failed(ErrorClass.UNFINISHED, at=1.0, ended=LOAD_SECONDS + 1)

    @pytest.mark.parametrize("stages", [
        (RunStage(100, concurrency=30, ramp=True),),
        (RunStage(50, concurrency=30, ramp=True), RunStage(50, concurrency=0, ramp=True)),
        (RunStage(50, concurrency=10), RunStage(50, concurrency=30, ramp=True)),
        (RunStage(50, concurrency=15), RunStage(50, concurrency=15)),
    ])  # fmt: skip
    def test_does_not_pass_if_it_is_more_than_five_percent_of_the_users_on_average(
        self, stages: tuple[RunStage, ...]
    ) -> None:
        assert outcome(self.run(stages)) == NOT_MEASURED

    def test_is_judged_by_its_error_if_it_is_less(self) -> None:
        assert outcome(self.run((RunStage(100, concurrency=42, ramp=True),))) == PASSED

    def test_is_compared_with_the_part_of_the_load_that_was_sent(self) -> None:
        """The load ended in the first of two stages, with fewer users than their mean."""
        stages = (RunStage(100, concurrency=15), RunStage(100, concurrency=100))
        assert outcome(self.run(stages)) == NOT_MEASURED

    def run(self, stages: tuple[RunStage, ...]) -> Summary:
        document = document_of("ttft:p95=900ms", "error_rate=5%", stages=stages)
        return summarize(measure([*self.OTHERS, self.HUNG], document), document)


class TestOpenLoopWhoseRequestsWereKeptBack:
    """`maxInFlight` keeps requests back while the server is slow: their latencies from t0 do not show the wait."""

    def test_does_not_pass_if_the_latencies_from_the_schedule_miss(self) -> None:
        samples = [answered(0.4, at=0.5 * index, scheduled=0.1 * index, held=0.4 * index) for index in range(20)]
        summary = self.run(samples, "ttft:p95=1s")
        assert outcome(summary) == NOT_MEASURED
        assert "TTFT p95 misses its objective if it is measured from the time at which" in summary.message

    def test_does_not_pass_if_fewer_requests_were_sent_than_offered(self) -> None:
        late = answered(at=LOAD_SECONDS + 1, scheduled=99.9, held=1.1)
        summary = self.run([*[answered()] * 80, *[late] * 20], "error_rate=5%")
        assert outcome(summary) == NOT_MEASURED
        assert "80 of 100 due requests were sent before the load ended, because maxInFlight (1)" in summary.message

    def test_does_not_pass_if_requests_attained_only_from_the_time_of_sending(self) -> None:
        samples = [answered(0.4, at=0.5 * index, scheduled=0.1 * index, held=0.4 * index) for index in range(20)]
        assert outcome(self.run(samples, "ttft:p50=10s", "attainment=100%")) == PASSED
        assert outcome(self.run(samples, "request_latency:p50=4900ms", "attainment=100%")) == NOT_MEASURED

    def test_passes_if_the_maximum_was_reached_without_harm(self) -> None:
        samples = [answered(0.4, at=0.5 * index, scheduled=0.5 * index - 0.1, held=0.1) for index in range(1, 21)]
        assert outcome(self.run(samples, "ttft:p95=1s", "request_latency:p95=1s", "attainment=95%")) == PASSED

    @staticmethod
    def run(samples: list[Sample], *objectives: str) -> Summary:
        document = document_of(*objectives, rate=10.0, max_in_flight=1)
        return summarize(measure(samples, document), document)


class TestOpenLoopThatSentLate:
    """The load generator was too slow to send requests when they were due, although its event loop was not delayed."""

    @pytest.mark.parametrize("load", [{"rate": 10.0}, {"stages": (RunStage(100, rate=10.0),)}, {}])
    def test_does_not_pass_if_a_latency_from_the_schedule_misses(self, load: dict[str, Any]) -> None:
        summary = self.run(0.25, "ttft:p95=200ms", **load)
        assert outcome(summary) == LIMITED
        assert summary.message == (
            "The load generator was the bottleneck. It sent requests up to 250ms late (p95: 250ms). TTFT p95 misses its "
            "objective if it is measured from the time at which each request was due. Give it more CPU, or reduce the load."
        )

    def test_does_not_pass_if_requests_attained_only_from_the_time_of_sending(self) -> None:
        assert outcome(self.run(0.25, "request_latency:p50=300ms", "attainment=95%", rate=10.0)) == LIMITED

    def test_does_not_pass_with_a_maximum_that_kept_no_request_back(self) -> None:
        summary = self.run(0.25, "ttft:p95=200ms", lag=0.2, rate=10.0, max_in_flight=1000)
        assert outcome(summary) == LIMITED

    def test_passes_if_the_delay_changes_no_objective(self) -> None:
        assert outcome(self.run(0.25, "ttft:p95=400ms", "tpot:p95=20ms", "error_rate=1%", rate=10.0)) == PASSED

    def test_passes_with_a_delay_that_is_normal(self) -> None:
        assert outcome(self.run(0.009, "ttft:p95=101ms", rate=10.0)) == PASSED

    def test_fails_if_an_objective_is_missed_anyway(self) -> None:
        assert outcome(self.run(0.25, "ttft:p95=200ms", "request_latency:p95=100ms", rate=10.0)) == MISSED

    def test_is_only_told_by_its_figures_in_a_closed_loop(self) -> None:
        assert outcome(self.run(0.25, "ttft:p95=200ms", concurrency=10)) == PASSED

    @staticmethod
    def run(delay: float, *objectives: str, lag: float = 0.0, **load: Any) -> Summary:
        document = document_of(*objectives, **load)
        if not load:
            document = replace(document, load=RunLoad(), trace=RunTrace())
        samples = [answered(at=0.1 * index + delay, scheduled=0.1 * index) for index in range(990)]
        return summarize(measure(samples, document, lag=(lag,) * 100), document)


def saturated(*objectives: str) -> Summary:
    document = document_of(*objectives, rate=10)
    measurements = measure([answered()] * 20, document)
    measurements.saturation = Saturation(42.0, 9.5)
    return summarize(measurements, document)


def test_a_saturated_run_fails_although_its_objectives_were_still_met() -> None:
    summary = saturated("ttft:p95=1s")
    assert outcome(summary) == ("Failed", "Saturated", 99)
    assert summary.message == "The server could not follow the offered rate from 42s on, at 9.5 requests/s."


def test_saturation_is_only_said_if_nothing_was_asked() -> None:
    summary = saturated()
    assert outcome(summary) == NO_OBJECTIVES
    assert "The server could not follow the offered rate" in summary.message


def test_a_sweep_passes_with_the_rate_that_met_the_objectives() -> None:
    summary = sweep((1.0, 0.1), (8.0, 5.0))
    assert outcome(summary) == PASSED
    assert [step.met for step in summary.steps] == [True, False]


def test_a_sweep_fails_if_even_the_lowest_rate_missed_an_objective() -> None:
    summary = sweep((1.0, 3.0), (8.0, 5.0), found=SweepResult(None, 0.0, 1.0))
    assert outcome(summary) == MISSED
    assert "TTFT p95 was 3s" in summary.message


def test_a_sweep_whose_lowest_rate_met_the_objectives_with_a_growing_backlog_is_saturated() -> None:
    summary = sweep((1.0, 0.1), found=SweepResult(None, 0.0, 1.0, "The server did not keep up with 1 request/s."))
    assert outcome(summary) == ("Failed", "Saturated", 99)
    assert summary.message == "The server did not keep up with 1 request/s."


def test_a_sweep_is_judged_at_its_result_and_not_above() -> None:
    summary = sweep((1.0, 0.2), (8.0, 0.9), found=SweepResult(1.0, 0.9, 1.1))
    assert outcome(summary) == PASSED
    assert summary.slo[0].measured == "200ms"


def test_the_verdict_on_a_sweep_has_the_interval_of_its_result() -> None:
    found = SweepResult(1.0, 0.6, 1.1, "the highest rate is 1 request/s; found with 12 steps")
    summary = sweep((1.0, 0.2), (8.0, 5.0), found=found)
    assert "found with 12 steps; 95 % interval 0.6 to 1.1 requests/s." in summary.message


def test_a_sweep_with_too_few_requests_per_rate_cannot_tell() -> None:
    assert outcome(sweep((1.0, 0.2), count=19)) == TOO_FEW


def test_a_sweep_whose_missed_rates_the_load_generator_may_have_delayed_cannot_tell() -> None:
    summary = sweep((1.0, 0.2), (8.0, 1.2), lag=0.3)
    assert outcome(summary) == LIMITED
    assert "300ms (maximum: 10ms), which can be why the objectives were missed at 8.0/s" in summary.message


def test_many_rates_that_the_load_generator_may_have_delayed_are_told_as_a_range() -> None:
    summary = sweep((1.0, 0.2), (9.0, 1.2), (6.0, 1.2), (8.0, 1.2), (7.0, 1.2), lag=0.3)
    assert "why the objectives were missed at 4 rates (6.0/s to 9.0/s). Give it more CPU" in summary.message


def test_a_sweep_whose_rates_were_missed_by_more_than_the_delays_passes_and_tells_them() -> None:
    summary = sweep((1.0, 0.2), (8.0, 5.0), lag=0.3)
    assert outcome(summary) == PASSED
    assert "The p99 delay of the load generator's event loop was 300ms (maximum: 10ms)." in summary.message


def test_a_rate_of_a_sweep_is_shown_as_the_search_judged_it_with_the_reason() -> None:
    summary = sweep((1.0, 0.2), (8.0, 0.3), (10.0, 5.0), decisions={0: (True, 0.0), 1: (False, 0.12), 2: (False, 4.0)})
    assert [(step.met, step.reason) for step in summary.steps] == [
        (True, ""), (False, "latencies grew by 120ms"), (False, ""),
    ]  # fmt: skip


def test_a_sweep_is_not_judged_at_a_rate_that_the_search_found_too_high() -> None:
    found = SweepResult(8.1, 7.9, 8.3)
    summary = sweep((1.0, 0.2), (8.0, 0.3), found=found, decisions={0: (True, 0.0), 1: (False, 0.12)})
    assert summary.slo[0].measured == "200ms"


@pytest.mark.parametrize("growth", [0.12, 0.44])
def test_a_rate_at_which_the_load_generator_may_have_made_latencies_grow_cannot_be_told(growth: float) -> None:
    summary = sweep((1.0, 0.2), (8.0, 0.3), lag=0.3, decisions={0: (True, 0.0), 1: (False, growth)})
    assert outcome(summary) == LIMITED
    assert "which can be why the objectives were missed at 8.0/s" in summary.message


def test_a_rate_that_was_missed_because_requests_were_sent_late_cannot_be_told() -> None:
    summary = sweep((1.0, 0.2), (8.0, 0.3), decisions={0: (True, 0.0), 1: (False, 0.0)}, late=(1,))
    assert outcome(summary) == LIMITED
    assert "It sent requests late, which can be why the objectives were missed at 8.0/s." in summary.message
    assert [(step.met, step.reason) for step in summary.steps] == [(True, ""), (False, "requests were sent late")]


def test_a_sweep_whose_lowest_rate_was_sent_late_is_not_saturated() -> None:
    found = SweepResult(None, 0.0, 1.0, "The objectives were missed at the lowest rate.")
    assert outcome(sweep((1.0, 0.1), found=found, decisions={0: (False, 0.0)}, late=(0,))) == LIMITED


@pytest.mark.parametrize(("delay", "met"), [(0.95, False), (0.9, True)])
def test_a_stage_that_met_its_objective_only_because_its_requests_were_sent_late_is_not_met(
    delay: float, met: bool
) -> None:
    document = document_of("ttft:p95=1s", stages=(RunStage(50, rate=1.0), RunStage(50, rate=1.0)))
    recorder = Recorder(document)
    recorder.begin(0.0, 0.0, LOAD_SECONDS)
    for index in range(2):
        recorder.end_step(recorder.begin_step(f"stage {index + 1}", 1.0, 50.0 * index), 50.0 * index + 50)
        for second in range(50):
            due = 50.0 * index + second
            recorder.record(answered(at=due + (delay if index else 0.0), scheduled=due, step=index))
    summary = summarize(recorder.finish(LOAD_SECONDS), document)
    assert [step.met for step in summary.steps] == [True, met]


@pytest.mark.parametrize(("growth", "lag"), [(0.46, 0.3), (0.12, 0.0)])
def test_latencies_that_grew_by_more_than_the_delays_explain_lower_a_sweep(growth: float, lag: float) -> None:
    assert outcome(sweep((1.0, 0.2), (8.0, 0.3), lag=lag, decisions={0: (True, 0.0), 1: (False, growth)})) == PASSED


def sweep(
    *steps: tuple[float, float],
    count: int = 20,
    found: SweepResult | None = None,
    lag: float = 0.0,
    decisions: dict[int, tuple[bool, float]] | None = None,
    late: tuple[int, ...] = (),
) -> Summary:
    """Return the result of a sweep over rates, each with the TTFT of its requests.

    `decisions` are those of the search for the steps, and by how many seconds their latencies grew. `late` are the
    steps that were missed because requests were sent late.
    """
    document = document_of("ttft:p95=1s", sweep={"max_rate": 10.0})
    recorder = Recorder(document)
    recorder.begin(0.0, 0.0)
    for index, (rate, ttft) in enumerate(steps):
        assert recorder.begin_step(f"{rate}/s", rate, 10.0 * index) == index
        for _ in range(count):
            recorder.record(answered(ttft, at=10.0 * index, step=index))
        recorder.end_step(index, 10.0 * index + 9)
    for index, (is_met, growth) in (decisions or {}).items():
        recorder.judge_step(index, is_met=is_met, growth=growth, is_late=index in late)
    recorder.end_load(10.0 * len(steps))
    recorder.add_lag(lag)
    recorder.set_sweep(found or SweepResult(1.0, 0.9, 1.1))
    return summarize(recorder.finish(10.0 * len(steps)), document)


def test_the_exit_codes_of_all_reasons() -> None:
    assert exit_code_of(Verdict.FAILED, VerdictReason.REGRESSION) == 99
    assert exit_code_of(Verdict.ERROR, VerdictReason.RUN_ERROR) == 1
