"""The recorder: windows, rates, tokens, parts of a run, and the cost of a request."""

from __future__ import annotations

import random
import time
import tracemalloc

import msgspec
import numpy
import pytest

from llmendpoint_common.contracts.loadrun import MAX_CATEGORIES, MAX_RESULT_BYTES, RunStage, parse_result
from llmendpoint_common.results.histogram import Histogram, histogram_of
from llmendpoint_common.results.join import PARTS
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.summary import summarize
from llmendpoint_common.results.timeline import MAX_BUCKETS
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import ErrorClass, Sample
from support.load.runs import LOAD_SECONDS, answered, document_of, empty, failed, run

SLO = ("ttft:p95=1s", "tpot:p95=50ms", "request_latency:p99=30s", "error_rate=1%", "attainment=95%")


class TestRates:
    """Rates are those of the load: 100 s."""

    def test_do_not_have_the_drain_in_the_denominator(self) -> None:
        samples = [answered(0.1)] * 50 + [answered(5.0, at=LOAD_SECONDS - 1)] * 10
        summary = run(samples, "ttft:p50=10s", drain=20.0)
        assert summary.duration.value == LOAD_SECONDS
        assert summary.requests_per_second.value == pytest.approx(0.5)
        assert summary.goodput.value == pytest.approx(0.5)
        assert summary.output_tokens_per_second is not None
        assert summary.output_tokens_per_second.value == pytest.approx(5.5)
        assert summary.offered_rate is not None
        assert summary.offered_rate.value == pytest.approx(0.6)
        assert summary.window is not None
        assert (summary.window.drain_seconds, summary.window.drained) == (20.0, 10)
        # The answers of the drain have latencies and tokens all the same.
        assert summary.requests == 60
        assert summary.output_tokens == 60 * 11
        assert summary.ttft is not None
        assert summary.ttft.max == pytest.approx(5.0)
        assert (
            summary.unknown[0]
            == "10 of 60 answers came after the end of the load, and are in no rate; run it for longer"
        )

    def test_do_not_count_the_warm_up(self) -> None:
        samples = [answered(9.0, at=-5.0), failed(at=-4.0)] + [answered()] * 20
        summary = run(samples, warmup=5.0)
        assert (summary.requests, summary.errors, summary.offered, summary.sent) == (20, 0, 20, 20)
        assert summary.requests_per_second.value == pytest.approx(0.2)
        assert summary.ttft is not None
        assert summary.ttft.max < 1
        assert summary.window is not None
        assert summary.window.warmup_seconds == 5.0
        assert summary.errors_by_class == {}

    def test_of_a_load_that_ended_early_are_those_of_its_length(self) -> None:
        document = document_of()
        recorder = Recorder(document)
        recorder.begin(0.0, 0.0, LOAD_SECONDS)
        for _ in range(20):
            recorder.record(answered())
        recorder.end_load(10.0)
        summary = summarize(recorder.finish(12.0), document)
        assert summary.requests_per_second.value == pytest.approx(2.0)
        assert summary.window is not None
        assert (summary.window.load_seconds, summary.window.drain_seconds) == (10.0, 2.0)

    def test_of_a_run_that_was_stopped_in_the_warm_up_are_zero(self) -> None:
        document = document_of()
        recorder = Recorder(document)
        recorder.begin(-5.0, 0.0, LOAD_SECONDS)
        summary = summarize(recorder.finish(-3.0, interrupted=True), document)
        assert summary.requests_per_second.value == 0.0
        assert summary.window is not None
        assert (summary.window.warmup_seconds, summary.window.load_seconds, summary.window.drain_seconds) == (2, 0, 0)


