"""Silences of the server: an objective that a closed loop met only because its users sent nothing meanwhile is not met."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llmendpoint_common.contracts.loadrun import Summary, Verdict, VerdictReason
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.merge import merge
from llmendpoint_common.results.summary import summarize
from llmendpoint_loadjob.result.recorder import Recorder
from support.load.runs import LOAD_SECONDS, answered, document_of

#: 8 users, and a request of 0.2 s each. In every 5 s, the server sends nothing for 1.5 s.
SILENCES = tuple((5.0 * index + 2, 5.0 * index + 3.5) for index in range(20))
#: 2 % of the requests are late.
SAMPLES = tuple(answered(1.6 if index % 50 == 0 else 0.1, at=0.05 * index) for index in range(1900))


def run(
    *objectives: str,
    silences: Sequence[tuple[float, float]] = SILENCES,
    stops: Sequence[tuple[float, float]] = (),
    stream: bool = True,
    **load: float,
) -> Summary:
    document = document_of(*objectives, stream=stream, **(load or {"concurrency": 8}))
    recorder = Recorder(document)
    recorder.begin(-10.0, 0.0, LOAD_SECONDS)
    for sample in SAMPLES:
        recorder.record(sample)
    for begin, end in silences:
        recorder.add_silence(begin, end)
    for begin, end in stops:
        recorder.add_tick(begin, end)
    return summarize(recorder.finish(LOAD_SECONDS), document)


@pytest.mark.parametrize(
    ("objective", "verdict"),
    [
        pytest.param("ttft:p95=1s", Verdict.INVALID, id="late in 10 % of the time and 5 % may be"),
        pytest.param("ttft:p90=1010ms", Verdict.PASSED, id="late in 9.8 % of the time and 10 % may be"),
        pytest.param("ttft:p90=990ms", Verdict.INVALID, id="late in 10.2 % of the time and 10 % may be"),
        pytest.param("request_latency:p95=1s", Verdict.INVALID, id="whole requests"),
        pytest.param("ttft:p95=1600ms", Verdict.PASSED, id="no silence is as long as the threshold"),
        pytest.param("ttft:p99=1s", Verdict.FAILED, id="missed by the requests that were sent"),
        pytest.param("error_rate=1%", Verdict.PASSED, id="not about a latency"),
        pytest.param("tpot:p95=1s", Verdict.PASSED, id="a request cannot wait for it"),
    ],
)
def test_an_objective_is_met_only_if_requests_at_any_time_would_have_met_it(objective: str, verdict: Verdict) -> None:
    summary = run(objective)
    assert summary.verdict is verdict, summary.message


def test_the_message_says_what_the_server_did_and_what_to_do() -> None:
    summary = run("ttft:p95=1s")
    assert summary.reason is VerdictReason.NOT_MEASURED
    assert summary.message == (
        "TTFT p95 was met by the requests that were sent, but users sent none while the server was silent. In 10 % of the "
        "load, a request would have waited for more than 1s (set a rate, so that requests are sent at such times too). 20 "
        "times, the server sent nothing for more than 1s while at least 2 requests were in flight (longest: 1.5s, together: "
        "30s, 30 % of the load)."
    )


def test_attainment_is_about_waiting_too() -> None:
    assert run("attainment=95%", "ttft:p50=1s").verdict is Verdict.INVALID


@pytest.mark.parametrize("objective", ["ttft:p95=1500ms", "ttft:p99=1s", "error_rate=1%"])
def test_silences_are_told_whatever_the_verdict_is(objective: str) -> None:
    silences = [*SILENCES, (99.0, 99.9), (96.0, 97.6)]
    assert "the server sent nothing for more than 1" in run(objective, silences=silences).message


def test_one_silence_is_told_in_the_singular() -> None:
    assert "Once, the server sent nothing for more than 1s while" in run(silences=[(10.0, 13.0)]).message


def test_silences_are_told_without_objectives() -> None:
    assert "20 times, the server sent nothing for more than 1s" in run().message


def test_an_open_loop_has_sent_requests_in_the_silences_so_its_percentiles_are_right() -> None:
    summary = run("ttft:p95=1s", rate=19.0)
    assert summary.verdict is Verdict.PASSED
    assert "20 times, the server sent nothing for more than 1s" in summary.message


@pytest.mark.parametrize("objectives", [(), ("error_rate=1%",), ("ttft:p95=1s",)])
def test_a_load_generator_that_stood_still_read_nothing_which_is_not_a_silence_of_the_server(
    objectives: tuple[str, ...],
) -> None:
    """The last content before it was read up to 0.2 s earlier, and the delay is measured after the next content."""
    silence, stop = (10.0, 13.2), (10.2, 13.19)
    assert "the server" not in run(*objectives, silences=[silence], stops=[stop]).message.lower()


def test_a_silence_is_compared_with_standstills_that_were_measured_before_and_after_it() -> None:
    recorder = Recorder(document_of())
    recorder.begin(0.0, 0.0, LOAD_SECONDS)
    recorder.add_tick(9.0, 12.0)
    recorder.add_silence(10.0, 15.0)
    recorder.add_tick(14.0, 16.0)
    recorder.add_tick(20.0, 20.01)
    recorder.add_silence(20.0, 22.0)
    silences = recorder.finish(LOAD_SECONDS).silences
    assert (silences.count, silences.sum) == (2, 4.0)


def test_a_standstill_is_known_before_a_partial_summary_settles_a_silence() -> None:
    """The event loop may read the sockets and make a summary before it measures its own delay."""
    recorder = Recorder(document_of())
    recorder.begin(0.0, 0.0, LOAD_SECONDS)
    recorder.add_tick(9.98, 9.98)
    recorder.add_silence(10.0, 15.0)
    recorder.notice_stop = lambda: recorder.add_tick(9.99, 15.0)
    assert recorder.snapshot(15.0).silences.sum == 0.0


def test_a_server_that_sends_its_tokens_in_large_pieces_is_not_silent() -> None:
    document = document_of("ttft:p95=1s", concurrency=8)
    recorder = Recorder(document)
    recorder.begin(0.0, 0.0, LOAD_SECONDS)
    for index in range(1000):
        recorder.record(answered(at=0.05 * index, gaps=[1.4]))
    for begin, end in SILENCES:
        recorder.add_silence(begin, end)
    assert summarize(recorder.finish(LOAD_SECONDS), document).verdict is Verdict.PASSED


def test_only_the_part_of_a_silence_that_is_in_the_load_counts() -> None:
    recorder = Recorder(document_of())
    recorder.add_silence(-30.0, -20.0)
    recorder.begin(-10.0, 0.0, LOAD_SECONDS)
    for begin, end in [(-5.0, -1.0), (-2.0, 0.5), (99.0, 120.0), (101.0, 130.0)]:
        recorder.add_silence(begin, end)
    silences = recorder.finish(LOAD_SECONDS).silences
    assert (silences.count, silences.sum) == (2, 1.5)


def with_users(users: int, silences: Sequence[tuple[float, float]]) -> Measurements:
    recorder = Recorder(document_of())
    recorder.begin(0.0, 0.0, LOAD_SECONDS)
    recorder.set_users(users)
    for begin, end in silences:
        recorder.add_silence(begin, end)
    return recorder.finish(LOAD_SECONDS)


def test_a_pod_with_one_user_does_not_hide_silences_that_it_cannot_see() -> None:
    parts = [with_users(1, ()), with_users(2, SILENCES), with_users(1, ())]
    assert merge(parts).silences == parts[1].silences
    assert merge([merge(parts[:1]), merge(parts[1:])]).silences == parts[1].silences
    assert merge([parts[0], with_users(2, ()), parts[1]]).silences.count == 0
    assert merge([parts[0], parts[2]]).users == 1


@pytest.mark.parametrize(("users", "slow", "is_told"), [(1, 1.6, True), (2, 1.6, False), (1, 1.05, False)])
@pytest.mark.parametrize("objective", ["ttft:p95=1s", "request_latency:p95=1s"])
def test_one_user_is_told_that_slow_requests_may_be_silences(
    users: int, slow: float, is_told: bool, objective: str
) -> None:
    document = document_of(objective, concurrency=users)
    recorder = Recorder(document)
    recorder.begin(0.0, 0.0, LOAD_SECONDS)
    recorder.set_users(users)
    for index in range(400):
        recorder.record(answered(slow if index % 25 == 0 else 0.1, at=0.2 * index))
    summary = summarize(recorder.finish(LOAD_SECONDS), document)
    assert summary.verdict is Verdict.PASSED
    assert ("One user cannot tell a server that stands still from a slow request." in summary.message) is is_told


def test_merged_pods_have_the_silences_of_the_pod_with_the_shortest_total() -> None:
    """A silence of the server is one for all pods. A pod with few users has others, in which it only waits for them."""
    parts = []
    for silences in (SILENCES, SILENCES[:3], SILENCES[:7]):
        recorder = Recorder(document_of())
        recorder.begin(0.0, 0.0, LOAD_SECONDS)
        for begin, end in silences:
            recorder.add_silence(begin, end)
        parts.append(recorder.finish(LOAD_SECONDS))
    assert merge(parts).silences == parts[1].silences
    assert merge([parts[0], merge([parts[2], parts[1]])]).silences == parts[1].silences
