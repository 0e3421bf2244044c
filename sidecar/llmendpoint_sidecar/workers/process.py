"""A worker as the supervisor sees it: its process, its channel, and the last metrics that it sent."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence

from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.process.errors import ChannelClosedError
from llmendpoint_sidecar.workers.channel import AskMetrics, AskRecord, Channel, Found, Message, WorkerMetrics

_START_SECONDS = 30.0
_ANSWER_SECONDS = 2.0


class WorkerProcess:
    """A running worker. `latest` has the metrics that it sent last. The supervisor replaces a worker that has ended."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.process = process
        self.latest: WorkerMetrics | None = None
        self._channel = channel
        self._lock = asyncio.Lock()
        #: Receives a response that has not arrived yet. It may belong to an earlier request that timed out.
        self._receiving: asyncio.Task[Message] | None = None

    @classmethod
    async def start(cls, arguments: Sequence[str], sockets: list[socket.socket]) -> WorkerProcess:
        """Start a worker on `sockets`, and wait until it serves. Raises OSError if it does not within 30 s."""
        ours, theirs = socket.socketpair()
        numbers = ",".join(str(sock.fileno()) for sock in sockets)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "llmendpoint_sidecar.workers", str(theirs.fileno()), numbers, *arguments,
            pass_fds=[theirs.fileno(), *(sock.fileno() for sock in sockets)],
            # With its own session, Ctrl-C on a terminal reaches only the supervisor, which drains the workers.
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        worker = cls(process, await Channel.over(ours))
        try:
            async with asyncio.timeout(_START_SECONDS):
                await worker._channel.receive()
        except (ChannelClosedError, TimeoutError):
            worker.kill()
            raise OSError("a worker process did not start; see its message above this one") from None
        return worker

    async def refresh(self) -> None:
        """Fetch the metrics of the worker. If it does not answer within 2 s, the last metrics stay."""
        answer = await self._ask(AskMetrics())
        if isinstance(answer, WorkerMetrics):
            self.latest = answer

    async def find(self, request_id: str, tenant: str | None) -> list[RequestRecord]:
        """Return the records of a request ID. Empty if the worker has none, or does not answer within 2 s."""
        answer = await self._ask(AskRecord(request_id, tenant))
        return answer.records if isinstance(answer, Found) else []

    def drain(self) -> None:
        """Let the worker finish its requests and stop."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the worker."""
        if self._receiving is not None:
            self._receiving.cancel()
        self._channel.close()
        if self.process.returncode is None:
            self.process.kill()

    async def _ask(self, question: Message) -> Message | None:
        """Send a request and return the response, or None after 2 s.

        A busy worker carries streams, so it is not killed.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    if self._receiving is not None:
                        # This is the late response to an earlier request.
                        await asyncio.shield(self._receiving)
                    await self._channel.send(question)
                    self._receiving = asyncio.create_task(self._channel.receive())
                    answer = await asyncio.shield(self._receiving)
            except TimeoutError:
                return None
            except ChannelClosedError:
                answer = None
            self._receiving = None
            return answer
