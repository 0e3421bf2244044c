"""One worker as its parent sees it: a process, a channel, and the last numbers that came over it."""

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
    """Lives once: one that has ended is replaced by another."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.process = process
        self.numbers: Numbers | None = None
        self._channel = channel
        self._turn = asyncio.Lock()
        self._owed: asyncio.Task[Message] | None = None

    @classmethod
    async def start(cls, arguments: Sequence[str], sockets: list[socket.socket]) -> WorkerProcess:
        """Start a worker that serves on `sockets`; OSError where it does not come up."""
        ours, its = socket.socketpair()
        numbers = ",".join(str(sock.fileno()) for sock in sockets)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "llmendpoint_sidecar.workers", str(its.fileno()), numbers, *arguments,
            pass_fds=[its.fileno(), *(sock.fileno() for sock in sockets)],
            # What a terminal interrupts is the parent: it drains its workers.
            start_new_session=True,
        )  # fmt: skip
        its.close()
        worker = cls(process, await Channel.over(ours))
        try:
            async with asyncio.timeout(_START_SECONDS):
                await worker._channel.receive()
        except (ChannelClosedError, TimeoutError):
            worker.kill()
            raise OSError("a worker process did not start; its own message says why") from None
        return worker

    async def refresh(self) -> None:
        """Ask for its numbers; a worker that does not answer keeps its last ones."""
        answer = await self._ask(AskNumbers())
        if isinstance(answer, Numbers):
            self.numbers = answer

    async def find(self, request_id: str) -> RequestRecord | None:
        """Ask for a request's record."""
        answer = await self._ask(AskRecord(request_id))
        return answer.record if isinstance(answer, Found) else None

    def drain(self) -> None:
        """Ask it to stop."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        if self._owed is not None:
            self._owed.cancel()
        self._channel.close()
        if self.process.returncode is None:
            self.process.kill()

    async def _ask(self, question: Message) -> Message | None:
        """Return the answer; None where none came in time: a busy worker carries streams, and is left alone."""
        async with self._turn:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    if self._owed is not None:
                        # Late, and to another question.
                        await asyncio.shield(self._owed)
                    await self._channel.send(question)
                    self._owed = asyncio.create_task(self._channel.receive())
                    answer = await asyncio.shield(self._owed)
            except TimeoutError:
                return None
            except ChannelClosedError:
                answer = None
            self._owed = None
            return answer
