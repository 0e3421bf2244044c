"""The table `doctor` of a machine: findings about its sidecars, their Ollamas and Prometheus.

The findings are those of `llmendpoint doctor`. By default, they are from the responses of the servers only: in contrast
to the command, the dashboard does not look at processes, files and disks of the machine. The dashboard of a stack has
the observations of the command.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

import aiohttp

from llmendpoint_common.diagnosis.facts import MachineFacts
from llmendpoint_common.diagnosis.findings import Finding
from llmendpoint_common.diagnosis.gather import OllamaPlace, Places, PrometheusPlace, SidecarPlace, gather
from llmendpoint_common.diagnosis.rules import machine_findings
from llmendpoint_dashboard.contract import DoctorRow, Severity, TableSection
from llmendpoint_dashboard.settings import Settings
from llmendpoint_dashboard.state import Hub, RowWriter

log = logging.getLogger(__name__)

#: Returns the facts about a machine with these servers.
Observe = Callable[[aiohttp.ClientSession, Places], Awaitable[MachineFacts]]
_INTERVAL_SECONDS = 10.0
#: Shorter at the start, until everything has started.
_FIRST_SECONDS = 2.0


class MachineDoctor:
    """Examines the servers of this machine regularly."""

    def __init__(self, hub: Hub, settings: Settings, observe: Observe = gather) -> None:
        self._writer = RowWriter(hub, TableSection.DOCTOR)
        self._observe = observe
        self._places = places_of(settings)

    async def run(self) -> None:
        """Examine until the task is cancelled."""
        await asyncio.sleep(_FIRST_SECONDS)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                try:
                    await self.examine(session)
                except Exception:
                    # An unexpected response must not end the dashboard.
                    log.exception("the servers of this machine could not be examined")
                await asyncio.sleep(_INTERVAL_SECONDS)

    async def examine(self, session: aiohttp.ClientSession) -> None:
        """Examine once, and write the rows."""
        self._writer.replace(doctor_rows(machine_findings(await self._observe(session, self._places))))


def places_of(settings: Settings) -> Places:
    """Return the servers that the settings name."""
    upstreams = settings.upstreams or {}
    return Places(
        ollamas=tuple(OllamaPlace(url) for url in dict.fromkeys(upstreams.values())),
        sidecars=tuple(
            SidecarPlace(address.name, address.url, upstream=upstreams.get(address.name, ""))
            for address in settings.sidecars
        ),
        prometheus=None if settings.prometheus is None else PrometheusPlace(settings.prometheus),
    )


def doctor_rows(findings: Iterable[Finding]) -> list[DoctorRow]:
    """Return the rows of findings."""
    return [
        DoctorRow(
            key=finding.key,
            severity=Severity(finding.severity.value),
            subject=finding.subject,
            cause=finding.cause,
            sentence=finding.sentence,
            advice=finding.advice,
            command=finding.command,
        )
        for finding in findings
    ]
