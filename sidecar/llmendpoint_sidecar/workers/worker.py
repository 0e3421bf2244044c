"""A worker process. It carries requests, sends its metrics to the supervisor, and stops if the supervisor has ended.

It reads no input files: the supervisor sends their content, so that all workers use the same, and a new worker uses
what the others use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import ChannelClosedError
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_sidecar.proxy.service import Job, ProxyService
from llmendpoint_sidecar.runtime import Runtime
from llmendpoint_sidecar.settings import Settings
from llmendpoint_sidecar.workers.channel import (
    AskLast,
    AskMetrics,
    AskRecord,
    AskTraffic,
    Channel,
    Configure,
    Done,
    Found,
    Message,
    NoteHung,
    Ping,
    Serving,
    WorkerMetrics,
    WorkerTraffic,
)

log = logging.getLogger(__name__)

_FIRST_POLL_SECONDS = 2.0


async def work(settings: Settings, end: socket.socket, sockets: list[socket.socket], stopping: asyncio.Event) -> int:
    """Serve on `sockets` until `stopping` is set or the supervisor has ended, and return the exit code."""
    channel = await Channel.over(end)
    try:
        number, message = await channel.receive()
    except ChannelClosedError:
        return exit_codes.OK
    if not isinstance(message, Configure):
        raise TypeError(f"the first message is {type(message).__name__}")
    runtime = Runtime(settings)
    try:
        service = ProxyService(settings, runtime, message.inputs)
    except OSError as error:
        log.error("%s", reason_of(error))
        return exit_codes.ERROR
    service.note_hung(message.hung)
    # The models must be known before the first request. Otherwise, it would be in flight with the label `other`.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_POLL_SECONDS):
            await runtime.watch.poll()
    jobs: list[Job] = [runtime.watch.run, *await service.start(sockets)]
    tasks = [asyncio.create_task(job()) for job in jobs]
    channel.post(number, Serving())
    answering = asyncio.create_task(_answer_all(runtime, service, channel))
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((answering, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            await service.drain()
    finally:
        for task in (*tasks, stopped):
            task.cancel()
        await asyncio.gather(*tasks, stopped, return_exceptions=True)
        await service.close()
        await runtime.ollama.close()
        if service.telemetry is not None:
            await asyncio.to_thread(service.telemetry.close)
        # Until here, the supervisor gets answers, so that it does not take the worker for one that hangs.
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        channel.close()
    return exit_codes.OK if answering.cancelled() else answering.result()


async def _answer_all(runtime: Runtime, service: ProxyService, channel: Channel) -> int:
    """Answer the supervisor until it has ended, and return the exit code.

    A worker that cannot use new inputs ends, so that no request is judged by the old ones.
    """
    try:
        while True:
            number, question = await channel.receive()
            await channel.send(number, _answer(runtime, service, question))
    except ChannelClosedError:
        log.error("the supervisor has ended; stopping")
        return exit_codes.OK
    except Exception:
        log.exception("a message of the supervisor could not be handled; stopping")
        return exit_codes.ERROR


def _answer(runtime: Runtime, service: ProxyService, question: Message) -> Message:
    match question:
        case Ping():
            return Done()
        case Configure(inputs, _):
            service.configure(inputs)
            return Done()
        case AskMetrics():
            return WorkerMetrics(runtime.metrics.snapshot(), runtime.meter.in_flight.counts())
        case AskTraffic():
            return WorkerTraffic(service.traffic())
        case NoteHung(notice):
            service.note_hung(notice)
            return Done()
    return Found(_records(runtime, question))


def _records(runtime: Runtime, question: Message) -> list[RequestRecord]:
    match question:
        case AskRecord(request_id, tenant):
            return runtime.meter.find(request_id, tenant)
        case AskLast(after, limit):
            return runtime.meter.last(after, limit)
    raise TypeError(f"{type(question).__name__} is not a question")
