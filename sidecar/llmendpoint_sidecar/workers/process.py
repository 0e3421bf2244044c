"""A worker as the supervisor sees it: its process, its channel, and the last metrics that it sent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TypeAlias

from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.process.errors import ChannelClosedError
from llmendpoint_sidecar.inputs.files import Inputs
from llmendpoint_sidecar.meter.traffic import Traffic
from llmendpoint_sidecar.policy.hung import HungNotice
from llmendpoint_sidecar.workers.channel import (
    AskLast,
    AskMetrics,
    AskRecord,
    AskTraffic,
    Channel,
    Configure,
    Found,
    Message,
    NoteHung,
    Ping,
    WorkerMetrics,
    WorkerTraffic,
)

_START_SECONDS = 30.0
_ANSWER_SECONDS = 2.0

#: Resolves to the response, or to None if the worker has ended.
Answer: TypeAlias = asyncio.Future[Message | None]


class WorkerProcess:
    """A running worker.

    `latest` has the metrics that it sent last. `inputs` are those that were sent to it last. `missed` is the number of
    pings in a row that it has not answered in time.
    """

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.process = process
        self.latest: WorkerMetrics | None = None
        self.inputs: Inputs | None = None
        self.missed = 0
        self._channel = channel
        self._numbers = itertools.count(1)
        self._answers: dict[int, Answer] = {}
        self._ping: Answer | None = None
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls, arguments: Sequence[str], sockets: list[socket.socket], inputs: Inputs, hung: HungNotice | None = None
    ) -> WorkerProcess:
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
        serving: Message | None = None
        try:
            async with asyncio.timeout(_START_SECONDS):
                serving = await worker.configure(inputs, hung)
        except TimeoutError:
            pass
        finally:
            if serving is None:
                worker.kill()
        if serving is None:
            raise OSError("a worker process did not start; see its message above this one")
        return worker

    @property
    def answers(self) -> bool:
        """Whether the worker answered one of the last two pings."""
        return self.missed < 2

    def configure(self, inputs: Inputs, hung: HungNotice | None = None) -> Answer:
        """Send the content of the input files. The worker answers when it uses them. `hung` is used at its start."""
        self.inputs = inputs
        return self._post(Configure(inputs, hung))

    def beat(self) -> None:
        """Send a ping if the last one was answered. Otherwise, count it in `missed`. Called at a fixed interval."""
        if self._ping is not None and not self._ping.done():
            self.missed += 1
        else:
            self.missed = 0
            self._ping = self._post(Ping())

    async def refresh(self) -> None:
        """Fetch the metrics of the worker. If it does not answer within 2 s, the last metrics stay."""
        await self._ask(AskMetrics())

    async def find(self, request_id: str, tenant: str | None) -> list[RequestRecord]:
        """Return the records of a request ID. Empty if the worker has none, or does not answer within 2 s."""
        answer = await self._ask(AskRecord(request_id, tenant))
        return answer.records if isinstance(answer, Found) else []

    async def last(self, after: float, limit: int) -> list[RequestRecord]:
        """Return the last records of requests. Empty if the worker has none, or does not answer within 2 s."""
        answer = await self._ask(AskLast(after, limit))
        return answer.records if isinstance(answer, Found) else []

    async def traffic(self) -> Traffic | None:
        """Return the requests in flight of the worker. None if it does not answer within 2 s."""
        answer = await self._ask(AskTraffic())
        return answer.traffic if isinstance(answer, WorkerTraffic) else None

    def note_hung(self, notice: HungNotice | None) -> None:
        """Tell the worker that Ollama is hung, or no longer. The answer is not awaited."""
        self._post(NoteHung(notice))

    def drain(self) -> None:
        """Let the worker finish its requests and stop. A worker that was stopped with SIGSTOP is continued."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the worker. This also ends a process that is stopped or whose event loop is blocked."""
        self._reading.cancel()
        self._end_of_answers()
        self._channel.close()
        if self.process.returncode is None:
            self.process.kill()

    async def _ask(self, question: Message) -> Message | None:
        """Send a question and return the response, or None after 2 s. A worker that misses pings is not asked."""
        if not self.answers:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._post(question)
        return None

    def _post(self, question: Message) -> Answer:
        answer: Answer = asyncio.get_running_loop().create_future()
        if self._reading.done():
            answer.set_result(None)
            return answer
        number = next(self._numbers)
        self._answers[number] = answer
        self._channel.post(number, question)
        return answer

    async def _read(self) -> None:
        """Pass each response to the question that has its number, until the worker ends."""
        try:
            while True:
                number, message = await self._channel.receive()
                if isinstance(message, WorkerMetrics):
                    self.latest = message
                answer = self._answers.pop(number, None)
                # A question that timed out has been cancelled.
                if answer is not None and not answer.done():
                    answer.set_result(message)
        except ChannelClosedError:
            self._end_of_answers()

    def _end_of_answers(self) -> None:
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_result(None)
