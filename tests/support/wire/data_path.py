"""The data path of the sidecar without sockets: a client's connection, and upstream connections that open immediately.

Tests pass bytes and times to it, so they need neither a server nor a pause.
"""

from __future__ import annotations

from collections.abc import Callable

from llmendpoint_common.contracts.sidecar import SidecarConfig
from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.budget import DEFAULT_BUDGET, Budget
from llmendpoint_sidecar.inputs.keys import KeyTable
from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from llmendpoint_sidecar.policy.admission import Admission
from llmendpoint_sidecar.policy.keys import Keyring
from llmendpoint_sidecar.proxy.connection import ClientConnection
from llmendpoint_sidecar.proxy.server import Environment, Proxy
from llmendpoint_sidecar.proxy.timeouts import Timeouts
from llmendpoint_sidecar.proxy.upstream import UpstreamConnection
from support.private import unanswered_requests


class Wire:
    """A transport that keeps the written bytes, and never blocks. `reading` is False while reading is paused."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = self.aborted = False
        self.reading = True
        self.unsent_bytes = 0

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def get_extra_info(self, name: str) -> None:
        """Return nothing: there is no socket."""

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def write_eof(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Clock:
    """A clock that a test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class DataPath:
    """One client of a proxy. `upstreams` has the upstream connections in the order in which requests used them."""

    def __init__(
        self,
        config: SidecarConfig | None = None,
        clock: Callable[[], float] | None = None,
        budget: Budget = DEFAULT_BUDGET,
        keys: KeyTable | None = None,
    ) -> None:
        # A clock that stands still: without an event loop, nothing can be put off because it takes long.
        clock = clock or Clock()
        self.metrics = Metrics()
        model_labels = ModelLabels(lambda: None)
        model_labels.list(["m:latest"])
        self.meter = Meter(self.metrics, model_labels, clock)
        self.admission = Admission(self.meter.in_flight, Keyring(keys), clock, budget)
        self.admission.configure(config or SidecarConfig())
        self.proxy = Proxy(
            Address("127.0.0.1", 1), Timeouts(), self.meter.begin, self.admission, clock, Environment(budget)
        )
        self.upstreams: list[tuple[UpstreamConnection, Wire]] = []
        self.proxy.pool.acquire = self._acquire  # type: ignore[method-assign]
        self.client, self.wire = self.connect()

    def connect(self) -> tuple[ClientConnection, Wire]:
        """Return the connection of another client."""
        client, wire = self.proxy.new_connection(), Wire()
        client.connection_made(wire)  # type: ignore[arg-type]
        return client, wire

    def unanswered(self) -> int:
        """Return the number of requests of the first client that were read and not answered."""
        return unanswered_requests(self.client)

    def _acquire(self) -> UpstreamConnection:
        connection, wire = UpstreamConnection(lambda _: None), Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        self.upstreams.append((connection, wire))
        return connection
