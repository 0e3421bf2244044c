"""The join with the sidecars' records: the parts add up to the time to first token, and tokens are compared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_common.contracts.sidecar import Operation, Outcome, RequestRecord
from llmendpoint_common.results.join import PARTS, ClientRequest, audit_of, join, split
from llmendpoint_common.results.merge import merge
from llmendpoint_common.results.summary import summarize
from support.load.runs import answered, document_of, measure

SECONDS = st.floats(min_value=0, max_value=100)
MAYBE = st.one_of(st.none(), SECONDS)


def record(name: str = "a", **fields: Any) -> RequestRecord:
    values: dict[str, Any] = {"prompt_tokens": 7, "generation_tokens": 11, "time_to_first_token": 0.4, "overhead": 0.001,
                              "queue": 0.2, "load": 0.05, "prefill": 0.1}  # fmt: skip
    return RequestRecord(1.0, name, "", "m", Operation.CHAT, 200, Outcome.OK, 1.0, **{**values, **fields})


def request(name: str = "a", **fields: Any) -> ClientRequest:
    values: dict[str, Any] = {"queue_delay": 0.02, "ttft": 0.41, "input_tokens": 7, "output_tokens": 11}
    return ClientRequest(name, **{**values, **fields})


@given(SECONDS, SECONDS, SECONDS, MAYBE, MAYBE, MAYBE, MAYBE)
def test_the_parts_add_up_to_the_time_to_first_token(
    delay: float,
    ttft: float,
    inside: float,
    overhead: float | None,
    queue: float | None,
    load: float | None,
    prefill: float | None,
) -> None:
    parts = split(
        request(queue_delay=delay, ttft=ttft),
        record(time_to_first_token=inside, overhead=overhead, queue=queue, load=load, prefill=prefill),
    )
    assert parts is not None
    assert tuple(parts) == PARTS
    assert min(parts.values()) >= 0
    assert sum(parts.values()) - parts["client"] == pytest.approx(ttft, abs=1e-9)
    assert parts["client"] == delay


def test_each_part_is_the_time_that_was_measured_for_it() -> None:
    parts = split(request(), record())
    assert parts == pytest.approx(
        {"client": 0.02, "network": 0.01, "proxy": 0.001, "queue": 0.249, "load": 0.05, "prefill": 0.1}
    )


@pytest.mark.parametrize(("ttft", "inside"), [(None, 0.4), (0.4, None)])
def test_without_a_first_token_there_are_no_parts(ttft: float | None, inside: float | None) -> None:
    joined = join([request(ttft=ttft)], {"a": record(time_to_first_token=inside)})
    assert joined.parts == {}
    assert joined.found == 1


def test_the_audit_compares_tokens_request_by_request() -> None:
    requests = [request("a"), request("b"), request("c"), request("d", output_tokens=None)]
    # The totals agree although two requests differ.
    records = {"a": record(generation_tokens=10), "b": record(generation_tokens=12), "d": record()}
    audit = audit_of(join(requests, records))
    assert (audit.requests, audit.found, audit.differing) == (4, 3, 2)
    assert audit.client_tokens == audit.metered_tokens == 36
    assert audit.message == (
        "The tokens of 2 requests differ: the client was told 36 tokens, and 36 were metered; 1 request had no record"
    )


def test_a_request_that_was_not_metered_differs() -> None:
    audit = audit_of(join([request()], {"a": record(prompt_tokens=None, generation_tokens=None)}))
    assert (audit.client_tokens, audit.metered_tokens, audit.differing) == (18, 0, 1)


def test_equal_tokens_are_said_to_be_equal() -> None:
    audit = audit_of(join([request()], {"a": record()}))
    assert audit.message == "The 18 tokens of 1 request are those that were metered"


def test_no_record_at_all_is_said() -> None:
    assert audit_of(join([request()], {})).message == "No sidecar has a record of a request of this run"


def test_why_records_could_not_be_read_is_said_if_one_is_missing() -> None:
    why = "http://127.0.0.1:1 could not be read: Connection refused"
    nothing = join([request()], {})
    nothing.failure = why
    assert audit_of(nothing).message == f"No sidecar has a record of a request of this run: {why}"
    some = join([request("a"), request("b")], {"a": record()})
    some.failure = why
    assert audit_of(some).message.endswith(f"; 1 request had no record: {why}")
    every = join([request()], {"a": record()})
    every.failure = why
    assert why not in audit_of(every).message


def test_why_records_could_not_be_read_merges() -> None:
    parts = [measure([answered()], document_of()) for _ in range(3)]
    parts[0].join.failure, parts[2].join.failure = "b", "a"
    assert merge(parts).join.failure == "a"


def test_the_join_is_in_the_summary_and_merges() -> None:
    document = document_of()
    parts = [measure([answered()], document) for _ in range(2)]
    for index, part in enumerate(parts):
        part.join = join([request(str(index))], {str(index): record(str(index))})
    summary = summarize(merge(parts), document)
    assert summary.meter_audit is not None
    assert (summary.meter_audit.requests, summary.meter_audit.differing) == (2, 0)
    assert [part.name for part in summary.ttft_split] == list(PARTS)
    assert summary.server_queue is not None
    assert sum(part.latency.mean for part in summary.ttft_split[1:]) == pytest.approx(0.41, abs=1e-5)


def test_a_run_without_records_has_no_audit() -> None:
    summary = summarize(measure([answered()], document_of()), document_of())
    assert summary.meter_audit is None
    assert summary.ttft_split == ()
