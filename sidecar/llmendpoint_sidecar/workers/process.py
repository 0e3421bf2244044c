"""A worker in the supervisor: its process, its channel, and the last numbers that it sent."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence

from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.process.errors import ChannelClosedError
from llmendpoint_sidecar.workers.channel import AskNumbers, AskRecord, Channel, Found, Message, Numbers

_START_SECONDS = 30.0
_ANSWER_SECONDS = 2.0


class WorkerProcess:
    """A running worker. It is not restarted; the supervisor replaces it by another one."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.process = process
        self.numbers: Numbers | None = None
        self._channel = channel
        self._lock = asyncio.Lock()
        #: Receives an answer that has not arrived yet; it may belong to a question that timed out.
        self._receiving: asyncio.Task[Message] | None = None

    @classmethod
    async def start(cls, arguments: Sequence[str], sockets: list[socket.socket]) -> WorkerProcess:
        """Start a worker that serves on `sockets`, and wait until it does. OSError if it does not start within 30 s."""
        ours, theirs = socket.socketpair()
        numbers = ",".join(str(sock.fileno()) for sock in sockets)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "llmendpoint_sidecar.workers", str(theirs.fileno()), numbers, *arguments,
            pass_fds=[theirs.fileno(), *(sock.fileno() for sock in sockets)],
            # Ctrl-C on a terminal then reaches only the supervisor, which drains its workers.
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        worker = cls(process, await Channel.over(ours))
        try:
            async with asyncio.timeout(_START_SECONDS):
                await worker._channel.receive()
        except (ChannelClosedError, TimeoutError):
            worker.kill()
            raise OSError("a worker process did not start; see its message above") from None
        return worker

    async def refresh(self) -> None:
        """Fetch the numbers of the worker. If it does not answer within 2 s, the last numbers stay."""
        answer = await self._ask(AskNumbers())
        if isinstance(answer, Numbers):
            self.numbers = answer

    async def find(self, request_id: str) -> RequestRecord | None:
        """Return the record of a request, or None if this worker does not have it or does not answer within 2 s."""
        answer = await self._ask(AskRecord(request_id))
        return answer.record if isinstance(answer, Found) else None

    def drain(self) -> None:
        """Let the worker finish its streams and stop."""
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
        """Send a question and return the answer. None after 2 s: a busy worker carries streams, so it is not killed."""
        async with self._lock:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    if self._receiving is not None:
                        # This is the late answer to an earlier question.
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
