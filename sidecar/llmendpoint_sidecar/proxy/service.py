"""The data path of one process: the proxy, its admission, and the outputs of request records."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeAlias

from llmendpoint_common.contracts.sidecar import SidecarConfig
from llmendpoint_sidecar.policy.admission import Admission
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
    """Serves clients on listening sockets. Raises OSError if keys, a certificate or a library cannot be loaded."""

    def __init__(self, settings: Settings, runtime: Runtime, config: SidecarConfig) -> None:
        self._settings = settings
        self._meter = runtime.meter
        self.keyring = Keyring(settings.keys)
        self.admission = Admission(
            runtime.meter.in_flight, self.keyring, time.monotonic, runtime.budget, runtime.watch.context_length
        )
        self.admission.configure(config)
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
        self._certificate = certificate_of(settings)
        self.telemetry = _telemetry(settings.otlp_endpoint) if settings.otlp_endpoint else None
        if self.telemetry is not None:
            self._meter.journal.listeners.append(self.telemetry.record)

    async def start(self, sockets: list[socket.socket]) -> list[Job]:
        """Start serving, and return the jobs that have to run meanwhile."""
        jobs: list[Job] = [self._meter.run]
        settings, certificate = self._settings, self._certificate
        if certificate is not None:
            jobs.append(certificate.watch)
        if settings.keys:
            jobs.append(self.keyring.watch)
        if settings.access_log:
            access = AccessLog()
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


def certificate_of(settings: Settings) -> Certificate | None:
    """Return the certificate of the proxy, or None if none is set. Raises OSError if it cannot be loaded."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


def _telemetry(endpoint: str) -> Telemetry:
    """Return the OTLP export. Raises OSError if its libraries, which are an extra, are not installed."""
    try:
        from llmendpoint_sidecar.records.otlp import Telemetry  # noqa: PLC0415
    except ImportError:
        raise OSError("--otlp-endpoint requires additional libraries: pip install 'llmendpoint[otlp]'") from None
    return Telemetry(endpoint)
