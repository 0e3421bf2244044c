"""Polls the state of Ollama: availability, models, and models in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TypeVar

from llmendpoint_common.contracts.ollama import canonical_name, model_key
from llmendpoint_common.process.errors import NotOllamaError, OllamaError
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from llmendpoint_sidecar.ollama.client import ListedModel, LoadedModel, Ollama

log = logging.getLogger(__name__)

_FAILURES_UNTIL_DOWN = 2


T = TypeVar("T")


class UpstreamWatch:
    """State of Ollama at the last poll. `listed` and `loaded` contain models by name."""

    def __init__(self, ollama: Ollama, model_labels: ModelLabels, interval: float) -> None:
        self.up = False
        self.version = ""
        #: What else answers at the address of Ollama, as a part of a sentence. Empty if it answers, or nothing does.
        self.problem = ""
        self.listed: dict[str, ListedModel] = {}
        self.loaded: dict[str, LoadedModel] = {}
        self._ollama = ollama
        self._model_labels = model_labels
        self._interval = interval
        self._failures = 0
        #: The weights of models, by the digest of the model.
        self._weights: dict[str, str] = {}

    def context_length(self, name: str) -> int | None:
        """Return the context length of a model that is in memory, in tokens. None if it is not in memory."""
        loaded = self.loaded_as(name)
        return None if loaded is None else loaded.context_length or None

    def listed_as(self, name: str) -> ListedModel | None:
        """Return the model on disk that Ollama finds under a name, however the name is written."""
        return _found(self.listed, name)

    def loaded_as(self, name: str) -> LoadedModel | None:
        """Return the model in memory that Ollama finds under a name, however the name is written.

        Several names of the same model share its memory, and so do models with the same weights, such as a model and
        those that were created from it with another prompt. `/api/ps` then only lists the one that was loaded first.
        """
        if not self.loaded:
            return None
        listed = self.listed_as(name)
        if listed is None or not listed.digest:
            return _found(self.loaded, name)
        # The name alone does not decide: after a pull, `/api/ps` may list the version that the name had before.
        same = next((model for model in self.loaded.values() if model.digest == listed.digest), None)
        weights = self._weights.get(listed.digest)
        if same is not None or weights is None:
            return same
        return next((model for model in self.loaded.values() if self._weights.get(model.digest) == weights), None)

    def weights(self, digest: str) -> str:
        """Return the weights of the model with a digest, or an empty string if they are not known."""
        return self._weights.get(digest, "")

    def note_weights(self, digest: str, weights: str) -> None:
        """Remember the weights of a model."""
        if digest and weights:
            self._weights[digest] = weights

    async def run(self) -> None:
        """Poll at the interval, and immediately if the meter meets an unknown model name."""
        while True:
            await self.poll()
            wanted = self._model_labels.wanted
            try:
                # Before Python 3.12, wait_for() loses a cancellation that arrives together with the event.
                async with asyncio.timeout(self._interval):
                    await wanted.wait()
            except TimeoutError:
                continue
            wanted.clear()

    async def poll(self) -> None:
        """Poll once. Ollama counts as down after two consecutive failures."""
        try:
            version = self.version if self.up and self.version else await self._ollama.version()
            listed = await self._ollama.listed()
            loaded = await self._ollama.loaded()
        except OllamaError as error:
            self._failed(error)
            self._model_labels.settle()
            return
        if not self.up:
            log.info("upstream is up: Ollama %s", version)
        # Together, so that a version is never told of an Ollama that is not up.
        self.up, self.version, self.problem, self._failures = True, version, "", 0
        self.listed = {model.name: model for model in listed}
        # If a past version of a model is still in memory, its name stands for the present one.
        names = {self._name_of(model): model for model in loaded}
        self.loaded = names | {model.name: model for model in loaded if self._is_present(model)}
        digests = {model.digest for model in listed} | {model.digest for model in loaded}
        self._weights = {digest: weights for digest, weights in self._weights.items() if digest in digests}
        self._model_labels.list(self.listed, (model.name for model in listed if model.remote_host))

    def _is_present(self, model: LoadedModel) -> bool:
        listed = self.listed.get(model.name)
        return listed is not None and listed.digest == model.digest

    def _name_of(self, model: LoadedModel) -> str:
        """Return the name of a model in memory.

        If the name was deleted, or belongs to another version now, it is another name of the model, if there is one.
        """
        if self._is_present(model):
            return model.name
        return next((name for name, other in self.listed.items() if other.digest == model.digest), model.name)

    def lost(self) -> None:
        """Note that the process of Ollama has ended, so that nothing of its state is left."""
        self.up, self.version = False, ""
        self.loaded = {}

    def _failed(self, error: OllamaError) -> None:
        self._failures += 1
        self.problem = str(error) if isinstance(error, NotOllamaError) else ""
        # One slow answer of a busy server is not an outage.
        if self.up and self._failures >= _FAILURES_UNTIL_DOWN:
            log.warning("upstream is down: %s", error)
            self.lost()


def _found(models: Mapping[str, T], name: str) -> T | None:
    model = models.get(canonical_name(name))
    if model is not None:
        return model
    # Ollama lists a model under the name with which it was first pulled.
    key = model_key(name)
    return next((model for other, model in models.items() if model_key(other) == key), None)
