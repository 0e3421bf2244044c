"""Polls the input files and applies what has changed, all at the same moment and with one line in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from llmendpoint_sidecar.inputs.files import InputFiles, Inputs

log = logging.getLogger(__name__)

_POLL_SECONDS = 2.0


class InputWatch:
    """Polls files. `apply` is awaited once for each change, and `current` has the inputs in use."""

    def __init__(
        self,
        files: InputFiles,
        current: Inputs,
        apply: Callable[[Inputs], Awaitable[None]],
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        self.current = current
        self._files = files
        self._apply = apply
        self._poll_seconds = poll_seconds

    async def run(self) -> None:
        """Poll at an interval. Returns immediately if there is nothing to watch."""
        while self._files:
            try:
                await self.poll()
            except Exception:
                # Without the watch, later changes would be ignored without a word.
                log.exception("the changed files could not be applied")
            await asyncio.sleep(self._poll_seconds)

    async def poll(self) -> None:
        """Read the files, and apply their content if it has changed."""
        old = self.current
        new = await asyncio.to_thread(self._files.reload, old)
        if new is not old:
            self.current = new
            await self._apply(new)
            log.info("reloaded %s", self._files.changes(old, new))
