"""A sweep finds the capacity of servers that have a known one."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from math import exp, factorial

import pytest

from llmendpoint_common.contracts.loadrun import (
    Arrivals,
    ErrorClass,
    MetricName,
    Objective,
    RunDocument,
    RunLoad,
    RunSweep,
    RunTarget,
    SweepResult,
    Verdict,
    VerdictReason,
)
from llmendpoint_common.results.summary import summarize
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.load import health
from llmendpoint_loadjob.load.judging import StepJudge
from llmendpoint_loadjob.load.run import LoadRun
from llmendpoint_loadjob.load.search import MAX_STEPS, Estimate, Search, without_bias
from llmendpoint_loadjob.load.sweep import SETTLING
from llmendpoint_loadjob.load.timer import LoopTimer
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import Sample
from support.load.virtual_server import VirtualServer
from support.virtual_time import run_virtually, slowly

TTFT = Objective(MetricName.TTFT, 1.0, 95)


@pytest.fixture(autouse=True)
def rare_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure delays of the event loop rarely: in virtual time there are none, and hours have many ticks."""
    monkeypatch.setattr(health, "LAG_INTERVAL", 10.0)


def prompts() -> Iterator[Prompt]:
    return (Prompt(f"q{i}", "Math", (("user", "x"),)) for i in count())


def sweep(load: RunLoad, objective: Objective = TTFT, **server: object) -> tuple[SweepResult, Recorder]:
    document = RunDocument(RunTarget("http://x"), "m", load, objectives=(objective,))

    async def main(clock: Callable[[], float]) -> Recorder:
        recorder = Recorder(document)
        client = VirtualServer(clock, **server)  # type: ignore[arg-type]
        await LoadRun(document, prompts(), client, recorder, clock=clock, timer=LoopTimer(clock)).run()
        return recorder

    recorder = run_virtually(main)
    assert recorder.measurements.sweep is not None
    return recorder.measurements.sweep, recorder


@pytest.mark.timeout(900)
def test_a_known_capacity_is_found_within_3_percent_in_9_of_10_seeds() -> None:
    """4 requests at a time, of 1 s each on average, with random gaps and durations: the capacity is 4 per second."""
    errors = []
    for seed in range(10):
        source = random.Random(seed)
        result, _ = sweep(
            RunLoad(sweep=RunSweep(max_rate=64, min_rate=1), seed=seed, arrivals=Arrivals.GAMMA, burstiness=20),
            servers=4, service=lambda source=source: source.uniform(0.9, 1.1),
        )  # fmt: skip
        errors.append(abs((result.rate or 0.0) / 4 - 1))
    assert sum(error < 0.03 for error in errors) >= 9


def test_the_interval_is_as_narrow_as_asked_for_and_holds_the_capacity() -> None:
    load = RunLoad(sweep=RunSweep(max_rate=100, step_seconds=60, precision=0.05), arrivals=Arrivals.CONSTANT)
    result, recorder = sweep(load, servers=4, service=lambda: 1.0)
    assert result.rate == pytest.approx(4, rel=0.03)
    assert result.low <= 4 <= result.high
    assert result.high / result.low <= 1.05
    assert re.search(r"; found with \d+ steps$", result.message)
    rates = [step.offered_rate for step in recorder.measurements.steps]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert len(rates) < 30


def test_a_server_that_does_not_keep_up_misses_without_an_objective_on_a_latency() -> None:
    load = RunLoad(sweep=RunSweep(max_rate=50, min_rate=1, step_seconds=60), arrivals=Arrivals.CONSTANT)
    result, recorder = sweep(load, Objective(MetricName.ERROR_RATE, 0.01), servers=4, service=lambda: 1.0)
    assert result.rate == pytest.approx(4, rel=0.03)
    assert result.message.startswith(f"the highest rate that met the objectives is {result.rate:.3g} requests/s; found")
    for step in recorder.measurements.steps:
        is_met = step.offered_rate < 4 if abs(step.offered_rate - 4) > 0.2 else step.met
        assert (step.met, step.growth == 0) == (is_met, is_met)


def test_a_capacity_above_the_highest_rate_is_said_so() -> None:
    result, _ = sweep(RunLoad(sweep=RunSweep(max_rate=5, min_rate=2, step_seconds=10)), servers=100)
    assert result.rate is not None
    assert result.rate == pytest.approx(5, rel=0.5)
    assert "every rate met the objectives" in result.message


