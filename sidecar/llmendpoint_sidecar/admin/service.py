"""The admin server and the model agent of a sidecar. If there are workers, only the supervisor runs them."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable

from llmendpoint_common.contracts.sidecar import Outcome, SidecarStatus, Stall, Totals
from llmendpoint_common.process.hosts import HostRule, admin_host_rule
from llmendpoint_common.process.sockets import are_loopback
from llmendpoint_common.process.version import VERSION
from llmendpoint_sidecar.admin.gauges import Gauges
from llmendpoint_sidecar.admin.server import Health, Records, admin_server
from llmendpoint_sidecar.agent.memory import Memory
from llmendpoint_sidecar.agent.model_agent import ModelAgent
from llmendpoint_sidecar.inputs.files import Inputs
from llmendpoint_sidecar.proxy.service import Job
from llmendpoint_sidecar.runtime import Runtime

#: Outcomes that are not errors. A request that its client cancelled counts as an error.
_GOOD = frozenset({Outcome.OK, Outcome.LENGTH, Outcome.LOAD, Outcome.UNLOAD})


class AdminService:
    """Serves metrics and status, and has the model agent. The caller runs the jobs that `start` returns.

    `refresh` is awaited before metrics and status are read. `records` are those of ended requests.
    """

    def __init__(
        self,
        runtime: Runtime,
        inputs: Inputs,
        refresh: Callable[[], Awaitable[None]],
        records: Records,
    ) -> None:
        self._runtime = runtime
        self.health = Health()
        memory = Memory(runtime.settings.state_folder)
        self.agent = ModelAgent(runtime.ollama, runtime.watch, memory, self._activity, time.monotonic)
        self.agent.configure(inputs.config)
        self._config, self._config_digest = inputs.config, inputs.config_digest
        self._loopback = False
        self._hosts: HostRule | None = None
        runtime.metrics.registry.register(Gauges(runtime.meter, runtime.watch, self.agent, self._stalled))
        self._server = admin_server(runtime.metrics, self.status, records, refresh, self.health, self._is_served)

    def configure(self, inputs: Inputs) -> None:
        """Apply a configuration. If it has not changed, pending retries of the model agent keep their times."""
        config, self._config_digest = inputs.config, inputs.config_digest
        if config != self._config:
            self._config = config
            self._hosts = admin_host_rule(config.allowed_hosts, loopback=self._loopback)
            self.agent.configure(config)

    async def start(self, sockets: list[socket.socket]) -> list[Job]:
        """Start the server, and return the background jobs to run with it."""
        self._loopback = are_loopback(sockets)
        self._hosts = admin_host_rule(self._config.allowed_hosts, loopback=self._loopback)
        await self._server.start(sockets)
        return [self._runtime.watch.run, self.agent.run]

    async def stop(self) -> None:
        """Stop the server, and close the connections to Ollama."""
        await self._server.stop()
        await self._runtime.ollama.close()

    def status(self) -> SidecarStatus:
        """Return the content of `/status`."""
        runtime = self._runtime
        outcomes = runtime.metrics.totals_by("requests", "outcome")
        return SidecarStatus(
            version=VERSION,
            ready=self._is_ready(),
            draining=self.health.draining,
            upstream_up=runtime.watch.up,
            upstream_version=runtime.watch.version,
            upstream_problem=runtime.watch.problem,
            models=self.agent.statuses(),
            totals=Totals(
                requests=sum(outcomes.values()),
                errors=sum(count for outcome, count in outcomes.items() if outcome not in _GOOD),
                prompt_tokens=runtime.metrics.total("prompt_tokens"),
                generation_tokens=runtime.metrics.total("generation_tokens"),
                running=sum(runtime.meter.in_flight.running().values()),
                waiting=sum(runtime.meter.in_flight.waiting().values()),
            ),
            stalled=self.health.stalled,
            last_stall=self.health.last_stall,
            config_digest=self._config_digest,
        )

    def _activity(self) -> tuple[int, int]:
        """Return the number of requests in flight, and of those that have ended."""
        in_flight = self._runtime.meter.in_flight
        ended = sum(self._runtime.metrics.totals_by("requests", "outcome").values())
        return sum(in_flight.running().values()) + sum(in_flight.waiting().values()), ended

    def _is_ready(self) -> bool:
        health = self.health
        serves = health.serving and not health.draining and health.stalled is None
        # `agent.ready` is read always, because it remembers that the models were ready.
        return self.agent.ready and self._runtime.watch.up and serves

    def _stalled(self) -> Stall | None:
        return self.health.stalled

    def _is_served(self, host: str) -> bool:
        return self._hosts is None or self._hosts[host.encode("utf-8", "surrogateescape")]
