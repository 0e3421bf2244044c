"""Types of the servers that fixtures start in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from llmendpoint_sidecar.main import Sidecar
from llmendpoint_simulator.behaviour import change
from llmendpoint_simulator.server import Simulator


class RunningSimulator:
    """A simulator and its port."""

    def __init__(self, simulator: Simulator, port: int) -> None:
        self.simulator = simulator
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def behave(self, **changes: object) -> None:
        """Change some of its behaviour."""
        self.simulator.behaviour = change(self.simulator.behaviour, msgspec.json.encode(changes))


StartSimulator = Callable[..., Awaitable[RunningSimulator]]
StartSidecar = Callable[..., Awaitable[Sidecar]]
