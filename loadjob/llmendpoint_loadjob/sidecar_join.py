"""Looks up requests in the sidecars' records, which split the time to first token and audit the meter.

Lookups are few, because they cost CPU time of the process that measures: at most 20 per second during the load, and
more afterwards, when nothing is measured any more. A faster run is sampled: what is looked up is audited exactly.
A sidecar keeps records for two minutes.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp
import msgspec

from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.results.join import ClientRequest
from llmendpoint_loadjob.result.reading import client_request_of
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import Sample

_PAUSE_SECONDS = 0.05
_TIMEOUT = aiohttp.ClientTimeout(total=2)
#: Requests that wait for their lookup. The oldest ones are dropped, because their records are.
_MAX_WAITING = 1000
#: Time after the load for the lookups that are waiting, in seconds.
FINISH_SECONDS = 10.0
#: A sidecar writes a record when it has passed on the response, a moment after the client has it.
_ATTEMPTS = 3


class _NoRecord(msgspec.Struct):
    """Body with which a sidecar answers 404 if it does not have a record of a request."""

    error: str


class SidecarJoin:
    """Joins requests that have ended with the records of the sidecars at the base URL of their admin port.

    The host may be a headless Service: all of its addresses are asked.
    """

    def __init__(self, url: str, recorder: Recorder) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._scheme, self._path = parts.scheme, parts.path.rstrip("/")
        self._recorder = recorder
        self._waiting: deque[ClientRequest] = deque(maxlen=_MAX_WAITING)

    def add(self, sample: Sample) -> None:
        """Note a request that has ended. Requests that failed have nothing to split or to audit."""
        if sample.error is not None:
            return
        self._waiting.append(client_request_of(sample))

    async def run(self) -> None:
        """Look up requests until the task is cancelled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                await asyncio.sleep(_PAUSE_SECONDS)
                if self._waiting:
                    await self._look_up(session, self._waiting.popleft())

    async def finish(self) -> None:
        """Look up the requests that are waiting, for at most 10 seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS), aiohttp.ClientSession(timeout=_TIMEOUT) as session:
                while self._waiting:
                    await self._look_up(session, self._waiting.popleft())

    async def _look_up(self, session: aiohttp.ClientSession, request: ClientRequest) -> None:
        record = None
        for attempt in range(_ATTEMPTS):
            record = await self._find(session, request.request_id)
            if record is not None:
                break
            await asyncio.sleep(_PAUSE_SECONDS * (attempt + 1))
        self._recorder.join(request, record)

    async def _find(self, session: aiohttp.ClientSession, request_id: str) -> RequestRecord | None:
        for url in await self._urls():
            try:
                async with session.get(f"{url}/status/requests/{request_id}") as response:
                    status, body = response.status, await response.read()
                if status == 200:
                    return msgspec.json.decode(body, type=RequestRecord)
                if status != 404:
                    self._recorder.note_unread(f"{url} answered with HTTP {status}")
                else:
                    msgspec.json.decode(body, type=_NoRecord)
            except msgspec.MsgspecError:
                self._recorder.note_unread(f"{url} is not the admin port of a sidecar")
            except (aiohttp.ClientError, TimeoutError) as error:
                self._recorder.note_unread(f"{url} could not be read: {reason_of(error)}")
        return None

    async def _urls(self) -> list[str]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            self._recorder.note_unread(f"{self._host} does not resolve: {reason_of(error)}")
            return []
        hosts = dict.fromkeys(str(address[4][0]) for address in found)
        return [f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{self._port}{self._path}" for host in hosts]
