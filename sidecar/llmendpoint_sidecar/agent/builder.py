"""Makes models available under their declared names: pulls them, or creates them from a file or with a Modelfile.

A model that is present already, with other content, is replaced without a gap: the new content is made under another
name, checked against the required digest, and loaded into memory. Then its manifest is copied to the declared name, and
the old one leaves memory when its last request has ended. If a step fails, the old model stays.

    pull or create  ->  STAGED or the registry's name  ->  load  ->  copy to the declared name  ->  unload the old one

A model that is pulled by its own name has no other name, so the pull replaces it. Its old manifest is kept under
PREVIOUS until the new one is checked.

Nothing is deleted here. While Ollama 0.17.4 deletes a manifest, another request can fail: it lists all manifests, and
gives up if one of them vanishes meanwhile (`Manifests`, manifest/paths.go). Therefore STAGED and PREVIOUS stay as names
of the new model, which need no space, until the pod has no requests (`cleaner`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, Protocol

from llmendpoint_common.contracts.modelfile import parse_modelfile
from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_common.contracts.sidecar import DeclaredModel, Gguf, Load, ModelPhase, ModelReason
from llmendpoint_common.process.errors import ModelError, OllamaError
from llmendpoint_sidecar.agent.gguf import GgufFiles
from llmendpoint_sidecar.agent.loader import Loader
from llmendpoint_sidecar.agent.manifests import Manifests
from llmendpoint_sidecar.agent.memory import Made, Memory, definition_of
from llmendpoint_sidecar.agent.progress import PullTotals
from llmendpoint_sidecar.ollama.client import ListedModel, Ollama
from llmendpoint_sidecar.ollama.watch import UpstreamWatch

log = logging.getLogger(__name__)

#: Names of models that only exist while a model is replaced. Clients see them in Ollama's list meanwhile.
NAMESPACE = "llmendpoint"
STAGED = f"{NAMESPACE}/staged:latest"
PREVIOUS = f"{NAMESPACE}/previous:latest"
#: Substrings of error messages of Ollama that mean that the registry does not have the model.
_NOT_FOUND = ("file does not exist", "not found", "manifest unknown")
_GRACE_SECONDS = 1.0
_PULL_ADVICE = "Check the address of the registry, whether Ollama can reach it, and the free storage space."


class Report(Protocol):
    """Changes fields of the status of a model."""

    def __call__(self, model: DeclaredModel, **changes: object) -> None:
        """Set the fields."""


class WaitingError(ModelError):
    """A model cannot be made before another declared model is ready. This is not a failure."""

    def __init__(self, base: str) -> None:
        super().__init__(ModelReason.CREATE_FAILED, f"waiting for {base}, from which it is created")


class Builder:
    """Makes one model at a time."""

    def __init__(
        self,
        ollama: Ollama,
        watch: UpstreamWatch,
        memory: Memory,
        loader: Loader,
        clock: Callable[[], float],
    ) -> None:
        self._ollama = ollama
        self._watch = watch
        self._memory = memory
        self._loader = loader
        self._clock = clock
        self._files = GgufFiles(ollama, memory)
        self._manifests = Manifests(memory.folder)
        self._models: Mapping[str, DeclaredModel] = {}
        self._report: Report = _ignore
        #: The models whose files have been compared with what was read before the process started.
        self._compared: dict[str, bool] = {}

    def configure(self, models: Mapping[str, DeclaredModel], report: Report) -> None:
        """Set the declared models, by their key."""
        self._models = models
        self._report = report

    async def is_needed(self, model: DeclaredModel) -> bool:
        """Return whether a model is missing, or made in another way than it is declared."""
        listed = self._watch.listed_as(model.name)
        if listed is None or not has_digest(listed.digest, model):
            return True
        made = self._memory.made(model.name)
        if made is None:
            # A model that was pulled before there was a memory, or by somebody else, is taken as it is.
            return model.is_created
        if made.definition != self._definition(model):
            return True
        if not model.is_created:
            return False
        return made.digest != listed.digest or await self._has_new_file(model)

    def note_made(self, model: DeclaredModel) -> None:
        """Remember that a model that is present is made as declared."""
        listed = self._watch.listed_as(model.name)
        if listed is not None:
            self._memory.note_made(model.name, Made(self._definition(model), listed.digest))

    async def build(self, model: DeclaredModel, *, is_served: bool) -> None:
        """Make a model available. `is_served` is whether requests may reach the pod already. Raises ModelError."""
        before = self._watch.listed_as(model.name)
        if model.is_created:
            await self._create(model)
            await self._replace(model, STAGED, before)
        elif model.source is not None and model_key(model.source) != model_key(model.name):
            await self._pull(model, model.source)
            await self._replace(model, model.source, before)
        else:
            await self._pull_in_place(model, before, is_served=is_served)
        await self._watch.poll()
        self._compared[model.name] = True
        self.note_made(model)

    async def _pull_in_place(self, model: DeclaredModel, before: ListedModel | None, *, is_served: bool) -> None:
        if before is not None:
            await self._copy(model, model.name, PREVIOUS)
        await self._pull(model, model.source or model.name)
        found = await self._listed(model.name)
        if not has_digest(found.digest, model):
            if before is not None:
                await self._copy(model, PREVIOUS, model.name)
            elif is_served:
                await self._delete(model.name)
            raise mismatch(model, found.digest)
        if before is not None and before.digest != found.digest:
            if model.load is Load.PRELOAD:
                await self._load(model, model.name)
            await self._retire(model)

    async def _replace(self, model: DeclaredModel, new: str, before: ListedModel | None) -> None:
        """Copy `new` to the declared name of the model."""
        found = await self._listed(new)
        if not has_digest(found.digest, model):
            raise mismatch(model, found.digest)
        if before is not None and before.digest == found.digest:
            return
        if before is not None:
            if model.load is Load.PRELOAD:
                await self._load(model, new)
            await self._copy(model, model.name, PREVIOUS)
        if before is None or not await asyncio.to_thread(self._manifests.replace, new, model.name, found.digest):
            await self._copy(model, new, model.name)
        await self._watch.poll()
        if before is not None:
            await self._retire(model)

    async def _retire(self, model: DeclaredModel) -> None:
        """Unload the version that the model had before, and free its space."""
        # A request that found the old manifest may not have reached the old model in memory yet.
        await asyncio.sleep(_GRACE_SECONDS)
        await self._loader.retire(PREVIOUS, self._models.values())
        # Ollama deletes the blobs of a manifest that it replaces, and that no other one needs.
        with contextlib.suppress(OllamaError):
            async for _ in self._ollama.create(PREVIOUS, {"from": model.name}):
                pass

    async def _create(self, model: DeclaredModel) -> None:
        """Create the model under the name STAGED."""
        text = model.modelfile or ""
        parsed = parse_modelfile(text)
        fields: dict[str, Any] = parsed.create_fields()
        if model.gguf is not None:
            path = model.gguf.path
            log.info("creating %s from %s", model.name, path)
            self._report(model, phase=ModelPhase.PULLING, reason="", message=f"reading {path}", progress_percent=0)
            digest = await self._uploaded(model, model.gguf)
            fields["files"] = {PurePosixPath(path).name: digest}
        else:
            fields["from"] = path = parsed.base or model.source or ""
            log.info("creating %s from %s", model.name, path)
            await self._provide(model, path)
        self._report(model, phase=ModelPhase.PULLING, reason="", message=f"creating the model from {path}")
        try:
            async for _ in self._ollama.create(STAGED, fields):
                pass
        except OllamaError as error:
            advice = "Check the Modelfile." if model.modelfile else "Check that the file is a complete GGUF file."
            raise ModelError(
                ModelReason.CREATE_FAILED, f"{model.name} could not be created from {path}: {error}. {advice}"
            ) from error

    async def _uploaded(self, model: DeclaredModel, gguf: Gguf) -> str:
        def step(message: str, percent: int) -> None:
            self._report(model, message=message, progress_percent=percent)

        try:
            return await self._files.upload(gguf, step)
        except OllamaError as error:
            advice = "Check the free storage space."
            raise ModelError(
                ModelReason.CREATE_FAILED, f"{gguf.path} could not be copied to Ollama: {error}. {advice}"
            ) from error

    async def _provide(self, model: DeclaredModel, base: str) -> None:
        """Ensure that the base of a created model is present."""
        declared = self._models.get(model_key(base))
        if declared is None:
            if self._watch.listed_as(base) is None:
                await self._pull(model, base)
        elif await self.is_needed(declared):
            raise WaitingError(declared.name)

    async def _pull(self, model: DeclaredModel, source: str) -> None:
        log.info("pulling %s", source)
        self._report(model, phase=ModelPhase.PULLING, reason="", message=f"pulling {source}", progress_percent=0)
        totals = PullTotals(self._clock)
        insecure = model.registry is not None and model.registry.insecure
        try:
            async for progress in self._ollama.pull(source, insecure=insecure):
                self._report(
                    model,
                    message=totals.update(progress),
                    progress_percent=totals.percent,
                    bytes_per_second=totals.bytes_per_second,
                    remaining_seconds=totals.remaining_seconds,
                    pulled_bytes=totals.done,
                    pull_bytes=totals.total,
                )
        except OllamaError as error:
            raise _pull_failure(model, source, error) from error
        finally:
            self._report(model, bytes_per_second=0, remaining_seconds=0, pulled_bytes=0, pull_bytes=0)

    async def _load(self, model: DeclaredModel, name: str) -> None:
        message = "loading the new version into memory"
        self._report(model, phase=ModelPhase.LOADING, message=message, progress_percent=100)
        await self._loader.load(model, name)

    async def _listed(self, name: str) -> ListedModel:
        await self._watch.poll()
        found = self._watch.listed_as(name)
        if found is None:
            raise ModelError(ModelReason.PULL_FAILED, f"Ollama does not list {name}, which it has just stored.")
        return found

    async def _copy(self, model: DeclaredModel, source: str, destination: str) -> None:
        try:
            await self._ollama.copy(source, destination)
        except OllamaError as error:
            raise ModelError(
                ModelReason.PULL_FAILED,
                f"{model.name} could not be replaced: {source} could not be copied to {destination}: {error}. Check "
                "the free storage space.",
            ) from error

    async def _delete(self, name: str) -> None:
        with contextlib.suppress(OllamaError):
            await self._ollama.delete(name)

    async def _has_new_file(self, model: DeclaredModel) -> bool:
        """Return whether the file of a model has changed since it was read. It is compared once per process."""
        if model.gguf is None or self._compared.get(model.name):
            return False
        if await self._files.has_changed(model.gguf):
            return True
        self._compared[model.name] = True
        return False

    def _definition(self, model: DeclaredModel) -> str:
        base = parse_modelfile(model.modelfile).base if model.modelfile else ""
        declared = self._models.get(model_key(base)) if base else None
        listed = self._watch.listed_as(declared.name) if declared else None
        return definition_of(model, listed.digest if listed else "")


def has_digest(digest: str, model: DeclaredModel) -> bool:
    """Return whether a digest is the one that the model must have."""
    return model.digest is None or digest.removeprefix("sha256:") == model.digest.removeprefix("sha256:")


def mismatch(model: DeclaredModel, digest: str) -> ModelError:
    """Return the failure of a model that has another digest than it must have."""
    return ModelError(
        ModelReason.DIGEST_MISMATCH,
        f"{model.name} has digest sha256:{digest.removeprefix('sha256:')}, but the spec requires {model.digest}. "
        "Correct spec.models[].digest, or use a tag that has the required digest.",
    )


def _ignore(model: DeclaredModel, **changes: object) -> None:
    """Report nothing."""


def _pull_failure(model: DeclaredModel, source: str, error: OllamaError) -> ModelError:
    words = str(error)
    if any(sign in words for sign in _NOT_FOUND):
        place = model.registry.host if model.registry else "the registry (https://ollama.com/library by default)"
        return ModelError(
            ModelReason.MODEL_NOT_FOUND, f"{source} was not found in {place}: {words}. Check the name and the tag."
        )
    if "invalid model name" in words:
        return ModelError(
            ModelReason.MODEL_NOT_FOUND, f"{source} is not a name that Ollama accepts: {words}. Correct the name."
        )
    return ModelError(ModelReason.PULL_FAILED, f"{source} could not be pulled: {words}. {_PULL_ADVICE}")
