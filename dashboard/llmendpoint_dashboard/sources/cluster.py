"""The cluster as a source: watches our resources, writes their rows, and passes on the addresses of the sidecars.

For each kind and scope, a reflector lists and watches the objects, and a table keeps what is shown of them. A row is
written when its object changes. Findings and the addresses of sidecars depend on several objects, so they are written a
short time after the first change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_common.diagnosis.facts import ClusterFacts
from llmendpoint_common.diagnosis.findings import Finding, Severity
from llmendpoint_common.diagnosis.rules import cluster_findings
from llmendpoint_dashboard.cluster.client import ApiServer
from llmendpoint_dashboard.cluster.endpoints import EndpointView, advice_of, endpoint_view
from llmendpoint_dashboard.cluster.kinds import ENDPOINTS, LOADTESTS, SCHEDULES, SLICES, Kind
from llmendpoint_dashboard.cluster.loadtests import loadtest_view, rank
from llmendpoint_dashboard.cluster.reflector import Reflector
from llmendpoint_dashboard.cluster.sidecars import SidecarAddress, chosen, slice_addresses
from llmendpoint_dashboard.cluster.stalled import schedule_finding
from llmendpoint_dashboard.cluster.tables import Table
from llmendpoint_dashboard.contract import TableSection
from llmendpoint_dashboard.sources.doctor import doctor_rows
from llmendpoint_dashboard.state import Hub, RowWriter

#: Time for which changes are collected before findings and addresses are computed.
_COLLECT_SECONDS = 0.5
#: How often they are computed without a change, because the API server may have become silent.
_CHECK_SECONDS = 5.0
#: Number of objects of each kind that are kept. A LoadTest that has ended is forgotten before any other one.
MAX_OBJECTS = 2000
#: Number of sidecars that are read.
MAX_SIDECARS = 2000

#: Returns the findings about a cluster.
Diagnose = Callable[[ClusterFacts], Sequence[Finding]]


class ClusterSource:
    """Watches the given namespaces, or all if there are none. `on_sidecars` is called when the addresses change."""

    def __init__(
        self,
        server: ApiServer,
        namespaces: Sequence[str],
        hub: Hub,
        on_sidecars: Callable[[tuple[SidecarAddress, ...]], None],
        diagnose: Diagnose = cluster_findings,
    ) -> None:
        self._server = server
        self._hub = hub
        self._on_sidecars = on_sidecars
        self._diagnose = diagnose
        self._doctor = RowWriter(hub, TableSection.DOCTOR)
        self._dirty = asyncio.Event()
        self._sidecars: tuple[SidecarAddress, ...] | None = None
        self._findings: dict[str, Sequence[Finding]] = {}
        self._endpoints = Table(endpoint_view, self._endpoint_changed, self._endpoint_removed, _created, MAX_OBJECTS)
        self._loadtests = Table(loadtest_view, self._loadtest_changed, self._loadtest_removed, rank, MAX_OBJECTS)
        self._schedules = Table(schedule_finding, self._touch, self._touch, _is_finding, MAX_OBJECTS)
        self._slices = Table(slice_addresses, self._touch, self._touch, len, 2 * MAX_OBJECTS)
        tables: dict[Kind, Table[Any]] = {
            ENDPOINTS: self._endpoints,
            LOADTESTS: self._loadtests,
            SCHEDULES: self._schedules,
            SLICES: self._slices,
        }
        self._reflectors = [
            Reflector(server, kind, scope, table) for scope in namespaces or ("",) for kind, table in tables.items()
        ]

    async def run(self) -> None:
        """Watch until the task is cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())
            while True:
                try:
                    async with asyncio.timeout(_CHECK_SECONDS):
                        await self._dirty.wait()
                except TimeoutError:
                    pass
                await asyncio.sleep(_COLLECT_SECONDS)
                self.flush()

    @property
    def is_listed(self) -> bool:
        """Whether each kind was listed once, or is refused."""
        return all(reflector.listed.is_set() or reflector.is_refused for reflector in self._reflectors)

    @property
    def message(self) -> str:
        """One sentence that says why something is missing or out of date. Empty while everything is watched."""
        troubled = [reflector for reflector in self._reflectors if reflector.trouble]
        if troubled:
            refused = next((reflector for reflector in troubled if reflector.is_refused), None)
            return self._refusal(refused) if refused else self._silence(troubled[0])
        if not self.is_listed:
            return f"The objects of the cluster are being read from {self._server.url}."
        if self._endpoints.is_cut or self._loadtests.is_cut:
            return f"Only {MAX_OBJECTS} endpoints and the newest {MAX_OBJECTS} load tests are shown."
        return ""

    def summary(self, key: str) -> Any:
        """Return `status.summary` of a LoadTest, or None if it has not ended or does not exist."""
        view = self._loadtests.get(key)
        return None if view is None else view.summary

    def flush(self) -> None:
        """Write findings, and pass on the addresses of sidecars. Both depend on several objects."""
        self._dirty.clear()
        self._doctor.replace(doctor_rows(self._all_findings()))
        known = (
            tuple(address for address in addresses if address.endpoint in self._endpoints)
            for addresses in self._slices.values()
        )
        sidecars = chosen(known, MAX_SIDECARS)
        if sidecars != self._sidecars:
            self._sidecars = sidecars
            self._on_sidecars(sidecars)

    def _all_findings(self) -> Iterable[Finding]:
        yield from self._diagnose(self._facts())
        yield from self._refusals()
        for findings in self._findings.values():
            yield from findings
        for view in self._loadtests.values():
            if view.finding is not None:
                yield view.finding
        for finding in self._schedules.values():
            if finding is not None:
                yield finding

    def _facts(self) -> ClusterFacts:
        """Return the facts about the cluster itself. Those about an endpoint are judged when it changes."""
        absent = {reflector.kind.name for reflector in self._reflectors if reflector.is_absent}
        silent = [reflector for reflector in self._reflectors if reflector.trouble and not reflector.is_refused]
        error = silent[0].trouble if silent else ""
        return ClusterFacts(time.time(), self._server.url, error, absent=tuple(sorted(absent)))

    def _refusals(self) -> Iterable[Finding]:
        for reflector in self._reflectors:
            if reflector.is_refused and not reflector.is_absent:
                subject = f"{reflector.kind.plural} in {reflector.scope or 'all namespaces'}"
                yield Finding(Severity.ERROR, FaultReason.FORBIDDEN, subject, self._refusal(reflector))

    def _endpoint_changed(self, key: str) -> None:
        view = self._endpoints[key]
        findings = self._diagnose(ClusterFacts(time.time(), self._server.url, endpoints=(view.facts,)))
        self._findings[key] = findings
        advice = advice_of(findings)
        self._hub.upsert(TableSection.ENDPOINTS, [msgspec.structs.replace(view.row, advice=advice)])
        self._dirty.set()

    def _endpoint_removed(self, key: str) -> None:
        self._findings.pop(key, None)
        self._hub.remove(TableSection.ENDPOINTS, [key])
        self._dirty.set()

    def _loadtest_changed(self, key: str) -> None:
        self._hub.upsert(TableSection.LOADTESTS, [self._loadtests[key].row])
        self._dirty.set()

    def _loadtest_removed(self, key: str) -> None:
        self._hub.remove(TableSection.LOADTESTS, [key])
        self._dirty.set()

    def _touch(self, _: str) -> None:
        self._dirty.set()

    def _refusal(self, reflector: Reflector) -> str:
        if reflector.is_absent:
            return (
                f"The cluster does not have the kind {reflector.kind.name}. Install the CustomResourceDefinitions: set "
                "crds.install=true, or apply manifests/crds."
            )
        where = f"in namespace {reflector.scope}" if reflector.scope else "in all namespaces"
        return (
            f"The API server refuses to list {reflector.kind.plural} {where}: {reflector.trouble}. Give the "
            "dashboard's ServiceAccount the rules of the chart (rbac.create)."
        )

    def _silence(self, reflector: Reflector) -> str:
        return (
            f"The API server {self._server.url} does not answer: {reflector.trouble}. What is shown of the cluster "
            "may be out of date."
        )


def _created(view: EndpointView) -> str:
    return view.created


def _is_finding(finding: Finding | None) -> bool:
    return finding is not None
