"""Ensures that every declared model is present, and that every preloaded model is loaded and answers.

Every two seconds, the agent compares each declared model with the last state of Ollama that was polled, and performs
the missing steps. Two loops run at the same time: one makes models (`builder`), one after the other, because they share
one disk; the other loads models that are present, sends a test request, and loads a model again that Ollama evicted. So
a pull of hours does not keep an evicted model out of memory. A failed step is retried after 2 s. The delay doubles
after each failure, up to a minute.

When all declared models are ready, what they replaced leaves memory and, if asked, the disk (`cleaner`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_common.contracts.sidecar import (
    DeclaredModel,
    Load,
    ModelPhase,
    ModelReason,
    ModelStatus,
    SidecarConfig,
)
from llmendpoint_common.process.errors import ModelError
from llmendpoint_sidecar.agent.builder import Builder, WaitingError
from llmendpoint_sidecar.agent.cleaner import Cleaner, Quiet
from llmendpoint_sidecar.agent.loader import Loader
from llmendpoint_sidecar.agent.memory import Memory
from llmendpoint_sidecar.ollama.client import Ollama
from llmendpoint_sidecar.ollama.watch import UpstreamWatch

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 2.0
_LAST_RETRY_SECONDS = 60.0
_INTERVAL_SECONDS = 2.0


class ModelAgent:
    """Makes and loads the declared models, and reports their state.

    `activity` returns the number of requests in flight, and of those that have ended.
    """

    def __init__(
        self,
        ollama: Ollama,
        watch: UpstreamWatch,
        memory: Memory,
        activity: Callable[[], tuple[int, int]],
        clock: Callable[[], float],
    ) -> None:
        self._watch = watch
        self._clock = clock
        self._config = SidecarConfig()
        self._loader = Loader(ollama, watch, lambda: self._config.require_full_offload)
        self._builder = Builder(ollama, watch, memory, self._loader, clock)
        self._cleaner = Cleaner(ollama, watch, memory, self._loader, Quiet(activity, clock))
        self._statuses: dict[str, ModelStatus] = {}
        self._retries: dict[str, tuple[float, float]] = {}
        #: The model that is being made, and its task.
        self._building: tuple[DeclaredModel, asyncio.Task[None]] | None = None
        #: One event for each loop: the configuration has changed, or something else that it must look at.
        self._changed = (asyncio.Event(), asyncio.Event())
        #: The names of the last set that was ready as a whole. None until there is one.
        self._active: frozenset[str] | None = None
        self._lost = False

    def configure(self, config: SidecarConfig) -> None:
        """Apply a new configuration.

        Models whose declaration has not changed keep their status. Pending retries are made immediately. If the
        declaration of the model that is being made has changed, this work is cancelled.
        """
        before = {model.name: model for model in self._config.models}
        self._config = config
        self._statuses = {
            model.name: self._statuses[model.name] if before.get(model.name) == model else _pending(model)
            for model in config.models
        }
        self._builder.configure({model_key(model.name): model for model in config.models}, self._set)
        if self._building is not None and self._building[0] not in config.models:
            self._building[1].cancel()
        self._look()

    def ollama_restarted(self) -> None:
        """Load the preloaded models again, because Ollama was restarted. The pod is not ready until they answer."""
        self._lost = True
        for model in self._config.models:
            if model.load is Load.PRELOAD:
                self._set(model, phase=ModelPhase.PENDING, reason="", message="Ollama was restarted")
        self._look()

    @property
    def ready(self) -> bool:
        """Whether the pod is ready.

        It becomes ready when all models are in phase Ready. It stays ready while models are added or changed, until a
        model that was ready before fails with LoadFailed.
        """
        if all(status.phase is ModelPhase.READY for status in self._statuses.values()):
            self._active, self._lost = frozenset(self._statuses), False
        elif self._active is not None:
            mine = [status for name, status in self._statuses.items() if name in self._active and status.serving]
            if any(status.reason == ModelReason.LOAD_FAILED for status in mine):
                self._lost = True
            elif mine and all(status.phase is ModelPhase.READY for status in mine):
                self._lost = False
        return self._active is not None and not self._lost

    def statuses(self) -> tuple[ModelStatus, ...]:
        """Return the status of each declared model, for `/status`."""
        return tuple(self._with_upstream_state(status) for status in self._statuses.values())

    async def run(self) -> None:
        """Make and load models until the task is cancelled."""
        made, loaded = self._changed
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._build_all, made))
            group.create_task(self._repeat(self._load_all, loaded))

    async def _repeat(self, work: Callable[[], Awaitable[None]], changed: asyncio.Event) -> None:
        """Do the work every two seconds, and immediately after a change."""
        while True:
            changed.clear()
            if self._watch.up:
                await work()
            try:
                async with asyncio.timeout(_INTERVAL_SECONDS):
                    await changed.wait()
            except TimeoutError:
                continue

    async def _build_all(self) -> None:
        for model in self._config.models:
            if self._is_due(model) and await self._builder.is_needed(model):
                task = asyncio.create_task(self._attempt(model, self._build(model)))
                self._building = (model, task)
                try:
                    await asyncio.wait([task])
                finally:
                    task.cancel()
                    self._building = None

    async def _build(self, model: DeclaredModel) -> None:
        await self._builder.build(model, is_served=self.ready)
        self._look()

    async def _load_all(self) -> None:
        for model in self._config.models:
            if self._is_due(model) and not self._is_settled(model) and not await self._builder.is_needed(model):
                await self._attempt(model, self._load(model))
        if self._building is None and all(self._is_settled(model) for model in self._config.models):
            await self._cleaner.clean(self._config)

    async def _load(self, model: DeclaredModel) -> None:
        if model.load is Load.PRELOAD:
            self._set(model, phase=ModelPhase.LOADING, reason="", message="loading into memory", progress_percent=100)
            await self._loader.load(model, model.name)
        self._builder.note_made(model)
        self._set(model, phase=ModelPhase.READY, reason="", message="", progress_percent=100, serving=True)

    async def _attempt(self, model: DeclaredModel, step: Awaitable[None]) -> None:
        try:
            await step
        except WaitingError as waiting:
            self._set(model, phase=ModelPhase.PENDING, reason="", message=str(waiting))
        except ModelError as failure:
            self._retry_later(model, failure)
        else:
            self._retries.pop(model.name, None)

    def _is_due(self, model: DeclaredModel) -> bool:
        return self._clock() >= self._retries.get(model.name, (0.0, 0.0))[0]

    def _is_settled(self, model: DeclaredModel) -> bool:
        status = self._statuses.get(model.name)
        if status is None or status.phase is not ModelPhase.READY or self._watch.listed_as(model.name) is None:
            return False
        return model.load is Load.ON_DEMAND or self._watch.loaded_as(model.name) is not None

    def _retry_later(self, model: DeclaredModel, failure: ModelError) -> None:
        _, last = self._retries.get(model.name, (0.0, 0.0))
        pause = min(_LAST_RETRY_SECONDS, max(_FIRST_RETRY_SECONDS, 2 * last))
        self._retries[model.name] = (self._clock() + pause, pause)
        log.warning("%s: %s (next attempt in %g s)", failure.reason, failure, pause)
        self._set(model, phase=ModelPhase.FAILED, reason=failure.reason, message=str(failure))

    def _look(self) -> None:
        """Make both loops look at the models immediately, also at those whose last step failed."""
        self._retries = {}
        for changed in self._changed:
            changed.set()

    def _set(self, model: DeclaredModel, **changes: object) -> None:
        status = self._statuses.get(model.name)
        # A step for a declaration that has changed meanwhile says nothing about the new one.
        if status is not None and model in self._config.models:
            self._statuses[model.name] = msgspec.structs.replace(status, **changes)

    def _with_upstream_state(self, status: ModelStatus) -> ModelStatus:
        listed, loaded = self._watch.listed_as(status.name), self._watch.loaded_as(status.name)
        return msgspec.structs.replace(
            status,
            present=listed is not None,
            loaded=loaded is not None,
            digest=f"sha256:{listed.digest.removeprefix('sha256:')}" if listed and listed.digest else "",
            size_bytes=listed.size if listed else 0,
            loaded_bytes=loaded.size if loaded else 0,
            vram_bytes=loaded.size_vram if loaded else 0,
        )


def _pending(model: DeclaredModel) -> ModelStatus:
    return ModelStatus(model.name, serving=False)
