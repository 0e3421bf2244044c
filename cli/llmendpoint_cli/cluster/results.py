"""Reads the result of a LoadTest, and follows a LoadTest until it has one."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from llmendpoint_cli.cluster.access import Cluster, Manifest, cluster_of
from llmendpoint_cli.cluster.names import ObjectName, parse_object_name
from llmendpoint_common.contracts.cluster import LoadTestCondition
from llmendpoint_common.contracts.loadrun import (
    RESULT_KEY,
    Summary,
    Verdict,
    VerdictReason,
    exit_code_of,
    parse_result,
)
from llmendpoint_common.process.errors import ClusterError, RunResultError
from llmendpoint_loadjob.report.progress import Line
from llmendpoint_loadjob.report.streams import progress_console

_POLL_SECONDS = 1.0


class Outcome(NamedTuple):
    """How a LoadTest ended. `summary` is None if no pod could write one."""

    verdict: Verdict
    reason: VerdictReason
    message: str
    summary: Summary | None

    @property
    def exit_code(self) -> int:
        """The exit code of the verdict."""
        return exit_code_of(self.verdict, self.reason)


async def follow(cluster: Cluster, name: ObjectName, show: Callable[[Iterable[str]], None]) -> Manifest:
    """Show the progress of a LoadTest until it is complete, and return it."""
    while True:
        resource = await cluster.load_test(name)
        if is_complete(resource):
            return resource
        show(progress_of(resource))
        await asyncio.sleep(_POLL_SECONDS)


def is_complete(resource: Manifest) -> bool:
    """Return whether a LoadTest has ended."""
    return condition(resource, LoadTestCondition.COMPLETE).get("status") == "True"


def condition(resource: Manifest, kind: LoadTestCondition) -> dict[str, Any]:
    """Return a condition of a LoadTest, or an empty object if it is not set yet."""
    conditions = (resource.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item.get("type") == kind), {})


def progress_of(resource: Manifest) -> Iterator[str]:
    """Yield the parts of the line about a LoadTest. Its state is in the operator's words."""
    status = resource.get("status") or {}
    message = str(condition(resource, LoadTestCondition.RECONCILING).get("message") or "waiting for the operator")
    progress = status.get("progress")
    if not progress:
        yield message
        return
    yield f"{status.get('progressPercent') or 0:3d} %"
    yield from message.split(", ")
    yield f"{progress.get('inFlight') or 0} in flight"
    if progress.get("requestsPerSecond"):
        yield f"{progress['requestsPerSecond']} requests/s"


async def outcome_of(cluster: Cluster, name: ObjectName, resource: Manifest) -> Outcome:
    """Return how a LoadTest that has ended did. Raises ClusterError if it has not ended."""
    if not is_complete(resource):
        percent = (resource.get("status") or {}).get("progressPercent") or 0
        raise ClusterError(f"LoadTest {name} has not ended ({percent} % done); follow it with --wait")
    passed = condition(resource, LoadTestCondition.PASSED)
    try:
        verdict = Verdict((resource.get("status") or {}).get("verdict") or Verdict.ERROR)
        reason = VerdictReason(passed.get("reason") or VerdictReason.RUN_ERROR)
    except ValueError as error:
        raise ClusterError(f"LoadTest {name} has a verdict that this version does not know: {error}") from None
    summary = await _summary(cluster, name, resource)
    return Outcome(verdict, reason, str(passed.get("message") or ""), summary)


async def fetch(text: str, options: Namespace, *, is_awaited: bool) -> tuple[ObjectName, Outcome]:
    """Return the name and the outcome of the LoadTest that `text` names. Raises ClusterError."""
    async with cluster_of(options.kubeconfig, options.context) as cluster:
        name = cluster.resolve(parse_object_name(text))
        if is_awaited:
            with Line(progress_console()) as show:
                resource = await follow(cluster, name, show)
        else:
            resource = await cluster.load_test(name)
        return name, await outcome_of(cluster, name, resource)


async def _summary(cluster: Cluster, name: ObjectName, resource: Manifest) -> Summary | None:
    """Return the result of a LoadTest, or None. The operator has merged the results of several pods."""
    reference = (resource.get("status") or {}).get("resultConfigMap") or {}
    if not reference:
        return None
    data = await cluster.config_map(ObjectName(name.namespace, reference["name"]), reference["uid"])
    text = (data or {}).get(RESULT_KEY)
    if not text:
        return None
    try:
        return parse_result(text)
    except RunResultError as error:
        raise ClusterError(f"LoadTest {name}: {error}") from None
