"""The data path of one process: the proxy, its admission, and the outputs of request records."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeAlias

from llmendpoint_common.process.sockets import are_loopback
from llmendpoint_sidecar.inputs.files import Inputs
from llmendpoint_sidecar.meter.traffic import ModelTraffic, Traffic
from llmendpoint_sidecar.policy.admission import Admission
from llmendpoint_sidecar.policy.hung import HungNotice
from llmendpoint_sidecar.policy.keys import Keyring
from llmendpoint_sidecar.proxy.server import Environment, Proxy
from llmendpoint_sidecar.proxy.timeouts import Timeouts
from llmendpoint_sidecar.proxy.tls import Certificate
from llmendpoint_sidecar.records.access_log import AccessLog
from llmendpoint_sidecar.runtime import Runtime
from llmendpoint_sidecar.settings import Settings

if TYPE_CHECKING:
    from llmendpoint_sidecar.records.otlp import Telemetry

log = logging.getLogger(__name__)

Job: TypeAlias = Callable[[], Coroutine[None, None, None]]


class ProxyService:
    """Serves clients on listening sockets. Raises OSError if a library is missing."""

    def __init__(self, settings: Settings, runtime: Runtime, inputs: Inputs) -> None:
        self._settings = settings
        self._meter = runtime.meter
        self.admission = Admission(
            runtime.meter.in_flight, Keyring(inputs.keys), time.monotonic, runtime.budget, runtime.watch.context_length
        )
        self.admission.configure(inputs.config)
        timeouts = Timeouts(
            connect=settings.connect_timeout,
            first_byte=settings.first_byte_timeout,
            idle=settings.idle_timeout,
            keep_alive=settings.keep_alive_timeout,
        )
        self.proxy = Proxy(
            settings.upstream,
            timeouts,
            runtime.meter.begin,
            self.admission,
            time.monotonic,
            Environment(runtime.budget, runtime.ollama.cors_headers),
        )
        self._certificate = None if inputs.certificate is None else Certificate(inputs.certificate)
        self._access_log: AccessLog | None = None
        self.telemetry = _telemetry(settings.otlp_endpoint) if settings.otlp_endpoint else None
        if self.telemetry is not None:
            self._meter.journal.listeners.append(self.telemetry.record)

    def configure(self, inputs: Inputs) -> None:
        """Apply configuration, keys and certificate in one step of the event loop."""
        # The certificate comes first, because only it can fail.
        if self._certificate is not None and inputs.certificate is not None:
            self._certificate.use(inputs.certificate)
        self.admission.keyring.use(inputs.keys)
        self.admission.configure(inputs.config)

    def traffic(self) -> Traffic:
        """Return the requests in flight by model, and when each model sent its last byte."""
        found, in_flight = self.proxy.traffic(), self._meter.in_flight
        for label, count in in_flight.counts().items():
            found.setdefault(label, ModelTraffic()).in_flight = count
        for label, answered in in_flight.answered.items():
            one = found.setdefault(label, ModelTraffic())
            one.last_byte = max(one.last_byte, answered)
        for label, given_up in in_flight.given_up.items():
            found.setdefault(label, ModelTraffic()).given_up = given_up
        return found

    def note_hung(self, notice: HungNotice | None) -> None:
        """End waiting requests and refuse new ones while Ollama is hung. None: it is not."""
        self.admission.note_hung(notice)
        self.proxy.note_hung(notice)

    async def start(self, sockets: list[socket.socket]) -> list[Job]:
        """Start serving, and return the jobs that have to run meanwhile."""
        if are_loopback(sockets):
            self.admission.listen_on_loopback()
        jobs: list[Job] = [self._meter.run]
        settings, certificate = self._settings, self._certificate
        if settings.access_log:
            access = self._access_log = AccessLog()
            self._meter.journal.listeners.append(access.add)
            jobs.append(access.run)
        await self.proxy.start(sockets, None if certificate is None else certificate.context)
        return jobs

    async def drain(self) -> None:
        """Accept connections for `--drain-delay`, then let requests finish for up to `--drain-timeout`."""
        cut = await self.proxy.drain(self._settings.drain_delay, self._settings.drain_timeout)
        if cut:
            log.warning("%d connections were closed during a request, because the drain timeout has expired", cut)

    async def close(self) -> None:
        """Close every connection immediately, and pass the records of ended requests to their listeners."""
        await self.proxy.close()
        self._meter.close()
        if self._access_log is not None:
            await asyncio.to_thread(self._access_log.flush)


def _telemetry(endpoint: str) -> Telemetry:
    """Return the OTLP export. Raises OSError if its libraries, which are an extra, are not installed."""
    try:
        from llmendpoint_sidecar.records.otlp import Telemetry  # noqa: PLC0415
    except ImportError:
        raise OSError("--otlp-endpoint requires additional libraries: pip install 'llmendpoint[otlp]'") from None
    return Telemetry(endpoint)
