"""Orders to start, over real connections: pods start together although their orders are sent one after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmendpoint_common.contracts.loadrun import Progress, StartOrder, StartState
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.loadtest.progress import RunProgress
from llmendpoint_operator.loadtest.starter import LEAD_SECONDS, Starter
from support.clock import Clock

OWNER = Owner("LoadTest", "ns", "smoke", "uid-run")
READY = Progress(0, 0, 0, 0, 0, 0.0, start=StartState.READY)


class SlowPods:
    """Pods whose answers take some seconds of the clock. `starts` has the time at which each one would start."""

    def __init__(self, clock: Clock, *delays: float) -> None:
        self.clock = clock
        self.delays = [*delays]
        self.starts: dict[str, float] = {}

    async def start(self, pod: dict[str, Any], order: StartOrder) -> bool:
        delay = self.delays.pop(0) if self.delays else 0.0
        # The order takes half of the time to arrive.
        self.clock.now += delay / 2
        self.starts[pod["metadata"]["name"]] = self.clock.now + order.in_seconds
        self.clock.now += delay / 2
        return True


def pod(index: int) -> dict[str, Any]:
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    return {"metadata": {"name": f"smoke-{index}", "labels": labels}}


@pytest.mark.parametrize("delays", [(), (0.02, 0.01), (0.5,), (2.0, 0.0, 1.0)])
async def test_pods_start_together_whatever_an_order_takes(delays: tuple[float, ...]) -> None:
    clock = Clock()
    begin = clock.now
    pods = SlowPods(clock, *delays)
    progress = RunProgress([pod(0), pod(1)], [READY, READY], 2)
    assert await Starter(pods, clock).start(OWNER, progress) == ""  # type: ignore[arg-type]
    first, second = pods.starts.values()
    assert abs(first - second) <= 0.03
    assert abs(first - begin - LEAD_SECONDS) <= 0.03


async def test_an_order_that_is_always_late_is_not_repeated_for_ever() -> None:
    clock = Clock()
    pods = SlowPods(clock, *[1.0] * 10)
    await asyncio.wait_for(Starter(pods, clock).start(OWNER, RunProgress([pod(0)], [READY], 1)), 5)  # type: ignore[arg-type]
    assert len(pods.delays) == 6
