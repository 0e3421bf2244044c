"""One sidecar: reads its metrics, its status and its last requests, and keeps them.

A poll is complete or counts as failed. After a failed poll, the state of the last complete one stays. It is marked as
stale, and after 30 s as down.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import aiohttp
import msgspec

from llmendpoint_common.contracts.sidecar import MAX_LISTED_REQUESTS, RequestList, RequestRecord, SidecarStatus
from llmendpoint_common.diagnosis.sentences import as_sentence
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_dashboard.contract import Source, SourceState
from llmendpoint_dashboard.settings import SidecarAddress
from llmendpoint_dashboard.sources.exposition import Gauge, Page, PageReader
from llmendpoint_dashboard.sources.increases import Counters, Increase, Window

T = TypeVar("T")

#: Seconds of the sliding window of the overview.
WINDOW_SECONDS = 30.0
#: Time after which a sidecar that does not answer is down.
_DOWN_SECONDS = 30.0
_TIMEOUT = aiohttp.ClientTimeout(total=5, connect=3)
#: A page of 5,000 series has about 1 MB.
_MAX_BYTES = 16 * 1024 * 1024
_TEXT = {"Accept": "text/plain"}
#: Records are asked for again for this time, because a sidecar may finish a record after a later one.
_OVERLAP_SECONDS = 5.0
_status = msgspec.json.Decoder(SidecarStatus)
_records = msgspec.json.Decoder(RequestList)


@dataclass(frozen=True)
class Reading:
    """Result of a complete poll."""

    increase: Increase | None
    records: tuple[RequestRecord, ...]


class Presence:
    """Numbers of loads and evictions of a model, as seen by the polls.

    `is_first` is whether it is listed by the first poll of the sidecar. If it is in memory then, it was loaded before,
    and `loaded_before` is True. A model that is listed later was not in memory at the poll before.
    """

    def __init__(self, *, is_first: bool = False) -> None:
        self._is_loaded: bool | None = None if is_first else False
        self.loaded_before = False
        self.loads = 0
        self.evictions = 0

    def note(self, *, is_loaded: bool) -> None:
        """Note whether the model is in memory now."""
        if self._is_loaded is None:
            self.loaded_before = is_loaded
        elif is_loaded != self._is_loaded:
            self.loads += is_loaded
            self.evictions += not is_loaded
        self._is_loaded = is_loaded


class Sidecar:
    """A sidecar that is polled. `clock` is monotonic, `wall` the Unix time, both in seconds."""

    def __init__(
        self, address: SidecarAddress, reader: PageReader, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self.address = address
        self.page = Page()
        self.status: SidecarStatus | None = None
        self.window = Window(WINDOW_SECONDS)
        self.presences: dict[str, Presence] = {}
        #: Why the last poll failed, or empty.
        self.problem = "it has not been asked yet"
        self._reader = reader
        self._clock = clock
        self._wall = wall
        self._counters = Counters()
        self._text = b""
        self._answered: float | None = None
        self._answered_at: float | None = None
        self._newest_record = 0.0
        #: Whether the sidecar has the page of the last requests. Older ones do not.
        self._has_requests = True

    @property
    def state(self) -> SourceState:
        """Whether the sidecar answers."""
        if not self.problem:
            return SourceState.OK
        if self._answered is None or self._clock() - self._answered >= _DOWN_SECONDS:
            return SourceState.DOWN
        return SourceState.STALE

    def source(self) -> Source:
        """Return the sidecar for the section `about`."""
        state = self.state
        message = f"{self.address.url} does not answer: {self.problem}." if self.problem else self._note()
        return Source(
            name=self.address.name,
            url=self.address.url,
            simulated=self.address.simulated,
            state=state,
            last_seen=None if state is SourceState.OK or self._answered_at is None else round(self._answered_at),
            message=message,
        )

    async def poll(self, session: aiohttp.ClientSession) -> Reading | None:
        """Read everything. Returns None if the sidecar did not answer, or answered something else."""
        try:
            async with asyncio.timeout(_TIMEOUT.total):
                status = _status.decode(await self._get(session, "/status"))
                text = await self._get(session, "/metrics", _TEXT)
                records = await self._read_requests(session)
        except _FAILURES as error:
            self.problem = _reason(error)
            return None
        self.problem = ""
        self.status = status
        self._answered, self._answered_at = self._clock(), self._wall()
        return Reading(self._read_page(text), records)

    def _read_page(self, text: bytes) -> Increase | None:
        # The page of an idle sidecar does not change, so that it need not be parsed.
        if text != self._text:
            is_first = not self._text
            self._text, self.page = text, self._reader.read(text)
            for model, loaded in self.page.gauge(Gauge.LOADED).items():
                self.presences.setdefault(model, Presence(is_first=is_first)).note(is_loaded=loaded > 0)
        increase = self._counters.read(self.page.counters, self._clock())
        if increase is not None:
            self.window.add(increase)
        return increase

    async def _read_requests(self, session: aiohttp.ClientSession) -> tuple[RequestRecord, ...]:
        if not self._has_requests:
            return ()
        after = max(0.0, self._newest_record - _OVERLAP_SECONDS)
        try:
            answer = await self._get(session, f"/status/requests?after={after:.3f}&limit={MAX_LISTED_REQUESTS}")
        except _StatusError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._has_requests = False
            return ()
        records = _records.decode(answer).requests
        self._newest_record = max((self._newest_record, *(record.time for record in records)))
        return records

    async def _get(self, session: aiohttp.ClientSession, path: str, headers: dict[str, str] | None = None) -> bytes:
        url = self.address.url + path
        async with session.get(url, headers=headers, timeout=_TIMEOUT, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                raise _StatusError(response.status, path.partition("?")[0])
            return await bounded_body(response, _MAX_BYTES)

    def _note(self) -> str:
        status = self.status
        if status is None or status.upstream_up:
            return status.stalled.message if status is not None and status.stalled is not None else ""
        if status.upstream_problem:
            return as_sentence(status.upstream_problem)
        return f"The Ollama behind {self.address.name} does not answer."


class _StatusError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, path: str) -> None:
        super().__init__(f"{path} was answered with status {status}")
        self.status = status


_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError, UnicodeError, ValueError, _StatusError)


async def bounded_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the body of a response. Raises ValueError if it is larger than `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > limit:
            raise ValueError(f"the answer is larger than {limit // 2**20} MiB")
        parts.append(part)
    return b"".join(parts)


def _reason(error: BaseException) -> str:
    """Return why a poll failed, as a part of a sentence. It quotes nothing that the server sent."""
    if isinstance(error, _StatusError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"there was no complete answer within {_TIMEOUT.total:g} s"
    if isinstance(error, msgspec.MsgspecError | UnicodeError | aiohttp.ClientPayloadError):
        return "the answer is not that of a sidecar"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _connect_reason(error)
    if isinstance(error, ValueError):
        return str(error)
    return "the connection was closed"


def _connect_reason(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, socket.gaierror):
        return "its host name does not resolve"
    if isinstance(cause, ConnectionRefusedError):
        return "nothing listens on its port"
    return reason_of(error).lower()
