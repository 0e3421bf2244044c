"""HTTP client of the load generator: a pool of keep-alive connections to one target.

t0 of a request is the time at which it is handed over, before a connection is opened. Opening one is measured on its
own. A request goes out again, once and on a new connection, only if an idle connection turns out to be closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from llmendpoint_common.contracts.loadrun import ErrorClass, RunDocument, secrets_of
from llmendpoint_loadjob.client.answer import Answer, Reader
from llmendpoint_loadjob.client.connection import Connection
from llmendpoint_loadjob.client.dialing import Dialer, DialError
from llmendpoint_loadjob.client.outage import Outage
from llmendpoint_loadjob.client.redaction import Redactor
from llmendpoint_loadjob.client.requests import Messages, RequestWriter
from llmendpoint_loadjob.client.silences import SilenceWatch
from llmendpoint_loadjob.client.target import OPERATIONS, Target, tls_context
from llmendpoint_loadjob.client.turnstile import Turnstile
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.result.timings import Sample

#: Connections that are opened together. Servers queue some hundred until they accept them.
_OPENED_TOGETHER = 64
#: If an attempt to open a connection ends later than its timeout by this time, the load generator stood still.
_STOOD_STILL_SECONDS = 0.1
#: Errors after which a user does not wait: the server took its time, or the run has ended.
_WITHOUT_PAUSE = frozenset({ErrorClass.TIMEOUT, ErrorClass.UNFINISHED})


class Client:
    """Sends requests to one target. The document's timeout applies to connecting, and again to each request.

    Raises TargetError if the URL does not fit the API, or if the key or the certificates cannot be used.
    """

    def __init__(
        self,
        target: Target,
        document: RunDocument,
        *,
        api_key: str | None = None,
        cacert: Path | None = None,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._timeout = document.request.timeout_seconds
        self._writer = RequestWriter(target, document, api_key)
        is_insecure = bool(document.target.insecure_skip_verify)
        tls = tls_context(cacert, is_insecure=is_insecure) if target.is_tls else None
        self._kind = "connection with TLS" if tls else "connection"
        self._dialer = Dialer(target, tls, self._timeout)
        redactor = Redactor(_secrets(document, api_key))
        self.silences = SilenceWatch()
        self.silences.settle = self._read_kept
        self._reader = Reader(clock, OPERATIONS[document.target.api], redactor, self.silences)
        self._outage = Outage()
        self._is_tls = target.is_tls
        #: Whether the server expects TLS although the URL says http, or None if that is not known.
        self._expects_tls: bool | None = None
        #: Idle connections; the one that was used last is the last.
        self._idle: dict[Connection, None] = {}
        self._busy: set[Connection] = set()
        #: The responses of the requests in flight.
        self._answers: dict[Answer, None] = {}
        self._turnstile = Turnstile()
        self._dialing: set[asyncio.Timeout] = set()
        self._is_aborting = False
        #: Requests that are being sent or answered.
        self.in_flight = 0
        #: Requests that went out again, because an idle connection was closed.
        self.sent_again = 0
        #: Requests that failed because this machine could not open another connection.
        self.own_failures = 0

    async def send(
        self, prompt: Prompt, sample: Sample, history: Messages = (), *, keep_text: bool = False
    ) -> str | None:
        """Send one request, fill in its sample, and return the text of the response if `keep_text`.

        `history` contains the earlier messages of a conversation. Errors are stored in the sample and never raised. If
        the task is cancelled, the connection is closed, which ends the request on the server too.
        """
        sample.sent = self._clock()
        self.in_flight += 1
        self.silences.sent(sample.sent)
        texts = [content for _, content in (*prompt.messages, *history)]
        answer = Answer(self._reader, sample, texts, keep_text=keep_text)
        self._answers[answer] = None
        try:
            await self._exchange(self._writer.write(prompt, sample.request_id, history), answer, sample)
        finally:
            self.in_flight -= 1
            if sample.error is ErrorClass.UNFINISHED:
                self.silences.cut()
            else:
                self.silences.ended(self._clock(), sample)
            del self._answers[answer]
        await self._complete(answer)
        if sample.error is ErrorClass.RESET and not sample.status:
            await self._look_for_tls(sample)
        self._set_pause(sample)
        return answer.text

    async def open(self, count: int) -> list[float]:
        """Open so many connections in advance, and return the seconds that each of them took.

        After the first failure, no others are opened. The requests will report it.
        """
        times: list[float] = []
        while len(times) < count:
            batch = min(count - len(times), _OPENED_TOGETHER if times else 1)
            made = await asyncio.gather(*(self._open_one() for _ in range(batch)))
            times += [seconds for seconds in made if seconds is not None]
            if None in made:
                break
        return times

    def abort(self) -> None:
        """End all requests immediately, as unfinished. The client can be used again afterwards."""
        detail = "the request was still in flight at the end of the run"
        now = asyncio.get_running_loop().time()
        self._turnstile.release()
        self._is_aborting = bool(self._dialing)
        for limit in self._dialing:
            limit.reschedule(now)
        for connection in list(self._busy):
            connection.fail(ErrorClass.UNFINISHED, detail)

    def close(self) -> None:
        """Close all idle connections."""
        for connection in list(self._idle):
            connection.close()
        self._idle.clear()

    def _read_kept(self) -> None:
        for answer in self._answers:
            answer.read_kept()

    # ---- one request

    async def _complete(self, answer: Answer) -> None:
        """Complete a response that has ended. If many end together, what arrives for other streams is read between."""
        if answer.is_complete:
            await self._turnstile.pass_through()
            answer.complete()

    async def _exchange(self, request: bytes, answer: Answer, sample: Sample) -> None:
        connection = self._take()
        if connection is not None:
            if await self._send_on(connection, request, answer, was_idle=True):
                return
            self.sent_again += 1
            sample.was_sent_again = True
        connection = await self._connect(sample)
        if connection is not None:
            await self._send_on(connection, request, answer, was_idle=False)

    async def _send_on(self, connection: Connection, request: bytes, answer: Answer, *, was_idle: bool) -> bool:
        self._busy.add(connection)
        try:
            is_answered = await connection.send(request, answer, self._timeout, was_idle=was_idle)
        finally:
            self._busy.discard(connection)
        if connection.usable:
            self._idle[connection] = None
        return is_answered

    def _take(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.usable:
                return connection
        return None

    def _forget(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def _set_pause(self, sample: Sample) -> None:
        if sample.error is None:
            self._outage.end()
        elif sample.error not in _WITHOUT_PAUSE:
            pause = self._outage.pause(sample.ended, is_connected=sample.status > 0)
            sample.retry_after = max(pause, sample.retry_after or 0.0)

    async def _look_for_tls(self, sample: Sample) -> None:
        """Give a request that got no answer another class if the server expects TLS. The server is asked once."""
        if self._expects_tls is None:
            self._expects_tls = False
            self._expects_tls = not self._is_tls and await self._dialer.expects_tls()
        if self._expects_tls:
            sample.error = ErrorClass.TLS
            sample.detail = "the server closed the connection before a response, because it expects https"

    # ---- opening

    async def _connect(self, sample: Sample) -> Connection | None:
        """Return a new connection, or None if it could not be opened; the error is then in the sample."""
        begun = self._clock()
        try:
            connection = await self._dial()
        except DialError as error:
            sample.ended = self._clock()
            sample.error = error.error_class
            sample.detail = self._reader.redactor.line(error.detail)
            self.own_failures += error.is_own
            return None
        sample.connect = self._clock() - begun
        return connection

    async def _dial(self) -> Connection:
        """Open a connection, and once more if the load generator stood still meanwhile. Raises DialError."""
        begun = self._clock()
        try:
            return await self._dial_once()
        except DialError as error:
            was_late = self._clock() - begun > self._timeout + _STOOD_STILL_SECONDS
            if not was_late or error.error_class is ErrorClass.UNFINISHED:
                raise
        return await self._dial_once()

    async def _dial_once(self) -> Connection:
        limit = asyncio.timeout(self._timeout)
        self._dialing.add(limit)
        begun = self._clock()
        try:
            async with limit:
                connection = await self._dialer.dial(lambda: Connection(self._forget))
            connection.opened_in = self._clock() - begun
            return connection
        except TimeoutError as error:
            if self._is_aborting:
                raise DialError(ErrorClass.UNFINISHED, "the connection was not open at the end of the run") from error
            raise DialError(ErrorClass.TIMEOUT, f"no {self._kind} within {self._timeout:g} s") from error
        finally:
            self._dialing.discard(limit)
            self._is_aborting = self._is_aborting and bool(self._dialing)

    async def _open_one(self) -> float | None:
        begun = self._clock()
        try:
            connection = await self._dial()
        except DialError:
            return None
        if connection.usable:
            self._idle[connection] = None
        return self._clock() - begun


def _secrets(document: RunDocument, api_key: str | None) -> list[str]:
    """Return the texts that must not be in a description of an error."""
    return [*secrets_of(document), *([api_key] if api_key else [])]
