"""State that all routes of the simulator share: behaviour, models, ledger, faults, random values and timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from random import Random
from typing import NamedTuple

from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER, Operation
from llmendpoint_common.process.errors import QueueFullError
from llmendpoint_simulator.aliases import Aliases
from llmendpoint_simulator.behaviour import Behaviour
from llmendpoint_simulator.faults import Fault
from llmendpoint_simulator.injection import Asked, Injected, Injector, key_of
from llmendpoint_simulator.latency import draw
from llmendpoint_simulator.ledger import Entry, Ledger
from llmendpoint_simulator.memory import Runner
from llmendpoint_simulator.refusals import QUEUE_FULL
from llmendpoint_simulator.requests import RequestError
from llmendpoint_simulator.serving.connection import Request
from llmendpoint_simulator.serving.timers import Timers
from llmendpoint_simulator.slots import Slots
from llmendpoint_simulator.store import Store

_REQUEST_ID = REQUEST_ID_HEADER.lower()
_LOAD_FAILURE = "llama runner process has terminated: exit status 2"


class Place(NamedTuple):
    """A slot of a model for a request: the model in memory, its slots, and the seconds until it was in memory."""

    runner: Runner
    slots: Slots
    load: float


class World:
    """The state of one simulator."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.timers = Timers(heartbeat=False)
        self.ledger = Ledger(time.monotonic)
        self.store = Store(self.current)
        self.aliases = Aliases(self.store)
        self.injector = Injector(self.current)
        self.restart()
        self._add_models()

    def current(self) -> Behaviour:
        """Return the current behaviour."""
        return self._behaviour

    @property
    def behaviour(self) -> Behaviour:
        """The current behaviour. A new one begins random values and counts of faults again, and has its own models.

        Those that it does not name are removed. Models that clients have pulled, created or copied stay.
        """
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        before, self._behaviour = self._behaviour, behaviour
        self.restart()
        kept = set(map(model_key, _models(behaviour)))
        for name in _models(before):
            if model_key(name) not in kept:
                self.store.remove(name)
        self._add_models()

    def restart(self) -> None:
        """Begin the random values and the counts of faults again."""
        self.random = Random(f"latencies {self._behaviour.seed}")  # noqa: S311 - not for secrets
        self.injector.restart()

    def hangs(self) -> bool:
        """Return whether all models hang."""
        return self._behaviour.fault is Fault.HANG

    def is_embedding(self, model: str) -> bool:
        """Return whether a model only embeds."""
        return model_key(model) in map(model_key, self._behaviour.embedding_models)

    def is_image(self, model: str) -> bool:
        """Return whether a model generates images."""
        return model_key(model) in map(model_key, self._behaviour.image_models)

    def pick(
        self, request: Request, model: str, kinds: frozenset[Fault], *, common: frozenset[Fault] | None = None
    ) -> Injected | None:
        """Return the fault that a request gets, or None. It is one of some kinds.

        `common` are the kinds that apply without a rule, as the fault of all requests. By default they are all kinds.
        """
        if not self._behaviour.faults and self._behaviour.fault is Fault.NONE:
            return None
        asked = Asked(request.path, model, key_of(request.headers))
        return self.injector.pick(asked, kinds, kinds if common is None else common)

    def pick_by_route(self, request: Request) -> Injected | None:
        """Return the fault of a rule for the route of a request that does not run a model, or None."""
        if not self._behaviour.faults:
            return None
        return self.injector.pick_by_route(Asked(request.path, "", key_of(request.headers)))

    @contextmanager
    def counted(self, request: Request, model: str, operation: Operation) -> Iterator[Entry]:
        """Keep an entry of the ledger for a request. The block closes it if it succeeds; errors close it here."""
        entry = self.ledger.open(request.headers.get(_REQUEST_ID, ""), model, operation)
        entry.received_at = request.received_at
        try:
            yield entry
        except RequestError as error:
            self.ledger.close(entry, "faulted", error.reason)
            raise
        except QueueFullError:
            self.ledger.close(entry, "faulted", Fault.QUEUE_FULL.value)
            raise RequestError(503, QUEUE_FULL) from None
        except (asyncio.CancelledError, ConnectionError):
            self.ledger.close(entry, "cancelled")
            raise

    @asynccontextmanager
    async def running(
        self, model: str, keep_alive: timedelta | None, injected: Injected | None = None
    ) -> AsyncIterator[Place]:
        """Hold a model in memory and one of its slots. Raises QueueFullError, or RequestError if the load fails."""
        behaviour = self._behaviour
        async with self.loaded(model, keep_alive, injected) as (runner, load):
            slots = self.store.slots.setdefault(model, Slots())
            async with slots.slot(behaviour.parallel, behaviour.max_queue):
                yield Place(runner, slots, load)

    @asynccontextmanager
    async def loaded(
        self, model: str, keep_alive: timedelta | None, injected: Injected | None = None
    ) -> AsyncIterator[tuple[Runner, float]]:
        """Hold a model in memory. Yields it, and the seconds until it was there."""
        if injected is not None and injected.fault is Fault.LOAD_FAILURE:
            await self.timers.sleep(self._load_seconds())
            raise RequestError(500, _LOAD_FAILURE, reason=Fault.LOAD_FAILURE.value)
        runner, load = await self.store.use(model, keep_alive, self._load_seconds)
        try:
            yield runner, load
        finally:
            self.store.memory.release(runner)

    def _add_models(self) -> None:
        for name in _models(self._behaviour):
            self.store.add(name)

    def _load_seconds(self) -> float:
        return draw(self._behaviour.load, self.random)


def _models(behaviour: Behaviour) -> tuple[str, ...]:
    """Return the names of the models that are present by a behaviour."""
    return behaviour.models + behaviour.embedding_models + behaviour.image_models
