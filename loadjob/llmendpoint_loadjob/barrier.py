"""The start barrier of a load pod: it waits until the operator orders all pods of the run to start.

state        when
preparing    the questions are read, and the connections opened
ready        `wait` was called, and no order has arrived
ordered      an order has arrived; a later order replaces it
started      the time of the order has come, and `wait` has returned; later orders are ignored
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

import msgspec
from aiohttp import web

from llmendpoint_common.contracts.loadrun.barrier import START_PATH, StartOrder, StartState

_MAX_BYTES = 4096


class Barrier:
    """Waits for the start of the run. `pod` is the name by which the operator addresses this pod.

    `clock` is the monotonic clock of the event loop, in seconds.
    """

    def __init__(self, pod: str, clock: Callable[[], float] | None = None) -> None:
        self._pod = pod
        self._clock = clock
        self._changed = asyncio.Event()
        self._start_at: float | None = None
        self.state = StartState.PREPARING

    def order(self, start: StartOrder) -> bool:
        """Take an order, and return whether it is for this pod. It has no effect before `wait` and after the start."""
        if start.pod != self._pod:
            return False
        if self.state in (StartState.READY, StartState.ORDERED):
            self._start_at = self._now() + start.in_seconds
            self.state = StartState.ORDERED
            self._changed.set()
        return True

    async def wait(self) -> None:
        """Return at the ordered time. May be called once."""
        self.state = StartState.READY
        while (left := self._left()) is None or left > 0:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                break
        self.state = StartState.STARTED

    async def handle(self, request: web.Request) -> web.Response:
        """Answer an order: 204 if it was taken, 409 if the pod is not ready or is another one, 400 if it is wrong."""
        body = await request.content.read(_MAX_BYTES)
        try:
            start = msgspec.json.decode(body, type=StartOrder)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return web.Response(status=HTTPStatus.BAD_REQUEST, text="not an order to start\n")
        if not self.order(start):
            return web.Response(status=HTTPStatus.CONFLICT, text="this is another pod\n")
        if self.state is StartState.PREPARING:
            return web.Response(status=HTTPStatus.CONFLICT, text="the pod is not ready to start\n")
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def route(self) -> web.RouteDef:
        """Return the route of the orders, for the server of `/status`."""
        return web.post(START_PATH, self.handle)

    def _left(self) -> float | None:
        return None if self._start_at is None else self._start_at - self._now()

    def _now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()
