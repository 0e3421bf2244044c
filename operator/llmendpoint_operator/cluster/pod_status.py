"""What a pod says of itself: the sidecar's and the load generator's `/status`, on the pod's address."""

from __future__ import annotations

from typing import TypeVar

import aiohttp
import msgspec

from llmendpoint_common.contracts.loadrun import STATUS_PORT, Progress
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, SidecarStatus
from llmendpoint_operator.kube.owner import Manifest

T = TypeVar("T")

_SECONDS = 2.0
_MAX_BYTES = 1024 * 1024


class PodStatuses:
    """Asks pods; what does not answer, or answers nonsense, is None."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def sidecar(self, pod: Manifest) -> SidecarStatus | None:
        """Return what the metering sidecar of a pod says."""
        return await self._ask(pod, ADMIN_PORT, SidecarStatus)

    async def load(self, pod: Manifest) -> Progress | None:
        """Return how far the load generator in a pod is."""
        return await self._ask(pod, STATUS_PORT, Progress)

    async def _ask(self, pod: Manifest, port: int, kind: type[T]) -> T | None:
        address = pod.get("status", {}).get("podIP")
        if not address:
            return None
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS))
        host = f"[{address}]" if ":" in address else address
        try:
            async with self._session.get(f"http://{host}:{port}/status", allow_redirects=False) as response:
                body = await response.content.read(_MAX_BYTES)
                return msgspec.json.decode(body, type=kind) if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError):
            return None
