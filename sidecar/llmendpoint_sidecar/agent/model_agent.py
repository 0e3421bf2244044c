"""Ensures that every declared model is pulled, and that every preloaded model is loaded and answers.

Every two seconds, the agent compares each declared model with the last state of Ollama that was polled, and performs
the missing steps: it pulls the model, copies it to the declared name, loads it, and sends a test request. A model that
Ollama evicted is loaded again. A failed step is retried after 2 s. The delay doubles after each failure, up to a
minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from llmendpoint_common.contracts.ollama import canonical_name, model_key
from llmendpoint_common.contracts.sidecar import (
    DeclaredModel,
    Load,
    ModelPhase,
    ModelReason,
    ModelStatus,
    SidecarConfig,
)
from llmendpoint_common.process.errors import ModelError, OllamaError
from llmendpoint_sidecar.agent.progress import PullTotals
from llmendpoint_sidecar.ollama.client import Ollama
from llmendpoint_sidecar.ollama.watch import UpstreamWatch

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 2.0
_LAST_RETRY_SECONDS = 60.0
_LOAD_SECONDS = 1800.0
_INTERVAL_SECONDS = 2.0
#: Substrings of error messages of Ollama that mean that the registry does not have the model.
_NOT_FOUND = ("file does not exist", "not found", "manifest unknown")


class ModelAgent:
    """Reconciles the declared models, one at a time, because they share one disk and one GPU."""

    def __init__(self, ollama: Ollama, watch: UpstreamWatch, clock: Callable[[], float]) -> None:
        self._ollama = ollama
        self._watch = watch
        self._clock = clock
        self._config = SidecarConfig()
        self._statuses: dict[str, ModelStatus] = {}
        self._retries: dict[str, tuple[float, float]] = {}
        self._configured = asyncio.Event()
        self._was_ready = False

    def configure(self, config: SidecarConfig) -> None:
        """Apply a new configuration.

        Models that are still declared keep their status. Pending retries are made immediately.
        """
        self._config = config
        self._statuses = {
            model.name: self._statuses.get(model.name, ModelStatus(model.name)) for model in config.models
        }
        self._retries = {}
        self._configured.set()

    @property
    def ready(self) -> bool:
        """Whether the pod is ready.

        It becomes ready when all models are in phase Ready, and stays ready until a model fails with LoadFailed.
        """
        phases = {status.phase for status in self._statuses.values()}
        if phases <= {ModelPhase.READY}:
            self._was_ready = True
        elif any(status.reason == ModelReason.LOAD_FAILED for status in self._statuses.values()):
            self._was_ready = False
        return self._was_ready

    def statuses(self) -> tuple[ModelStatus, ...]:
        """Return the status of each declared model, for `/status`."""
        return tuple(self._with_upstream_state(status) for status in self._statuses.values())

    async def run(self) -> None:
        """Reconcile every two seconds, and immediately after a new configuration."""
        while True:
            for model in self._config.models:
                if self._watch.up:
                    await self._reconcile(model)
            self._configured.clear()
            try:
                async with asyncio.timeout(_INTERVAL_SECONDS):
                    await self._configured.wait()
            except TimeoutError:
                continue

    async def _reconcile(self, model: DeclaredModel) -> None:
        if self._is_settled(model) or self._clock() < self._retries.get(model.name, (0.0, 0.0))[0]:
            return
        try:
            await self._make_available(model)
        except ModelError as failure:
            self._retry_later(model, failure)
        else:
            self._retries.pop(model.name, None)

    def _is_settled(self, model: DeclaredModel) -> bool:
        status = self._statuses.get(model.name)
        if status is None or status.phase is not ModelPhase.READY:
            return False
        listed = self._watch.listed_as(model.name)
        if listed is None or not _has_digest(listed.digest, model):
            return False
        return model.load is Load.ON_DEMAND or self._watch.loaded_as(model.name) is not None

    async def _make_available(self, model: DeclaredModel) -> None:
        listed = self._watch.listed_as(model.name)
        if listed is None or not _has_digest(listed.digest, model):
            await self._pull(model)
            await self._watch.poll()
            listed = self._watch.listed_as(model.name)
        if listed is not None and not _has_digest(listed.digest, model):
            raise ModelError(
                ModelReason.DIGEST_MISMATCH,
                f"{model.name} has digest sha256:{listed.digest.removeprefix('sha256:')}, but the spec requires "
                f"{model.digest}. Correct spec.models[].digest, or use a tag that has the required digest.",
            )
        if model.load is Load.PRELOAD:
            await self._load(model)
        self._set(model, phase=ModelPhase.READY, reason="", message="", progress_percent=100)

    async def _pull(self, model: DeclaredModel) -> None:
        source, insecure = model.name, False
        if model.registry is not None:
            source = f"{model.registry.host}/{model.registry.repository}"
            insecure = model.registry.insecure
            if ":" not in model.registry.repository:
                source += ":" + canonical_name(model.name).rpartition(":")[2]
        log.info("pulling %s", source)
        self._set(model, phase=ModelPhase.PULLING, reason="", message=f"pulling {source}", progress_percent=0)
        totals = PullTotals()
        try:
            async for progress in self._ollama.pull(source, insecure=insecure):
                message = totals.update(progress)
                self._set(model, message=message, progress_percent=totals.percent)
            if model_key(source) != model_key(model.name):
                await self._ollama.copy(source, model.name)
        except OllamaError as error:
            raise _pull_failure(model, source, error) from error

    async def _load(self, model: DeclaredModel) -> None:
        name = canonical_name(model.name)
        self._set(model, phase=ModelPhase.LOADING, reason="", message="loading into memory", progress_percent=100)
        try:
            embedding = await self._ollama.is_embedding(name)
            await self._ollama.load(name, embedding=embedding, seconds=_LOAD_SECONDS)
        except OllamaError as error:
            advice = "See the logs of the container ollama. A smaller model or more GPU memory may be necessary."
            raise ModelError(ModelReason.LOAD_FAILED, f"{model.name} could not be loaded: {error}. {advice}") from error
        await self._watch.poll()
        loaded = self._watch.loaded_as(model.name)
        if self._config.require_full_offload and loaded is not None and loaded.size_vram < loaded.size:
            share = 100 * loaded.size_vram // max(1, loaded.size)
            raise ModelError(
                ModelReason.NOT_ON_GPU,
                f"Only {share} % of {model.name} is in GPU memory, but gpu.requireFullOffload is true. Use a GPU with "
                "more memory, a smaller model or a smaller context, or set gpu.requireFullOffload to false.",
            )

    def _retry_later(self, model: DeclaredModel, failure: ModelError) -> None:
        _, last = self._retries.get(model.name, (0.0, 0.0))
        pause = min(_LAST_RETRY_SECONDS, max(_FIRST_RETRY_SECONDS, 2 * last))
        self._retries[model.name] = (self._clock() + pause, pause)
        log.warning("%s: %s (next attempt in %g s)", failure.reason, failure, pause)
        self._set(model, phase=ModelPhase.FAILED, reason=failure.reason, message=str(failure))

    def _set(self, model: DeclaredModel, **changes: object) -> None:
        status = self._statuses.get(model.name)
        if status is not None:
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


def _has_digest(digest: str, model: DeclaredModel) -> bool:
    return model.digest is None or digest.removeprefix("sha256:") == model.digest.removeprefix("sha256:")


def _pull_failure(model: DeclaredModel, source: str, error: OllamaError) -> ModelError:
    words = str(error)
    if any(sign in words for sign in _NOT_FOUND):
        place = model.registry.host if model.registry else "the registry (https://ollama.com/library by default)"
        return ModelError(
            ModelReason.MODEL_NOT_FOUND, f"{source} was not found in {place}: {words}. Check the name and the tag."
        )
    advice = "Check the address of the registry, whether the pod can reach it, and the free storage space."
    return ModelError(ModelReason.PULL_FAILED, f"{source} could not be pulled: {words}. {advice}")
