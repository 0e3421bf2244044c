"""Runs of the load generator against a server with known latency, compared with closed forms and with the server's ledger.

Each difference is allowed the error that the server reports of itself, so that a busy machine does not fail a test.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.load.known_latency import KnownLatencyProcess, known_latency_process
from support.load.load_program import run_load

pytestmark = [pytest.mark.alone, pytest.mark.optional]
#: Lag of an event loop (p99) above which a machine is too busy to show the distribution of gaps.
_CALM_SECONDS = 0.002


def gaps_of(server: KnownLatencyProcess) -> list[float]:
    received = sorted(entry["received_at"] for entry in server.entries)
    return [after - before for before, after in itertools.pairwise(received)]


def variation(values: list[float]) -> float:
    return statistics.pstdev(values) / statistics.fmean(values)


def kolmogorov_smirnov(values: Iterable[float], mean: float) -> float:
    """Return the distance of values from the exponential distribution, times the square root of their number.

    At 1.63 it is rejected with an error of 1 % (Kolmogorov's limit distribution).
    """
    ordered = sorted(values)
    count = len(ordered)
    expected = [1 - math.exp(-value / mean) for value in ordered]
    distance = max(max((index + 1) / count - share, share - index / count) for index, share in enumerate(expected))
    return distance * math.sqrt(count)


def mean_in_flight(entries: list[dict[str, Any]]) -> float:
    """Return the mean number of requests in flight in the middle two of three seconds, from arrival to the last chunk."""
    begin = min(entry["received_at"] for entry in entries) + 0.5
    end = begin + 2.0
    spans = [(entry["received_at"], entry["ended_at"]) for entry in entries if entry["ended_at"] is not None]
    return float(sum(max(0.0, min(last, end) - max(first, begin)) for first, last in spans) / (end - begin))


def own_error(entry: dict[str, Any]) -> float:
    times = entry["exactness"]
    return float(times["first_sent_at"] - times["first_due_at"] + times["receive_lag"])


def arrivals(folder: Path, **load: Any) -> Iterator[list[float]]:
    """Yield the gaps that the server saw, of up to three runs.

    A run counts only if neither side was late: gaps of 10 ms show nothing if processes wait for a core as long. If there
    was no such run, the test is skipped.
    """
    lags = []
    for attempt in range(3):
        place = folder / str(attempt)
        place.mkdir()
        with known_latency_process("--ttft=20ms", "--tokens=1") as server:
            summary = run_load(place, server.url, load).summary
            server_lag = sorted(entry["exactness"]["receive_lag"] for entry in server.entries)
            lags.append(max(summary["clientLag"]["p99"], server_lag[int(0.99 * len(server_lag))]))
            if lags[-1] < _CALM_SECONDS:
                yield gaps_of(server)
    if min(lags) >= _CALM_SECONDS:
        pytest.skip(f"the machine is busy: p99 of the lag was {', '.join(f'{1e3 * lag:.1f} ms' for lag in lags)}")


def test_constant_arrivals_are_constant_for_the_server(tmp_path: Path) -> None:
    for gaps in arrivals(tmp_path, rate=20.0, arrivals="constant", durationSeconds=6.0):
        assert len(gaps) == pytest.approx(119, abs=1)
        if variation(gaps) < 0.05 and statistics.fmean(gaps) == pytest.approx(0.05, rel=0.01):
            return
    pytest.fail("the gaps varied by more than 5 % in each run")


def test_poisson_arrivals_are_exponential_for_the_server(tmp_path: Path) -> None:
    distances = []
    for gaps in arrivals(tmp_path, rate=100.0, arrivals="poisson", durationSeconds=8.0, seed=7):
        distances.append(kolmogorov_smirnov(gaps, 0.01))
        if distances[-1] < 1.63 and variation(gaps) == pytest.approx(1.0, rel=0.12):
            return
    pytest.fail(f"the distances from the exponential distribution were {distances}")


def test_gamma_arrivals_are_as_even_as_asked_for_and_not_exponential(tmp_path: Path) -> None:
    """The coefficient of variation of gamma arrivals is the square root of 1 / burstiness."""
    for gaps in arrivals(tmp_path, rate=100.0, arrivals="gamma", burstiness=4.0, durationSeconds=8.0, seed=7):
        assert kolmogorov_smirnov(gaps, 0.01) > 1.63
        if variation(gaps) == pytest.approx(0.5, rel=0.12):
            return
    pytest.fail("the gaps did not have a coefficient of variation of 0.5 in each run")


@pytest.mark.parametrize("concurrency", [1, 7, 50])
def test_a_closed_loop_keeps_exactly_its_concurrency(tmp_path: Path, concurrency: int) -> None:
    with known_latency_process("--ttft=100ms", "--inter-token=10ms", "--tokens=10") as server:
        run_load(tmp_path, server.url, {"concurrency": concurrency, "durationSeconds": 3.0})
        entries = server.entries
    assert max(entry["exactness"]["in_flight"] for entry in entries) == concurrency
    assert mean_in_flight(entries) == pytest.approx(concurrency, rel=0.05)


@pytest.mark.parametrize("tokens_per_chunk", [1, 4, 7])
def test_the_time_per_output_token_follows_vllms_formula(tmp_path: Path, tokens_per_chunk: int) -> None:
    """56 tokens at 5 ms: from the first chunk to the last one, 56 - k tokens pass, which the formula divides by 55."""
    flags = ("--ttft=100ms", "--inter-token=5ms", "--tokens=56", f"--tokens-per-chunk={tokens_per_chunk}")
    with known_latency_process(*flags) as server:
        result = run_load(tmp_path, server.url, {"concurrency": 5, "durationSeconds": 3.0})
    expected = 0.005 * (56 - tokens_per_chunk) / 55
    assert result.summary["tpot"]["p50"] == pytest.approx(expected, rel=0.005)
    assert result.summary["tokensPerChunk"] == pytest.approx(tokens_per_chunk, rel=0.001)


def test_fifty_streams_are_measured_within_a_millisecond_of_the_server(tmp_path: Path) -> None:
    with known_latency_process("--ttft=200ms", "--inter-token=20ms", "--tokens=50") as server:
        result = run_load(tmp_path, server.url, {"rate": 42.0, "arrivals": "constant", "durationSeconds": 5.0})
        entries = {entry["request_id"]: entry for entry in server.entries}
    errors = [
        abs(line["ttft"] - 0.2 - own_error(entries[line["request_id"]]))
        for line in result.lines
        if line["request_id"] in entries
    ]
    assert len(errors) == len(result.lines) > 200
    assert statistics.median(errors) < 0.001


def test_waiting_for_the_only_slot_counts_from_the_schedule(tmp_path: Path) -> None:
    """20 requests at 10 per second, one at a time, 0.5 s each: request i ends after 0.5 + 0.4 i seconds."""
    load = {"rate": 10.0, "arrivals": "constant", "maxInFlight": 1, "maxRequests": 20, "durationSeconds": 30.0}
    with known_latency_process("--ttft=500ms", "--tokens=1") as server:
        result = run_load(tmp_path, server.url, load)
    scheduled = result.summary["requestLatencyScheduled"]
    assert scheduled["mean"] == pytest.approx(4.3, abs=0.15)
    assert scheduled["max"] == pytest.approx(8.1, abs=0.3)
    assert result.summary["requestLatency"]["max"] == pytest.approx(0.5, abs=0.1)
