"""Loads models into memory and unloads them, without disturbing models that share their weights.

Ollama keeps a model in memory by the file with its weights. A model that was created from another one with a Modelfile
shares that memory, so it is loaded with it, and unloading one would unload both.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable

from llmendpoint_common.contracts.ollama import canonical_name
from llmendpoint_common.contracts.sidecar import DeclaredModel, Load, ModelReason
from llmendpoint_common.process.errors import ModelError, OllamaError
from llmendpoint_sidecar.ollama.client import Ollama
from llmendpoint_sidecar.ollama.watch import UpstreamWatch

log = logging.getLogger(__name__)

_LOAD_SECONDS = 1800.0


class Loader:
    """Loads and unloads models of one Ollama."""

    def __init__(self, ollama: Ollama, watch: UpstreamWatch, needs_gpu: Callable[[], bool]) -> None:
        self._ollama = ollama
        self._watch = watch
        self._needs_gpu = needs_gpu

    async def load(self, model: DeclaredModel, name: str) -> None:
        """Load a model without expiry, under its name or another one that has its content, and wait for an answer.

        Raises ModelError.
        """
        canonical = canonical_name(name)
        try:
            await self._ollama.load(canonical, embedding=await self._ollama.is_embedding(name), seconds=_LOAD_SECONDS)
        except OllamaError as error:
            advice = "See the logs of the container ollama. A smaller model or more GPU memory may be necessary."
            raise ModelError(ModelReason.LOAD_FAILED, f"{model.name} could not be loaded: {error}. {advice}") from error
        await self._watch.poll()
        if self._watch.loaded_as(name) is None:
            await self._learn_weights(name)
        loaded = self._watch.loaded_as(name)
        if self._needs_gpu() and loaded is not None and loaded.size_vram < loaded.size:
            share = 100 * loaded.size_vram // max(1, loaded.size)
            raise ModelError(
                ModelReason.NOT_ON_GPU,
                f"Only {share} % of {model.name} is in GPU memory, but gpu.requireFullOffload is true. Use a GPU with "
                "more memory, a smaller model or a smaller context, or set gpu.requireFullOffload to false.",
            )

    async def retire(self, name: str, kept: Iterable[DeclaredModel]) -> None:
        """Unload a model that is no longer needed, unless a preloaded model that is kept shares its weights."""
        if not self._watch.loaded:
            return
        preloaded = [model.name for model in kept if model.load is Load.PRELOAD]
        await self._watch.poll()
        await self._learn_weights(name, *preloaded)
        loaded = self._watch.loaded_as(name)
        if loaded is None or any(self._watch.loaded_as(other) is loaded for other in preloaded):
            return
        log.info("unloading %s", name)
        with contextlib.suppress(OllamaError):
            await self._ollama.unload(name)

    async def _learn_weights(self, *names: str) -> None:
        """Ask Ollama for the weights of models and of those in memory, as far as they are not known."""
        wanted = {found.digest: found.name for name in names if (found := self._watch.listed_as(name)) is not None}
        wanted |= {loaded.digest: name for name, loaded in self._watch.loaded.items()}
        for digest, name in wanted.items():
            if not self._watch.weights(digest):
                with contextlib.suppress(OllamaError):
                    self._watch.note_weights(digest, (await self._ollama.described(name)).weights)
