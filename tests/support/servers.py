"""Types of the servers that the fixtures start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from llmendpoint_sidecar.main import Sidecar
from llmendpoint_simulator.behaviour import change
from llmendpoint_simulator.known.server import KnownLatencyServer
from llmendpoint_simulator.ledger import Entry
from llmendpoint_simulator.server import Simulator


class RunningSimulator:
    """A simulator that listens on a port."""

    def __init__(self, simulator: Simulator, port: int) -> None:
        self.simulator = simulator
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def behave(self, **changes: object) -> None:
        """Change fields of the behaviour."""
        self.simulator.behaviour = change(self.simulator.behaviour, msgspec.json.encode(changes))


class RunningKnownLatency:
    """A known-latency server that listens on a port."""

    def __init__(self, server: KnownLatencyServer, port: int) -> None:
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def entries(self) -> list[Entry]:
        """The entries of the ledger, in the order of arrival."""
        return list(self.server.ledger.entries)


StartKnownLatency = Callable[..., Awaitable[RunningKnownLatency]]
StartSimulator = Callable[..., Awaitable[RunningSimulator]]
StartSidecar = Callable[..., Awaitable[Sidecar]]
