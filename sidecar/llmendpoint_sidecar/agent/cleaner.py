"""Frees memory and storage of models that are no longer declared, after all declared models are ready."""

from __future__ import annotations

import logging
from collections.abc import Callable

from llmendpoint_common.contracts.modelfile import parse_modelfile
from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_common.contracts.sidecar import DeclaredModel, Load, SidecarConfig
from llmendpoint_common.process.errors import OllamaError
from llmendpoint_sidecar.agent.builder import PREVIOUS, STAGED
from llmendpoint_sidecar.agent.loader import Loader
from llmendpoint_sidecar.agent.memory import Memory
from llmendpoint_sidecar.ollama.client import Ollama
from llmendpoint_sidecar.ollama.watch import UpstreamWatch

log = logging.getLogger(__name__)

_QUIET_SECONDS = 3.0
_FORCED_SECONDS = 600.0


class Cleaner:
    """Unloads models that the agent loaded and that are not preloaded any more, and deletes models if it may."""

    def __init__(self, ollama: Ollama, watch: UpstreamWatch, memory: Memory, loader: Loader, quiet: Quiet) -> None:
        self._quiet = quiet
        self._ollama = ollama
        self._watch = watch
        self._memory = memory
        self._loader = loader

    async def clean(self, config: SidecarConfig) -> None:
        """Free what the declared models, all of which are ready, do not need."""
        preloaded = {model.name for model in config.models if model.load is Load.PRELOAD}
        for name in self._memory.preloaded:
            if name not in preloaded:
                await self._loader.retire(name, config.models)
        self._memory.note_preloaded(preloaded)
        unneeded = self._unneeded(config)
        if not self._quiet.allows(bool(unneeded - {STAGED, PREVIOUS})):
            return
        for name in sorted(unneeded):
            await self._loader.retire(name, config.models)
            try:
                await self._ollama.delete(name)
            except OllamaError as error:
                log.warning("%s cannot be deleted: %s", name, error)
            else:
                self._memory.forget(name)
                log.info("deleted %s, which is not declared", name)

    def _unneeded(self, config: SidecarConfig) -> set[str]:
        """Return the models on disk to delete: the names of a replacement, and undeclared models if asked."""
        if not config.remove_undeclared:
            return {name for name in (STAGED, PREVIOUS) if self._watch.listed_as(name) is not None}
        kept = {model_key(name) for model in config.models for name in _names(model)}
        return {name for name in self._watch.listed if model_key(name) not in kept}


class Quiet:
    """Whether nothing would be disturbed by a deletion: a request at the same moment can fail in Ollama (`builder`).

    `activity` returns the number of requests in flight, and the number of those that have ended.
    """

    def __init__(self, activity: Callable[[], tuple[int, int]], clock: Callable[[], float]) -> None:
        self._activity = activity
        self._clock = clock
        self._last = (-1, -1)
        self._since = 0.0
        self._waiting_since: float | None = None

    def allows(self, must: bool) -> bool:
        """Return whether models may be deleted now. If they must be, it waits only for some minutes."""
        now, activity = self._clock(), self._activity()
        if activity != self._last:
            self._last, self._since = activity, now
        self._waiting_since = (self._waiting_since or now) if must else None
        if self._waiting_since is not None and now - self._waiting_since >= _FORCED_SECONDS:
            return True
        return activity[0] == 0 and now - self._since >= _QUIET_SECONDS


def _names(model: DeclaredModel) -> list[str]:
    """Return the names that a declared model needs: its own, and that of the model that it is made from."""
    base = parse_modelfile(model.modelfile).base if model.modelfile else ""
    source = model.source if model.registry is not None else None
    return [name for name in (model.name, base, source) if name]
