"""A worker process. It carries requests, sends its metrics to the supervisor, and stops if the supervisor has ended."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket

from llmendpoint_common.contracts.sidecar import SidecarConfig
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import ChannelClosedError
from llmendpoint_sidecar.config import watch_config
from llmendpoint_sidecar.proxy.service import Job, ProxyService
from llmendpoint_sidecar.runtime import Runtime
from llmendpoint_sidecar.settings import Settings
from llmendpoint_sidecar.workers.channel import AskMetrics, AskRecord, Channel, Found, Serving, WorkerMetrics

log = logging.getLogger(__name__)

_FIRST_POLL_SECONDS = 2.0


async def work(
    settings: Settings, config: SidecarConfig, end: socket.socket, sockets: list[socket.socket], stopping: asyncio.Event
) -> int:
    """Serve on `sockets` until `stopping` is set or the supervisor has ended, and return the exit code."""
    runtime = Runtime(settings)
    service = ProxyService(settings, runtime, config)
    channel = await Channel.over(end)
    # The models must be known before the first request. Otherwise, it would be in flight with the label `other`.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_POLL_SECONDS):
            await runtime.watch.poll()
    watch = functools.partial(watch_config, settings.config, config, service.admission.configure)
    jobs: list[Job] = [runtime.watch.run, watch, *await service.start(sockets)]
    tasks = [asyncio.create_task(job()) for job in jobs]
    answering = asyncio.create_task(_answer(runtime, channel))
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((answering, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            await service.drain()
    finally:
        for task in (*tasks, answering, stopped):
            task.cancel()
        await asyncio.gather(*tasks, answering, stopped, return_exceptions=True)
        await service.close()
        await runtime.ollama.close()
        if service.telemetry is not None:
            await asyncio.to_thread(service.telemetry.close)
        channel.close()
    return exit_codes.OK


async def _answer(runtime: Runtime, channel: Channel) -> None:
    """Answer requests of the supervisor until it has ended."""
    try:
        await channel.send(Serving())
        while True:
            question = await channel.receive()
            if isinstance(question, AskMetrics):
                await channel.send(WorkerMetrics(runtime.metrics.snapshot(), runtime.meter.in_flight.counts()))
            elif isinstance(question, AskRecord):
                await channel.send(Found(runtime.meter.find(question.request_id, question.tenant)))
    except ChannelClosedError:
        log.error("the supervisor has ended; stopping")