def test_a_load_generator_that_cannot_send_the_rate_finds_no_capacity_above_what_it_sends() -> None:
    """It needs 0.2 s for each prompt, so it sends 5 requests per second at most, and the server is always fast."""
    load = RunLoad(sweep=RunSweep(max_rate=32, min_rate=1, step_seconds=30), arrivals=Arrivals.CONSTANT)
    document = RunDocument(RunTarget("http://x"), "m", load, objectives=(TTFT,))

    async def main(clock: Callable[[], float]) -> Recorder:
        recorder = Recorder(document)
        source = slowly(prompts(), 0.2)
        run = LoadRun(document, source, VirtualServer(clock), recorder, clock=clock, timer=LoopTimer(clock))
        await run.run()
        return recorder

    measurements = run_virtually(main).measurements
    assert measurements.sweep is not None
    assert measurements.sweep.rate == pytest.approx(5, rel=0.15)
    summary = summarize(measurements, document)
    assert (summary.verdict, summary.reason) == (Verdict.INVALID, VerdictReason.CLIENT_LIMITED)


def test_a_server_that_misses_at_the_lowest_rate_has_no_capacity() -> None:
    result, recorder = sweep(RunLoad(sweep=RunSweep(max_rate=5, step_seconds=10)), servers=1, service=lambda: 30.0)
    assert result.rate is None
    assert result.message == "the objectives were missed at the lowest rate, 0.1 requests/s"
    assert len(recorder.measurements.steps) == 2


def test_an_objective_that_cannot_be_measured_ends_the_sweep() -> None:
    load = RunLoad(sweep=RunSweep(max_rate=5, step_seconds=10))
    result, recorder = sweep(load, Objective(MetricName.TPOT, 1.0, 95), tokens=1)
    assert result.rate is None
    assert "could not be measured" in result.message
    assert len(recorder.measurements.steps) == 1


@pytest.mark.timeout(900)
def test_a_poisson_sweep_with_600_requests_per_step_is_right_within_3_percent_in_9_of_10_seeds() -> None:
    """Steps of 60 s, the default, on a queue whose wait is known in closed form (M/D/1)."""
    errors, held = [], 0
    for seed in range(10):
        found = poisson_sweep(seed, step_seconds=60.0)
        errors.append(abs((found.rate or 0.0) / CAPACITY - 1))
        held += found.low <= CAPACITY <= found.high
    assert sum(error < 0.03 for error in errors) >= 9
    assert held >= 9


@pytest.mark.timeout(900)
def test_the_interval_of_a_poisson_sweep_with_short_steps_allows_for_its_bias() -> None:
    """100 requests per step would find a rate that is 5 to 7 % too high."""
    results = [poisson_sweep(seed, step_seconds=10.0, precision=0.2) for seed in range(10)]
    assert sum(found.low <= CAPACITY <= found.high for found in results) >= 9
    assert all(
        "arrivals are random and steps are short, so the interval allows for" in found.message for found in results
    )
    middle = sorted(found.rate or 0.0 for found in results)[5]
    assert middle == pytest.approx(CAPACITY, rel=0.05)


def test_the_bias_depends_on_the_arrivals_and_on_the_number_of_late_requests() -> None:
    found = Estimate(10.0, 9.8, 10.2, "found")
    assert without_bias(found, 5.0, 0.0) == found
    corrected = without_bias(found, 50.0, 1.0)
    assert corrected.rate == pytest.approx(9.93)
    assert corrected.low == pytest.approx(9.604)
    assert (corrected.high, corrected.message) == (10.2, "found")


#: Seconds for which each request is served, and the longest wait of 95 % of the requests.
SERVICE, WAIT = 0.05, 0.15


def wait_is_at_most(seconds: float, rate: float) -> float:
    """Return the probability of a wait in a queue with Poisson arrivals and constant service (Erlang 1909)."""
    terms = range(int(seconds / SERVICE + 1e-9) + 1)
    return (1 - rate * SERVICE) * sum(
        (rate * (k * SERVICE - seconds)) ** k / factorial(k) * exp(-rate * (k * SERVICE - seconds)) for k in terms
    )


def capacity() -> float:
    """Return the rate at which 95 % of the requests wait for at most WAIT."""
    low, high = 0.0, 1 / SERVICE
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if wait_is_at_most(WAIT, middle) > 0.95 else (low, middle)
    return low


