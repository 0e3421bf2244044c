"""Limits of a tenant in virtual time: buckets, the time to come again, and the charge of tokens."""

from __future__ import annotations

import msgspec
import pytest

from llmendpoint_common.contracts.sidecar import RefusalReason, TenantLimits
from llmendpoint_sidecar.meter.exchange import Spent
from llmendpoint_sidecar.policy.limits import Allowance, prompt_estimate, retry_after, tokens_used


def allowance(**limits: int) -> Allowance:
    return Allowance(msgspec.structs.replace(TenantLimits(), **limits), 0.0)


def test_an_account_far_below_zero_tells_when_it_is_even_again() -> None:
    one = allowance(tokens_per_minute=50)
    one.charge(120)  # 70 in debt, and 0.83 tokens per second
    reached = one.quota(0.0)
    assert reached == ("50 tokens per minute", 86, RefusalReason.TOKENS_PER_MINUTE)
    assert one.quota(85.0) is not None
    assert one.quota(86.0) is None


@pytest.mark.parametrize("per_minute", [1, 7, 50, 60, 599, 100_000])
@pytest.mark.parametrize("debt", [1, 2, 33, 1000, 123_457])
def test_a_client_that_waits_as_long_as_it_was_told_is_admitted(per_minute: int, debt: int) -> None:
    one = allowance(tokens_per_minute=per_minute, requests_per_minute=per_minute)
    one.charge(debt)
    one.enter()
    reached = one.quota(0.0)
    now = 0.0 if reached is None else float(reached[1])
    assert one.quota(now) is None


def test_of_several_reached_limits_the_slowest_is_named() -> None:
    one = allowance(tokens_per_minute=60, requests_per_minute=1, max_concurrent=1)
    one.enter()
    assert one.quota(0.0) == ("1 requests per minute", 60, RefusalReason.REQUESTS_PER_MINUTE)
    one.charge(160)
    assert one.quota(0.0) == ("60 tokens per minute", 101, RefusalReason.TOKENS_PER_MINUTE)
    assert one.quota(100.5) == ("1 concurrent requests", 1, RefusalReason.MAX_CONCURRENT)
    one.leave()
    assert one.quota(101.0) is None


def test_a_correction_gives_back_what_the_estimate_took_and_never_more_than_a_minute() -> None:
    one = allowance(tokens_per_minute=100)
    one.charge(500)
    assert one.quota(0.0) is not None
    one.charge(10 - 500)
    assert one.quota(0.0) is None
    one.charge(89)
    assert one.quota(0.0) is None  # one token is left
    one.charge(1)
    assert one.quota(0.0) == ("100 tokens per minute", 1, RefusalReason.TOKENS_PER_MINUTE)
    one.charge(-1_000_000)
    assert one.quota(0.0) is None
    one.charge(100)
    assert one.quota(0.0) == ("100 tokens per minute", 1, RefusalReason.TOKENS_PER_MINUTE)


def test_the_estimate_is_a_quarter_of_the_bytes_and_at_most_what_the_model_reads() -> None:
    assert prompt_estimate(0, None) == 0
    assert prompt_estimate(1, None) == 1
    assert prompt_estimate(4000, None) == 1000
    assert prompt_estimate(64 * 1024 * 1024, 4096) == 4096
    assert prompt_estimate(64 * 1024 * 1024, None) == 32_768


@pytest.mark.parametrize(
    ("spent", "tokens"),
    [
        (Spent(counted=53, generated=50, served=True), 53),
        (Spent(counted=0, generated=0, served=True), 0),
        (Spent(counted=None, generated=0, served=True), 100),
        (Spent(counted=None, generated=7, served=True), 107),
        (Spent(counted=None, generated=0, served=False), 0),
    ],
    ids=["counted by the server", "counted as zero", "left before the first piece", "left, or no usage", "not served"],
)
def test_the_charge_is_what_the_server_counted_else_the_estimate_and_the_pieces(spent: Spent, tokens: int) -> None:
    assert tokens_used(100, spent) == tokens


@pytest.mark.parametrize(("seconds", "header"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (84.0, 84), (3600.5, 3601)])
def test_retry_after_is_in_whole_seconds_and_never_too_short(seconds: float, header: int) -> None:
    assert retry_after(seconds) == header
