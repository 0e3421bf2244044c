"""Decides which hangs of Ollama become Events.

With `metering.stall.restart`, a hang is over a few seconds after it was noticed, often before the sidecar is polled. So
Events do not follow the conditions, but the last hang that a sidecar reports, which it also does when it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.endpoint.observe import PodView


class StallEvents:
    """Remembers the hangs that were reported, by endpoint and pod. Those before `started` are not reported again."""

    def __init__(self, started: datetime) -> None:
        self._started = started.timestamp()
        self._reported: dict[Key, dict[str, float]] = {}

    def new(self, key: Key, pods: Sequence[PodView]) -> list[str]:
        """Return a message for each hang that was not reported yet."""
        before = self._reported.pop(key, {})
        last = {pod.name: pod.status.last_stall for pod in pods if pod.status}
        messages = []
        for name, stall in last.items():
            known = before.get(name, self._started)
            if stall is not None and stall.since > known:
                messages.append(f"{name}: {stall.message}")
                before[name] = stall.since
        if before:
            self._reported[key] = before
        return messages

    def forget(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._reported.pop(key, None)
