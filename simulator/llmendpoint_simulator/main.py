"""The process of the simulator."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence

from llmendpoint_common.process import exit_codes, lifecycle
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_common.process.sockets import bind_sockets, port_of
from llmendpoint_simulator.known.server import KnownLatencyServer
from llmendpoint_simulator.server import Simulator
from llmendpoint_simulator.settings import Settings, parse_settings

log = logging.getLogger(__name__)


async def serve(settings: Settings, stopping: asyncio.Event) -> int:
    """Serve until `stopping` is set, and return the exit code."""
    try:
        sockets = bind_sockets(settings.listen)
    except OSError as error:
        log.error("%s; choose another port with --listen", error)
        return exit_codes.ERROR
    simulator: KnownLatencyServer | Simulator
    try:
        simulator = KnownLatencyServer(settings.behaviour) if settings.known_latency else Simulator(settings.behaviour)
    except ValueError as error:
        log.error("%s", error)
        return exit_codes.USAGE
    # A collection of all objects takes longer than the errors that the known-latency mode measures.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    await simulator.start(sockets)
    mode = " with known latency" if settings.known_latency else ""
    log.info("simulating Ollama on port %d%s", port_of(sockets), mode)
    await stopping.wait()
    await simulator.stop()
    return exit_codes.OK


def main(arguments: Sequence[str] | None = None, program: str = "llmendpoint_simulator") -> int:
    """Run the simulator, and return its exit code. `program` is the name in messages."""
    settings = parse_settings(arguments, program)
    configure_logs(settings.log_level)
    return lifecycle.run(lambda stopping: serve(settings, stopping))
