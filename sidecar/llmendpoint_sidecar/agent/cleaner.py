"""Frees memory and storage of models that are no longer declared, after all declared models are ready."""

from __future__ import annotations

import logging

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


class Cleaner:
    """Unloads models that the agent loaded and that are not preloaded any more, and deletes models if it may."""

    def __init__(self, ollama: Ollama, watch: UpstreamWatch, memory: Memory, loader: Loader) -> None:
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
        for name in self._unneeded(config):
            await self._loader.retire(name, config.models)
            try:
                await self._ollama.delete(name)
            except OllamaError as error:
                log.warning("%s cannot be deleted: %s", name, error)
            else:
                self._memory.forget(name)
                log.info("deleted %s, which is not declared", name)

    def _unneeded(self, config: SidecarConfig) -> list[str]:
        """Return the models on disk to delete: what an interrupted replacement left, and undeclared ones if asked."""
        if not config.remove_undeclared:
            return [name for name in (STAGED, PREVIOUS) if self._watch.listed_as(name) is not None]
        kept = {model_key(name) for model in config.models for name in _names(model)}
        return [name for name in self._watch.listed if model_key(name) not in kept]


def _names(model: DeclaredModel) -> list[str]:
    """Return the names that a declared model needs: its own, and that of the model that it is made from."""
    base = parse_modelfile(model.modelfile).base if model.modelfile else ""
    source = model.source if model.registry is not None else None
    return [name for name in (model.name, base, source) if name]
