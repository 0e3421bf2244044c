"""Fetches `/status` from sidecars and load generators at the addresses of their pods, and orders load pods to start.

A pod may run any image and may answer anything. A response is used only if it is small, complete and of the right type,
and every number in it fits into a status.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple, TypeVar

import aiohttp
import msgspec

from llmendpoint_common.contracts.loadrun import START_PATH, STATUS_PORT, Progress, StartOrder
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, SidecarStatus
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_operator.cluster import slots
from llmendpoint_operator.kube.owner import Manifest

T = TypeVar("T")

_TIMEOUT_SECONDS = 2.0
_MAX_BYTES = 1024 * 1024


class Silence(NamedTuple):
    """A pod that has an address, but does not answer there, or answers something that is not a status."""

    url: str
    error: str


class PodStatuses:
    """Fetches the status of pods."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def sidecar(self, pod: Manifest) -> SidecarStatus | Silence | None:
        """Return the status of a pod's metering sidecar, or None if the pod has no address yet."""
        return await self._ask(pod, ADMIN_PORT, SidecarStatus)

    async def load(self, pod: Manifest) -> Progress | None:
        """Return the progress of the load generator in a pod, or None if it does not answer."""
        answer = await self._ask(pod, STATUS_PORT, Progress)
        return None if isinstance(answer, Silence) else answer

    async def start(self, pod: Manifest, order: StartOrder) -> bool:
        """Send a load pod the order to start, and return whether it has taken it."""
        address = pod.get("status", {}).get("podIP")
        if not address:
            return False
        slots.give_back()
        url = f"http://{_host(address)}:{STATUS_PORT}{START_PATH}"
        try:
            async with self._connected().post(url, data=msgspec.json.encode(order), allow_redirects=False) as response:
                return response.status == HTTPStatus.NO_CONTENT
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _ask(self, pod: Manifest, port: int, kind: type[T]) -> T | Silence | None:
        address = pod.get("status", {}).get("podIP")
        if not address:
            return None
        slots.give_back()
        url = f"http://{_host(address)}:{port}/status"
        try:
            async with self._connected().get(url, allow_redirects=False) as response:
                body = await _bounded(response)
                if response.status != HTTPStatus.OK:
                    return Silence(url, f"HTTP {response.status}")
                return msgspec.json.decode(body, type=kind)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Silence(url, _reason(error))
        # Deeply nested JSON raises RecursionError.
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return Silence(url, "the response is not a status")

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The number of connections is not limited, so that pods that do not answer do not delay the others.
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self._session


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _reason(error: Exception) -> str:
    """Return a failed connection in words. They do not contain ports or times, which change with each attempt."""
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT_SECONDS:g} s"
    return reason_of(error) if isinstance(error, OSError) else type(error).__name__


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a response, or nothing if it is too large."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_BYTES:
            return b""
    return bytes(body)
