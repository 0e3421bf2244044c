"""The phases of the benchmark. Each measures one thing on the same API server, and leaves its resources to the next."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counters import ALL, counted, writes
from systems import Running, System, cpu_of

from cluster import RESOURCE, Check, Cluster, Object
from support.api_server.control_plane import ControlPlane

#: Kinds and number of the children of each endpoint.
CHILDREN = {"ServiceAccount": 1, "ConfigMap": 1, "Service": 2, "NetworkPolicy": 1, "StatefulSet": 1}
#: Time between the beginnings of two edits or deletions, in seconds. The operator is not idle in between.
_PACE = 0.05
_PATIENCE = 120.0
#: Time between two looks at the Leases, while an operator that has started does not hold one.
_HOLDER_SECONDS = 0.2


@dataclass
class Bench:
    """The state that the phases share: the system, its process, and what was measured."""

    system: System
    plane: ControlPlane
    cluster: Cluster
    folder: Path
    endpoints: int
    results: dict[str, Any] = field(default_factory=dict)
    operator: Running | None = None
    started: int = 0

    @property
    def names(self) -> list[str]:
        """The names of the endpoints."""
        return [f"endpoint-{index}" for index in range(self.endpoints)]

    def start(self) -> Running:
        """Start the operator, or another replica of it."""
        self.started += 1
        log = self.folder / f"{self.system.name}.log"
        return Running(self.system, self.plane.operator, log, f"operator-{self.started}")

    async def counts(self) -> Counter[str]:
        """Return the requests so far without those of the benchmark itself."""
        return counted(await self.cluster.metrics()) - self.cluster.sent

    async def quiet_counts(self, seconds: float = 1.0) -> Counter[str]:
        """Wait until no request has arrived for some seconds, and return the requests so far."""
        last = await self.counts()
        while True:
            await asyncio.sleep(seconds)
            now = await self.counts()
            if _without_all(now) == _without_all(last):
                return now
            last = now


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile of values (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def start(bench: Bench) -> None:
    """Start the operator on an empty cluster."""
    bench.operator = bench.start()
    ready = await asyncio.to_thread(bench.operator.wait_until_ready)
    await asyncio.to_thread(bench.operator.wait_until_settled)
    bench.results["start"] = {"ready_seconds": ready, **bench.operator.memory()}


async def create(bench: Bench) -> None:
    """Create all endpoints as fast as the API server accepts them, until all children exist and are reported."""
    operator = _running(bench)
    before, cpu, server, own = await bench.counts(), operator.cpu, cpu_of(bench.plane.pids), time.process_time()
    applied = [future for name in bench.names for future in _applied(bench.cluster, name)]
    begin = time.monotonic()
    await asyncio.gather(*(bench.cluster.create(name) for name in bench.names))
    created = time.monotonic()
    times = await asyncio.wait_for(asyncio.gather(*applied), 20 * _PATIENCE)
    end = max(times)
    measured = {
        "created_seconds": created - begin,
        "applied_seconds": end - begin,
        "cpu_seconds": operator.cpu - cpu,
        "api_server_cpu_seconds": cpu_of(bench.plane.pids) - server,
        "bench_cpu_seconds": time.process_time() - own,
    }
    settled = await asyncio.to_thread(operator.wait_until_settled)
    counts = await bench.quiet_counts() - before
    for kind, number in CHILDREN.items():
        found = await bench.cluster.count(kind)
        if found != number * bench.endpoints:
            raise SystemExit(f"{found} instead of {number * bench.endpoints} objects of the kind {kind}")
    bench.results["create"] = {
        **measured, "settled_seconds": settled - begin, "requests": _rounded(counts),
        "writes_per_endpoint": writes(counts) / bench.endpoints, **operator.memory(),
    }  # fmt: skip


async def edit(bench: Bench, number: int) -> None:
    """Edit one endpoint after the other: in turn the port of its Service and the replicas of its StatefulSet."""
    before = await bench.quiet_counts()
    applied, observed = [], []
    for index in range(number):
        name = bench.names[index * 7919 % bench.endpoints]
        begin = time.monotonic()
        child, status = await _edit(bench.cluster, name, index)
        applied.append(child - begin)
        observed.append(status - begin)
        await asyncio.sleep(max(0.0, begin + _PACE - time.monotonic()))
    counts = await bench.quiet_counts() - before
    bench.results["edit"] = {
        **_latencies("applied", applied), **_latencies("observed", observed),
        "requests": _rounded(counts), **_running(bench).memory(),
    }  # fmt: skip


async def delete(bench: Bench, number: int) -> None:
    """Delete one child after the other: in turn a Service and a StatefulSet."""
    before = await bench.quiet_counts()
    back = []
    for index in range(number):
        name, kind = bench.names[index * 7919 % bench.endpoints], ("Service", "StatefulSet")[index % 2]
        created = bench.cluster.seen(kind, name, _created_again())
        begin = time.monotonic()
        await bench.cluster.delete(kind, name)
        back.append(await asyncio.wait_for(created, _PATIENCE) - begin)
        await asyncio.sleep(max(0.0, begin + _PACE - time.monotonic()))
    counts = await bench.quiet_counts() - before
    bench.results["delete"] = {**_latencies("back", back), "requests": _rounded(counts), **_running(bench).memory()}


async def rest(bench: Bench, seconds: float) -> None:
    """Do nothing, and count what the operator does."""
    operator = _running(bench)
    await asyncio.to_thread(operator.wait_until_settled)
    before, cpu, begin = await bench.quiet_counts(3.0), operator.cpu, time.monotonic()
    await asyncio.sleep(seconds)
    elapsed, used = time.monotonic() - begin, operator.cpu - cpu
    counts = await bench.counts() - before
    known = sum(_without_all(counts).values())
    bench.results["rest"] = {
        "seconds": elapsed, "cpu_percent": 100 * used / elapsed, "requests": _rounded(counts),
        "known_requests": known, "other_requests": counts[ALL] - known, **operator.memory(),
    }  # fmt: skip


async def restart(bench: Bench) -> None:
    """Stop the operator, and start it with all endpoints in place."""
    holders = await bench.cluster.holders()
    stopped = await asyncio.to_thread(_running(bench).stop)
    before, server = await bench.quiet_counts(), cpu_of(bench.plane.pids)
    operator = bench.operator = bench.start()
    ready = await asyncio.to_thread(operator.wait_until_ready)
    while bench.system.elects and not await bench.cluster.holders() - holders:  # noqa: ASYNC110
        await asyncio.sleep(_HOLDER_SECONDS)
    settled = await asyncio.to_thread(operator.wait_until_settled)
    cpu = operator.cpu
    counts = await bench.quiet_counts() - before
    api_server_cpu = cpu_of(bench.plane.pids) - server
    # Without an edit, an operator that does nothing would be the best.
    begin = time.monotonic()
    child, _ = await _edit(bench.cluster, bench.names[-1], 4 * bench.endpoints)
    bench.results["restart"] = {
        "stop_seconds": stopped, "ready_seconds": ready, "settled_seconds": settled - operator.started,
        "cpu_seconds": cpu, "api_server_cpu_seconds": api_server_cpu, "edit_ms": 1000 * (child - begin),
        "writes": writes(counts), "requests": _rounded(counts), **operator.memory(),
    }  # fmt: skip


async def failover(bench: Bench) -> None:
    """Kill the replica that writes, and measure the time until the other one has applied an edit."""
    first, second = _running(bench), bench.start()
    try:
        await asyncio.to_thread(second.wait_until_ready)
        await asyncio.to_thread(second.wait_until_settled)
        before = await bench.quiet_counts()
        begin = time.monotonic()
        first.kill()
        child, _ = await _edit(bench.cluster, bench.names[0], 2 * bench.endpoints)
        await asyncio.to_thread(second.wait_until_settled)
        counts = await bench.quiet_counts() - before
    finally:
        first.end()
        bench.operator = second
    bench.results["failover"] = {
        "seconds": child - begin, "writes": writes(counts), "requests": _rounded(counts), **second.memory()
    }  # fmt: skip


def _running(bench: Bench) -> Running:
    assert bench.operator is not None
    return bench.operator


def _applied(cluster: Cluster, name: str) -> list[asyncio.Future[float]]:
    """Return futures for an endpoint whose children exist, and whose status says so."""
    return [
        cluster.seen(RESOURCE, name, lambda item: item is not None and item.is_observed),
        cluster.seen("StatefulSet", name, lambda item: item is not None),
        cluster.seen("Service", name, lambda item: item is not None),
        cluster.seen("Service", f"{name}-pods", lambda item: item is not None),
    ]


async def _edit(cluster: Cluster, name: str, index: int) -> tuple[float, float]:
    """Edit an endpoint, and return the times at which its child and its status show it."""

    def has_port(item: Object | None) -> bool:
        return item is not None and [port.port for port in item.spec.ports] == [value]

    def has_replicas(item: Object | None) -> bool:
        return item is not None and item.spec.replicas == value

    if index % 2:
        value = 2 + index % 89
        child = cluster.seen("StatefulSet", name, has_replicas)
        spec: dict[str, Any] = {"replicas": value}
    else:
        value = 20_000 + index
        child = cluster.seen("Service", name, has_port)
        spec = {"service": {"port": value}}
    # The generation of the edit is known when its response arrives, which may be after the events.
    statuses: list[tuple[int, float]] = []
    wanted = 0

    def is_observed(item: Object | None) -> bool:
        if item is not None:
            statuses.append((item.status.observedGeneration, time.monotonic()))
        return bool(wanted) and statuses[-1][0] >= wanted

    status = cluster.seen(RESOURCE, name, is_observed)
    wanted = await cluster.edit(name, spec)
    if any(generation >= wanted for generation, _ in statuses):
        status.cancel()
    else:
        await asyncio.wait_for(status, _PATIENCE)
    shown = next(moment for generation, moment in statuses if generation >= wanted)
    return await asyncio.wait_for(child, _PATIENCE), shown


def _created_again() -> Check:
    """Return a check that is true for an object that has been deleted and created again."""
    deleted = False

    def check(item: Object | None) -> bool:
        nonlocal deleted
        deleted = deleted or item is None
        return deleted and item is not None

    return check


def _latencies(name: str, seconds: Sequence[float]) -> dict[str, float]:
    return {
        f"{name}_p50_ms": 1000 * percentile(seconds, 0.5),
        f"{name}_p99_ms": 1000 * percentile(seconds, 0.99),
        f"{name}_max_ms": 1000 * max(seconds),
    }


def _without_all(counts: Counter[str]) -> Counter[str]:
    return Counter({name: number for name, number in counts.items() if name != ALL and number})


def _rounded(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted((name, number) for name, number in counts.items() if number))