class TestUnknownFigures:
    """They are None with a sentence, and never 0."""

    def test_of_answers_without_usage(self) -> None:
        summary = run([answered(tokens=0, input_tokens=0, has_usage=False, chunks=5)] * 20)
        assert summary.output_tokens is None
        assert summary.input_tokens is None
        assert summary.output_tokens_per_second is None
        assert summary.tokens_per_chunk is None
        assert summary.categories[0].output_tokens is None
        assert summary.tpot is None
        assert "The server reported no token counts for all 20 answers" in summary.unknown

    def test_of_some_answers_are_counted(self) -> None:
        summary = run([answered()] * 19 + [answered(tokens=0, has_usage=False)])
        assert summary.output_tokens == 19 * 11
        assert "The server reported no token counts for 1 of 20 answers" in summary.unknown
        assert (
            "TPOT is unknown for 1 of 20 answers: they came in one piece, or without a plausible count of output tokens"
            in summary.unknown
        )

    def test_of_answers_with_impossible_counts(self) -> None:
        absurd = answered(tokens=0, input_tokens=0, has_usage=False, has_implausible_usage=True)
        summary = run([absurd] * 3 + [answered(tokens=0, has_usage=False)] + [answered()])
        assert summary.output_tokens == 11
        (sentence,) = (sentence for sentence in summary.unknown if "cannot be true" in sentence)
        assert sentence == (
            "The token counts of 3 of 5 answers cannot be true, and are left out: more than 10,000,000 input tokens, or "
            "more output tokens than bytes and than 100,000 per second"
        )
        assert "The server reported no token counts for 1 of 5 answers" in summary.unknown

    def test_of_requests_that_were_sent_again(self) -> None:
        summary = run([answered(was_sent_again=True)] * 2 + [failed(was_sent_again=True)] + [answered()] * 97)
        (sentence,) = (sentence for sentence in summary.unknown if "sent again" in sentence)
        assert sentence.startswith("2 of 99 answers came only after the request was sent again: the server closed")

    def test_of_answers_in_one_piece(self) -> None:
        summary = run([answered(is_spread=False)] * 3)
        assert summary.tpot is None
        assert any(sentence.startswith("TPOT is unknown for all 3 answers") for sentence in summary.unknown)

    def test_of_answers_with_one_token_are_not_mentioned(self) -> None:
        assert not any("TPOT" in sentence for sentence in run([answered(tokens=1)] * 3).unknown)

    def test_are_not_those_of_failed_requests(self) -> None:
        assert run([failed()] * 3).unknown == ()

    def test_of_the_prefix_cache(self) -> None:
        assert run([answered()] * 3).cached_input_ratio is None
        summary = run([answered(cached_tokens=7), answered(cached_tokens=0), answered()])
        assert summary.cached_input_ratio == pytest.approx(0.5)


def test_empty_answers_are_failures_without_latency_and_tokens() -> None:
    summary = run([answered(tokens=11)] * 3 + [empty(tokens=20)])
    assert (summary.requests, summary.errors, summary.empty) == (4, 1, 1)
    assert summary.errors_by_class == {"empty": 1}
    assert summary.attainment.value == pytest.approx(0.75)
    assert summary.request_latency is not None
    assert summary.request_latency.count == 3
    assert summary.output_tokens == 33


def test_a_number_of_tokens_that_nobody_counted_gives_no_time_per_token() -> None:
    summary = run([answered(tokens=10**9, chunks=3, server_decode=1e-9)] * 20, "tpot:p95=1s")
    assert summary.tpot is None
    assert summary.server_tpot is None
    assert summary.reason == "NotMeasured"
    assert any(sentence.startswith("TPOT is unknown for all 20 answers") for sentence in summary.unknown)


def test_tokens_per_chunk_and_the_servers_own_times_stand_beside_tpot() -> None:
    sample = answered(tokens=12, chunks=3, server_load=0.5, server_prefill=0.02, server_decode=0.24, connect=0.003)
    sample.gaps = [0.05, 0.05]
    summary = run([sample] * 2)
    assert summary.tokens_per_chunk == pytest.approx(4.0)
    assert summary.server_tpot is not None
    assert summary.server_tpot.p50 == pytest.approx(0.02, rel=1e-3)
    for part in (summary.server_load, summary.server_prefill, summary.server_decode, summary.connect, summary.ttfo):
        assert part is not None
    assert summary.inter_chunk_latency is not None
    assert summary.inter_chunk_latency.count == 4


def test_latencies_from_the_schedule_contain_the_wait_of_the_client() -> None:
    summary = run([answered(0.5, at=3.0, scheduled=1.0)])
    assert summary.ttft is not None
    assert summary.ttft_scheduled is not None
    assert summary.queue_delay is not None
    assert summary.ttft.p50 == pytest.approx(0.5, rel=1e-3)
    assert summary.ttft_scheduled.p50 == pytest.approx(2.5, rel=1e-3)
    assert summary.queue_delay.p50 == pytest.approx(2.0, rel=1e-3)


def test_categories_have_their_own_figures() -> None:
    samples = [
        answered(0.1, category="Math", matched=True),
        answered(0.3, category="Math", matched=False),
        answered(0.5, category="Coding"),
        failed(category="Coding"),
    ]
    coding, math = run(samples, "ttft:p50=200ms").categories
    assert (coding.category, coding.requests, coding.errors, coding.expected, coding.attained) == ("Coding", 2, 1, 0, 0)
    assert (math.requests, math.expected, math.matched, math.attained) == (2, 2, 1, 1)
    assert math.ttft is not None
    assert math.ttft.max == pytest.approx(0.3)