CAPACITY = capacity()


def poisson_sweep(seed: int, step_seconds: float, precision: float = 0.05) -> Estimate:
    """Run the search against the queue, with the judge of a sweep, request by request."""
    source, search = random.Random(seed), Search(RunSweep(max_rate=64, min_rate=2, precision=precision))
    settling = SETTLING * step_seconds
    while (rate := search.next_rate()) is not None:
        judge = StepJudge((Objective(MetricName.TTFT, WAIT, 95),))
        at = free = 0.0
        while (at := at + source.expovariate(rate)) < step_seconds:
            begin = max(at, free)
            free = begin + SERVICE
            if at >= settling:
                judge.note(Sample("", "", "", at, at, begin, ended=free, status=200, output_tokens=1))
        expected = rate * (step_seconds - settling)
        offered = judge.requests / (step_seconds - settling)
        search.note(offered, is_met=judge.is_met and not judge.is_lost(expected))
    found = search.estimate()
    return without_bias(found, 0.05 * (found.rate or 0.0) * (step_seconds - settling), 1.0)


def test_accidents_do_not_lead_the_search_astray() -> None:
    """One step in 20 has the wrong result."""
    source, errors = random.Random(3), []
    for capacity in (1.0, 3.7, 9.9, 25.0):
        search = Search(RunSweep(max_rate=100, min_rate=0.5))
        while (rate := search.next_rate()) is not None:
            search.note(rate, is_met=(rate <= capacity) != (source.random() < 0.05))
        errors.append(abs((search.estimate().rate or 0) / capacity - 1))
        assert len(search.steps) <= MAX_STEPS
    assert sorted(errors)[-2] < 0.05


def test_the_search_never_offers_much_more_than_twice_what_was_met() -> None:
    search, met = Search(RunSweep(max_rate=1000, min_rate=0.1)), 0.1
    while (rate := search.next_rate()) is not None:
        assert rate <= 2.01 * met
        search.note(rate, is_met=rate <= 7)
        met = max(met, rate) if rate <= 7 else met


def searched(is_met: Callable[[int, float], bool]) -> Search:
    """Return a search up to 40 requests per second, whose steps have these results by their numbers and rates."""
    search = Search(RunSweep(max_rate=40, min_rate=2, step_seconds=2))
    while (rate := search.next_rate()) is not None:
        search.note(rate, is_met=is_met(len(search.steps) + 1, rate))
    return search


@pytest.mark.parametrize("missed", [1, 2, 3, 5, 6])
def test_one_accidental_miss_gives_no_rate_above_the_maximum_and_does_not_repeat_it_to_the_end(missed: int) -> None:
    search = searched(lambda number, rate: number != missed)
    found = search.estimate()
    assert found.rate == found.high == 40
    assert 38 < found.low <= 40
    assert "the highest rate that was tried, 40 requests/s, met the objectives in" in found.message
    assert len(search.steps) < MAX_STEPS / 3


def test_a_capacity_just_below_the_maximum_has_an_interval_up_to_the_maximum() -> None:
    source = random.Random(0)
    found = searched(lambda number, rate: rate * source.gauss(1, 0.02) <= 39).estimate()
    assert found.rate == pytest.approx(39, rel=0.03)
    assert found.high <= 40
    assert found.message.startswith("found with")


@pytest.mark.parametrize("steps", [12, MAX_STEPS])
def test_a_message_has_no_width_beside_that_of_an_interval_that_allows_for_the_bias(steps: int) -> None:
    source, search = random.Random(2), Search(RunSweep(max_rate=40, min_rate=5, precision=0.01))
    while len(search.steps) < steps and (rate := search.next_rate()) is not None:
        search.note(rate, is_met=rate * source.gauss(1, 0.1) <= 15)
    found = without_bias(search.estimate(), 2.0, 1.0)
    assert found.message == (
        f"the search ended after {steps} steps, before it was as precise as 1%; longer steps give a narrower interval; "
        "arrivals are random and steps are short, so the interval allows for 50%, and longer steps or constant arrivals "
        "give a narrower one"
    )


