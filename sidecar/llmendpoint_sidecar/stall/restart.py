"""Requests a restart of Ollama's container, with a file.

The containers of the pod share a small volume. The container of Ollama has the liveness probe `test ! -e FILE`, so
kubelet restarts it, and only it, while the file exists. This takes no permission in the cluster. The file is removed as
soon as the process of Ollama has ended, so that the new one is not killed too.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.process.units import Address

log = logging.getLogger(__name__)

#: Time for kubelet to kill Ollama: the period of the probe, its grace period, and some more for a busy node.
_KILL_SECONDS = 60.0


class RestartFile:
    """The file, and the process that listens on `upstream`, which should end."""

    def __init__(self, path: Path, upstream: Address) -> None:
        self._path = path
        self._upstream = upstream

    def remove(self) -> None:
        """Withdraw the request. The file of a sidecar that has ended would kill Ollama again and again."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.error("cannot remove the file that requests a restart of Ollama: %s", reason_of(error))

    async def restart(self, seconds: float = _KILL_SECONDS) -> bool:
        """Request a restart, and wait until Ollama's process has ended. Returns False if it has not after `seconds`.

        A connection shows the end of the process without a delay. Nothing is sent on it.
        """
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection(self._upstream.host, self._upstream.port)
                try:
                    self._path.touch()
                    await reader.read(1)
                finally:
                    writer.close()
        except TimeoutError:
            return False
        except OSError as error:
            if error.filename is not None:
                log.error("cannot request a restart of Ollama: %s", reason_of(error))
                return False
        finally:
            self.remove()
        return True
