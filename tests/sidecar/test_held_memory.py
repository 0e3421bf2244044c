"""Shares of the memory for held bodies: between tenants, and between small and large bodies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmendpoint_sidecar.budget import DEFAULT_BUDGET, SMALL_BODY_BYTES
from llmendpoint_sidecar.policy.held_memory import BodyMemory, HeldMemory, Pool

KIB, MIB = 1024, 1024**2


def fill(pool: Pool, tenant: str, step: int = KIB) -> int:
    """Take as much as a tenant gets, and return it."""
    taken = 0
    while pool.take(tenant, step):
        taken += step
    return taken


def test_a_tenant_alone_gets_half_and_each_further_one_finds_a_share() -> None:
    pool = Pool(12 * MIB, fair=True)
    assert fill(pool, "a") == 6 * MIB
    assert fill(pool, "b") == 3 * MIB
    assert fill(pool, "a") == 0
    shares = [fill(pool, f"tenant-{number}") for number in range(5)]
    assert all(shares)
    assert pool.used < 12 * MIB


def test_shares_even_out_when_tenants_come_and_go() -> None:
    pool = Pool(12 * MIB, fair=True)
    held = {"a": fill(pool, "a"), "b": fill(pool, "b")}
    for _ in range(20):
        for tenant in held:
            pool.give_back(tenant, 64 * KIB)
            held[tenant] -= 64 * KIB
            held[tenant] += fill(pool, tenant, 64 * KIB)
    assert held["b"] == pytest.approx(4 * MIB, rel=0.1)
    for tenant, size in held.items():
        pool.give_back(tenant, size)
    assert pool.used == 0
    assert fill(pool, "c") == 6 * MIB


def test_without_keys_the_one_tenant_gets_everything() -> None:
    pool = Pool(12 * MIB, fair=False)
    assert fill(pool, "") == 12 * MIB
    assert not pool.take("", 1)


def test_large_bodies_never_displace_small_ones() -> None:
    memory = HeldMemory(replace(DEFAULT_BUDGET, held_large_bytes=4 * MIB), fair=False)
    large = BodyMemory(memory, "")
    while large.grow(64 * KIB):
        pass
    assert memory.small.used == 0
    assert not BodyMemory(memory, "").grow(SMALL_BODY_BYTES + 1)
    small = BodyMemory(memory, "")
    assert small.grow(SMALL_BODY_BYTES)
    assert not small.grow(1)  # it would become a large one
    assert small.size == SMALL_BODY_BYTES
    large.release()
    assert small.grow(1)
    assert memory.small.used == 0
    for body in (small, small, large):
        body.release()
    assert memory.used == 0


def test_a_default_container_holds_the_largest_bodies_of_two_tenants() -> None:
    memory = HeldMemory(DEFAULT_BUDGET, fair=True)
    with_overhead = memory.body_bytes + MIB
    assert all(BodyMemory(memory, tenant).grow(with_overhead) for tenant in ("a", "b"))
    assert not BodyMemory(memory, "a").grow(with_overhead)
    assert BodyMemory(memory, "c").grow(16 * MIB)


def test_small_bodies_never_keep_large_ones_out() -> None:
    memory = HeldMemory(DEFAULT_BUDGET, fair=False)
    assert memory.small.take("", DEFAULT_BUDGET.held_small_bytes)
    announced = BodyMemory(memory, "", announced=SMALL_BODY_BYTES + 1)
    assert announced.grow(64 * KIB)
    chunked = BodyMemory(memory, "")
    assert chunked.grow(64 * KIB)
    assert chunked.grow(MIB)
    for body in (announced, chunked):
        body.release()
    assert memory.large.used == 0
    assert memory.small.used == DEFAULT_BUDGET.held_small_bytes