def test_no_search_that_ends_early_has_a_result_above_the_rates_that_were_tried() -> None:
    source = random.Random(1)
    for _ in range(4):
        search = Search(RunSweep(max_rate=40, min_rate=2))
        plans: list[float] = []
        while (rate := search.next_rate()) is not None and len(plans) < 15:
            plans.append(rate)
            search.note(rate * source.uniform(0.8, 1.25), is_met=source.random() < 0.8)
            assert (search.estimate().rate or 0.0) <= max(plans)


class TestJudge:
    def judged(self, latencies: Sequence[float | None], *objectives: Objective) -> StepJudge:
        judge = StepJudge(objectives)
        for number, latency in enumerate(latencies):
            error = ErrorClass.TIMEOUT if latency is None else None
            first = None if latency is None else number + latency
            judge.note(
                Sample(
                    "",
                    "",
                    "",
                    number,
                    number,
                    first,
                    ended=number + (latency or 9.0),
                    status=200,
                    error=error,
                    output_tokens=2,
                )
            )
        return judge

    def test_a_percentile_is_met_if_so_many_requests_are_within_the_threshold(self) -> None:
        assert self.judged([0.5] * 95 + [2.0] * 5, TTFT).is_met
        assert not self.judged([0.5] * 94 + [2.0] * 6, TTFT).is_met

    @staticmethod
    def delayed(delay: float, held: float = 0.0, *objectives: Objective, number: int = 100) -> StepJudge:
        """Return a step whose requests have a TTFT of 0.5 s from the time at which they were sent."""
        judge = StepJudge(objectives or (TTFT,))
        for at in range(number):
            sent = at + delay
            judge.note(Sample("", "", "", at, sent, sent + 0.5, ended=sent + 0.6, status=200, held=held))
        return judge

    @pytest.mark.parametrize(
        ("delay", "held", "is_met", "is_late"),
        [(0.49, 0.0, True, False), (0.6, 0.0, False, True), (0.6, 0.6, False, False), (1.2, 0.6, False, False)],
    )
    @pytest.mark.parametrize(
        "objectives", [(TTFT,), (Objective(MetricName.REQUEST_LATENCY, 1.1, 50), Objective(MetricName.ATTAINMENT, 0.9))]
    )
    def test_a_rate_is_not_met_only_because_requests_were_sent_late(
        self, delay: float, held: float, is_met: bool, is_late: bool, objectives: tuple[Objective, ...]
    ) -> None:
        judge = self.delayed(delay, held, *objectives)
        assert (judge.is_met, judge.is_late) == (is_met, is_late)

    def test_requests_that_only_the_load_generator_sends_later_and_later_are_no_backlog_of_the_server(self) -> None:
        judge = StepJudge((TTFT,))
        for at in range(100):
            judge.note(Sample("", "", "", at, at * 1.1, at * 1.1 + 0.5, ended=at * 1.1 + 0.6, status=200))
        assert (judge.is_met, judge.is_late, judge.growth(100)) == (False, True, 0)

    @pytest.mark.parametrize(("unsent", "held", "expected"), [(5, False, (True, False)), (6, False, (False, True)),
                                                              (6, True, (False, False))])  # fmt: skip
    def test_a_rate_is_not_met_if_more_than_five_percent_of_its_requests_were_not_sent(
        self, unsent: int, held: bool, expected: tuple[bool, bool]
    ) -> None:
        judge = self.delayed(0.0)
        for _ in range(unsent):
            judge.skip(held=held)
        assert (judge.is_met, judge.is_late) == expected

    def test_a_failed_request_was_never_answered(self) -> None:
        assert not self.judged([0.5] * 94 + [None] * 6, TTFT).is_met

    def test_shares_are_those_of_all_requests(self) -> None:
        values: list[float | None] = [0.5, None, 0.5, 0.5] * 10
        assert self.judged(values, Objective(MetricName.ERROR_RATE, 0.25)).is_met
        assert not self.judged(values, Objective(MetricName.ERROR_RATE, 0.24)).is_met
        assert self.judged(values, Objective(MetricName.ATTAINMENT, 0.75)).is_met
        assert not self.judged(values, Objective(MetricName.ATTAINMENT, 0.76)).is_met

    def test_latencies_that_grow_are_no_capacity(self) -> None:
        judge = self.judged([0.01 * number for number in range(60)], TTFT)
        assert not judge.is_met
        assert judge.growth(60) == pytest.approx(0.6)

    def test_latencies_that_stay_the_same_have_no_growth(self) -> None:
        assert self.judged([0.5] * 60, TTFT).growth(60) == 0