def test_categories_above_the_maximum_are_counted_together() -> None:
    summary = run([answered(category=f"c{index:03d}") for index in range(MAX_CATEGORIES + 50)])
    assert len(summary.categories) == MAX_CATEGORIES
    assert sum(category.requests for category in summary.categories) == MAX_CATEGORIES + 50
    assert parse_result(msgspec.json.encode(summary).decode()).requests == MAX_CATEGORIES + 50


def test_errors_have_a_count_and_the_first_example() -> None:
    samples = [
        failed(at=5.0, detail="later"),
        failed(at=2.0, detail="first \x1b[31m of\r\nall\u2028" + "x" * 500),
        failed(at=1.0),
        failed(ErrorClass.RESET, at=9.0),
    ]
    server, reset = run(samples).error_details
    assert (server.error_class, server.count, reset.error_class, reset.count) == ("5xx", 3, "reset", 1)
    assert server.example.startswith("first [31m of all x")
    assert len(server.example) == 200
    assert server.advice == "Look at the log of the server."


def test_the_timeline_shows_load_failures_and_what_is_in_flight() -> None:
    samples = [answered(0.5, at=-1.5), answered(2.0, at=0.2), answered(0.1, at=1.5), failed(at=3.0)]
    timeline = run(samples, warmup=2.0).timeline
    assert [bucket.start_seconds for bucket in timeline] == [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
    assert [bucket.sent for bucket in timeline] == [1, 0, 1, 1, 0, 1]
    assert [bucket.completed for bucket in timeline] == [0, 1, 0, 1, 1, 0]
    assert [bucket.in_flight for bucket in timeline] == [1, 0, 1, 1, 0, 0]
    assert [bucket.errors for bucket in timeline] == [0, 0, 0, 0, 0, 1]
    assert timeline[2].ttft is not None
    assert timeline[2].ttft.p50 == pytest.approx(2.0, rel=0.04)


@pytest.mark.parametrize("seconds", [1, 599, 600, 601, 5000, 86400])
def test_the_timeline_of_a_long_run_has_wider_buckets(seconds: int) -> None:
    samples = [answered(at=float(at)) for at in range(0, seconds, max(1, seconds // 700))]
    timeline = run(samples).timeline
    assert len(timeline) <= MAX_BUCKETS
    assert sum(bucket.sent for bucket in timeline) == len(samples)


def test_steps_have_the_rates_of_their_own_time() -> None:
    document = document_of("ttft:p50=1s", stages=(RunStage(10, rate=2.0), RunStage(10, rate=4.0)))
    recorder = Recorder(document)
    recorder.begin(0.0, 0.0, 20.0)
    first = recorder.begin_step("2/s", 2.0, 0.0)
    for _ in range(20):
        recorder.record(answered(at=1.0, step=first))
    recorder.end_step(first, 10.0)
    second = recorder.begin_step("4/s", 4.0, 10.0)
    recorder.record(answered(3.0, at=9.0, step=first))
    for _ in range(30):
        recorder.record(answered(2.0, at=12.0, step=second))
    recorder.end_step(second, 20.0)
    one, two = summarize(recorder.finish(20.0), document).steps
    assert (one.requests, one.seconds, one.completed_rate, one.met) == (21, 10.0, 2.0, True)
    assert (two.requests, two.completed_rate, two.met) == (30, 3.0, False)


def random_samples(count: int, seed: int = 1, seconds: float = LOAD_SECONDS, categories: int = 11) -> list[Sample]:
    """Return requests with the spread of a busy server: latencies over three powers of two, and 2 % errors."""
    source = random.Random(seed)
    samples = []
    for _ in range(count):
        at = source.uniform(0, seconds)
        if source.random() < 0.02:
            samples.append(failed(source.choice(list(ErrorClass)), at=at, category=f"c{source.randrange(categories)}"))
            continue
        ttft, tokens = source.lognormvariate(-1.5, 0.7), source.randrange(2, 300)
        decode = tokens * source.lognormvariate(-4, 0.3)
        samples.append(answered(
            ttft, at, tokens, category=f"c{source.randrange(categories)}", last=at + ttft + decode,
            ended=at + ttft + decode, server_decode=decode, server_prefill=ttft / 2, server_load=0.001, connect=0.001,
        ))  # fmt: skip
    return samples


def test_a_request_costs_a_few_microseconds() -> None:
    samples = random_samples(5_000)
    recorder = Recorder(document_of(*SLO))
    recorder.begin(0.0, 0.0, LOAD_SECONDS)
    best = min(timed(recorder, samples) for _ in range(3))
    # 14 µs on the machine that this was written on. The limit leaves room for a slow one.
    assert best / len(samples) < 60e-6


def timed(recorder: Recorder, samples: list[Sample]) -> float:
    start = time.process_time()
    for sample in samples:
        recorder.record(sample)
    return time.process_time() - start


def fill(histogram: Histogram, values: numpy.typing.NDArray[numpy.float64]) -> None:
    """Count many values in seconds at once."""
    micro = numpy.rint(values * 1e6).astype(numpy.int64)
    shift = numpy.maximum(0, numpy.frexp(micro.astype(float))[1] - histogram.bits)
    indexes, counts = numpy.unique((shift << histogram.bits) + (micro >> shift), return_counts=True)
    histogram.counts.update(zip(indexes.tolist(), counts.tolist(), strict=True))
    histogram.sum_microseconds, histogram.max_microseconds = int(micro.sum()), int(micro.max())


def test_many_values_are_filled_as_they_are_recorded() -> None:
    values = numpy.random.default_rng(1).lognormal(-1, 2, 2000)
    filled = Histogram()
    fill(filled, values)
    assert filled == histogram_of(values.tolist())


def test_a_result_of_a_million_requests_fits_into_its_config_map() -> None:
    """11 categories, 600 buckets of time, every latency, and spreads over four powers of two."""
    document, source = document_of(*SLO), numpy.random.default_rng(1)
    recorder = Recorder(document)
    recorder.begin(0.0, 0.0, 598.0)
    for index in range(12_000):
        error = failed(at=index / 20.02, detail="the server's own words, at length " * 9, category=f"c{index % 11}")
        recorder.record(error if index % 50 == 0 else answered(at=index / 20.02, category=f"c{index % 11}"))
    measurements = recorder.finish(660.0)
    names = ("ttft", "ttfo", "tpot", "request_latency", "queue_delay", "ttft_scheduled", "request_latency_scheduled",
             "connect", "inter_chunk_latency", "server_load", "server_prefill", "server_decode", "server_tpot")  # fmt: skip
    for name in names:
        fill(measurements.whole.histogram(name), source.lognormal(-1, 0.6, 1_000_000))
    fill(measurements.lag, source.lognormal(-8, 1, 60_000))
    for group in measurements.categories.values():
        for name in ("ttft", "tpot", "request_latency"):
            fill(group.histogram(name), source.lognormal(-1, 0.6, 1_000_000 // 11))
    for bucket in measurements.timeline.buckets.values():
        for histogram in (bucket.ttft, bucket.request_latency):
            fill(histogram, source.lognormal(-1, 0.6, 1_000_000 // 600))
        bucket.sent = bucket.offered = bucket.completed = 1_000_000 // 600 + int(source.integers(-80, 80))
        bucket.output_tokens = bucket.sent * 321
    for part in PARTS:
        measurements.join.parts[part] = Histogram()
        fill(measurements.join.parts[part], source.lognormal(-4, 0.6, 1_000_000))
    summary = summarize(measurements, document)
    assert (len(summary.categories), len(summary.timeline)) == (11, 600)
    encoded = msgspec.json.encode(summary)
    assert len(encoded) < 700 * 1024 < MAX_RESULT_BYTES
    assert Measurements.decode(parse_result(encoded.decode()).measurements).encode() == summary.measurements


def test_memory_does_not_grow_with_the_number_of_requests() -> None:
    recorder = Recorder(document_of(*SLO))
    recorder.begin(0.0, 0.0, 600.0)
    samples = random_samples(2_000, seconds=600.0)
    for sample in samples:
        recorder.record(sample)
    tracemalloc.start()
    for _ in range(10):
        for sample in samples:
            recorder.record(sample)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


def test_a_snapshot_is_partial_and_does_not_change_with_the_run() -> None:
    document = document_of(*SLO)
    recorder = Recorder(document)
    recorder.begin(0.0, 0.0, LOAD_SECONDS)
    for sample in random_samples(100):
        recorder.record(sample)
    snapshot = recorder.snapshot(50.0)
    before = snapshot.encode()
    for sample in random_samples(100, seed=2):
        recorder.record(sample)
    recorder.add_lag(0.1)
    assert snapshot.encode() == before
    summary = summarize(snapshot, document)
    assert (summary.partial, summary.requests, summary.duration.value) == (True, 100, 50.0)
    whole = summarize(recorder.finish(LOAD_SECONDS), document)
    assert (whole.partial, whole.requests) == (False, 200)


def test_a_snapshot_before_the_start_has_measured_nothing() -> None:
    document = document_of(*SLO)
    summary = summarize(Recorder(document).snapshot(123_456.0), document)
    assert (summary.partial, summary.requests, summary.duration.value) == (True, 0, 0.0)
