"""Fetches `/status` from sidecars and load generators, at the addresses of their pods.

A pod may run any image and may answer anything. A response is used only if it is small, complete and of the right type,
and every number in it fits into a status.
"""

from __future__ import annotations

from typing import TypeVar

import aiohttp
import msgspec

from llmendpoint_common.contracts.loadrun import STATUS_PORT, Progress
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, SidecarStatus
from llmendpoint_operator.cluster import slots
from llmendpoint_operator.kube.owner import Manifest

T = TypeVar("T")

_TIMEOUT_SECONDS = 2.0
_MAX_BYTES = 1024 * 1024


class PodStatuses:
    """Fetches the status of pods. The result is None if a pod does not answer, or if its response is invalid."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def sidecar(self, pod: Manifest) -> SidecarStatus | None:
        """Return the status of a pod's metering sidecar."""
        return await self._ask(pod, ADMIN_PORT, SidecarStatus)

    async def load(self, pod: Manifest) -> Progress | None:
        """Return the progress of the load generator in a pod."""
        return await self._ask(pod, STATUS_PORT, Progress)

    async def _ask(self, pod: Manifest, port: int, kind: type[T]) -> T | None:
        address = pod.get("status", {}).get("podIP")
        if not address:
            return None
        slots.give_back()
        host = f"[{address}]" if ":" in address else address
        try:
            async with self._connected().get(f"http://{host}:{port}/status", allow_redirects=False) as response:
                body = await _bounded(response)
                return msgspec.json.decode(body, type=kind) if response.status == 200 else None
        # Deeply nested JSON raises RecursionError.
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError, UnicodeError, RecursionError):
            return None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The number of connections is not limited, so that pods that do not answer do not delay the others.
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self._session


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a response, or nothing if it is too large."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_BYTES:
            return b""
    return bytes(body)
