"""Runs kopf in a thread whose end we own.

kopf runs in a thread with its own event loop, because it cancels all tasks of its loop when it stops.

If one watch of kopf fails for good, one of kopf's root tasks ends, and `kopf.run_tasks` then waits for the others
without a limit: a watcher can swallow its cancellation (`streaming_block` suppresses CancelledError), and then kopf
neither works nor ends. Therefore the thread spawns kopf's tasks with `kopf.spawn_tasks`, and ends when the first of
them ends, whether the others do or not. If even the event loop hangs, the thread is left behind: it is a daemon thread,
and its events are ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence

import kopf

from llmendpoint_common.process.errors import LLMEndpointError

log = logging.getLogger(__name__)

# The time that kopf's tasks have after their cancellation, before the event loop is closed under them.
_CANCEL_SECONDS = 1.0
_CLOSE_SECONDS = 0.1
# The time that the thread has to end after its event loop was told to stop.
_FORCE_SECONDS = 1.0


class KopfEndedError(LLMEndpointError):
    """kopf ended without being asked to. The message is its error."""


class KopfThread:
    """One run of kopf, for one namespace, or for the whole cluster if `namespace` is empty."""

    def __init__(
        self,
        registry: kopf.OperatorRegistry,
        configure: Callable[[kopf.OperatorSettings], None],
        namespace: str,
        on_end: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._configure = configure
        self._on_end = on_end
        self._namespaces: Sequence[str] = [namespace] if namespace else []
        self._owner = asyncio.get_running_loop()
        # Not uvloop's: it cannot be closed while kopf's connections are open, which they are after an end by force.
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._error: BaseException | None = None
        #: Set in the operator's event loop when the thread has ended.
        self.ended = asyncio.Event()
        threading.Thread(target=self._run, name=f"kopf {namespace}".strip(), daemon=True).start()

    @property
    def error(self) -> Exception:
        """The reason for which kopf ended."""
        return KopfEndedError(str(self._error) or type(self._error).__name__)

    async def end(self) -> None:
        """End the thread, by force if kopf does not stop. Takes four seconds at most."""
        if await self._ends_after(self._stop.set, 3 * _CANCEL_SECONDS):
            return
        log.warning("kopf does not stop; its event loop is ended by force")
        if not await self._ends_after(self._loop.stop, _FORCE_SECONDS):
            log.error("the event loop of kopf hangs; its thread is left behind")

    async def _ends_after(self, request: Callable[[], object], seconds: float) -> bool:
        if not self.ended.is_set():
            # If the loop is closed, the thread is about to end.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(request)
        try:
            await asyncio.wait_for(self.ended.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _run(self) -> None:
        self._loop.set_exception_handler(lambda _, context: log.debug("kopf: %s", context.get("message")))
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._supervise())
        except BaseException as error:
            self._error = error
        finally:
            # The loop may be told to stop now.
            with contextlib.suppress(RuntimeError):
                self._loop.run_until_complete(_cancel_all())
            self._loop.close()
            # The operator's own loop may be closed.
            with contextlib.suppress(RuntimeError):
                self._owner.call_soon_threadsafe(self._set_ended)

    def _set_ended(self) -> None:
        self.ended.set()
        self._on_end()

    async def _supervise(self) -> None:
        """Run kopf's tasks until `_stop` is set or one of them ends. Raises the error of the one that ended."""
        settings = kopf.OperatorSettings()
        self._configure(settings)
        tasks = await kopf.spawn_tasks(
            registry=self._registry,
            settings=settings,
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=self._stop,
        )
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # The tasks close kopf's connections, if they end in time.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
        for task in done:
            if not task.cancelled():
                task.result()


async def _cancel_all() -> None:
    """Cancel all other tasks of the event loop, and wait for them for a limited time."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=_CANCEL_SECONDS)
    # TLS connections are closed by the next iterations of the loop.
    await asyncio.sleep(_CLOSE_SECONDS)
