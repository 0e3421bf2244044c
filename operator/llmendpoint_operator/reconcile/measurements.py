"""What load tests measured on endpoints: the way from the status of a LoadTest to that of its LLMEndpoint.

A LoadTest that has ended is recorded in each of its reconciles, so that a new operator knows all of them soon after its
start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from llmendpoint_common.contracts.loadrun import Verdict
from llmendpoint_operator.cluster.keys import Key

#: The fields of a LoadTest's status without which it says nothing about a configuration of its endpoint.
_NEEDED = ("modelDigest", "replicas", "configurationHash", "completionTime")


class Measurements:
    """The results of the load tests that passed, by endpoint. `changed` is called with an endpoint that has another."""

    def __init__(self, changed: Callable[[Key], None] = lambda _: None) -> None:
        self._changed = changed
        self._found: dict[Key, dict[Key, dict[str, Any]]] = {}

    def record(self, loadtest: Key, endpoint: str, status: dict[str, Any]) -> None:
        """Record the status of a LoadTest that has ended. `endpoint` is the name in its `endpointRef`."""
        key = Key(LLMENDPOINT, loadtest.namespace, endpoint)
        result = _result(loadtest.name, status)
        if result is None or self._found.get(key, {}).get(loadtest) == result:
            return
        self._found.setdefault(key, {})[loadtest] = result
        self._changed(key)

    def forget(self, loadtest: Key) -> None:
        """Forget a LoadTest that no longer exists. The status of its endpoint keeps what it measured."""
        for key, results in tuple(self._found.items()):
            if key.namespace == loadtest.namespace and results.pop(loadtest, None) is not None and not results:
                del self._found[key]

    def of(self, endpoint: Key) -> list[dict[str, Any]]:
        """Return the results of an endpoint's load tests, in the form of `status.capacity`."""
        return list(self._found.get(endpoint, {}).values())


def _result(name: str, status: dict[str, Any]) -> dict[str, Any] | None:
    summary = status.get("summary") or {}
    if status.get("verdict") != Verdict.PASSED or "outputTokensPerSecond" not in summary:
        return None
    if any(field not in status for field in _NEEDED):
        return None
    requests, tokens = _throughput(summary)
    return {
        "requestsPerSecond": requests,
        "tokensPerSecond": tokens,
        "model": status["model"],
        "replicas": status["replicas"],
        "loadTestRef": {"name": name},
        "measurementTime": status["completionTime"],
        "modelDigest": status["modelDigest"],
        "configurationHash": status["configurationHash"],
    }


def _throughput(summary: dict[str, Any]) -> tuple[str, str]:
    """Return the requests and the generated tokens per second.

    A sweep also measures rates that are too high and too low, so its result counts, with the tokens of its responses.
    """
    rate = (summary.get("sweep") or {}).get("rate")
    answered = summary.get("requests", 0) - summary.get("errors", 0)
    if rate is None or not answered:
        return summary["requestsPerSecond"], summary["outputTokensPerSecond"]
    return rate, f"{float(rate) * summary.get('outputTokens', 0) / answered:.3g}"
