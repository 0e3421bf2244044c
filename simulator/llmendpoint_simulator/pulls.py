"""Progress of pulls, pushes and creations, as lines of a stream. Failed steps are lines too, as in Ollama."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from llmendpoint_common.contracts.ollama import model_key, parse_name
from llmendpoint_simulator.faults import PULL_FAULTS, Fault
from llmendpoint_simulator.injection import Injected
from llmendpoint_simulator.requests import RequestError
from llmendpoint_simulator.serving.connection import Request
from llmendpoint_simulator.store import Content, content_of
from llmendpoint_simulator.world import World

Line = dict[str, Any]
#: Fields of `POST /api/create` that become part of the model.
_CREATED_FROM = ("template", "system", "license", "parameters", "messages", "renderer", "parser", "requires")
#: As Ollama, which reports the progress of a layer every 60 ms.
_TICK_SECONDS = 0.06
_STEPS = 10
#: Bytes of each layer that is not the weights: template, license, parameters and configuration.
_SMALL = 500
#: Folders in the messages of a full disk: those of the service that Ollama's installer for Linux creates.
_BLOBS = "/usr/share/ollama/.ollama/models/blobs"
_MANIFESTS = "/usr/share/ollama/.ollama/models/manifests"


class Pulls:
    """Pulls, pushes and creates models."""

    def __init__(self, world: World, blobs: set[str]) -> None:
        self._world = world
        self._blobs = blobs

    async def pull(self, request: Request, model: str) -> AsyncIterator[Line]:
        """Pull a model, if the registry has it. Yields the lines; the last one of a failed pull is the RequestError."""
        world = self._world
        injected = world.pick(request, model, PULL_FAULTS, common=PULL_FAULTS - {Fault.STALL})
        fault = Fault.NONE if injected is None else injected.fault
        yield {"status": "pulling manifest"}
        behaviour = world.behaviour
        known = map(model_key, behaviour.registry + tuple(world.store.present))
        if fault is Fault.MANIFEST_MISSING or model_key(model) not in known:
            raise RequestError(500, "pull model manifest: file does not exist")
        content = content_of(model + behaviour.revisions.get(model, ""))
        if fault is Fault.NO_LOCATION:
            raise RequestError(500, "http: no Location header in response")
        for digest, size in self._layers(model, content):
            async for line in self._download(digest, size, injected):
                yield line
        yield {"status": "verifying sha256 digest"}
        await world.timers.sleep(behaviour.verify)
        if fault is Fault.DIGEST_MISMATCH:
            found = hashlib.sha256(content.digest.encode()).hexdigest()
            wanted = f"want sha256:{content.digest}, got sha256:{found}"
            raise RequestError(500, f"digest mismatch, file must be downloaded again: {wanted}")
        yield {"status": "writing manifest"}
        before = world.store.present.get(world.store.canonical(model))
        world.store.add(model, content)
        if before not in (None, content.digest):
            yield {"status": "removing unused layers"}
        yield {"status": "success"}

    def _layers(self, model: str, content: Content) -> list[tuple[str, int]]:
        """Return digests and sizes of the layers of a model, the weights first."""
        count = self._world.behaviour.layers
        small = [hashlib.sha256(f"{content.digest} {index}".encode()).hexdigest() for index in range(1, count)]
        return [(content.digest, self._world.store.size(model)), *((digest, _SMALL) for digest in small)]

    async def _download(self, digest: str, size: int, injected: Injected | None) -> AsyncIterator[Line]:
        behaviour = self._world.behaviour
        speed = behaviour.pull_speed
        seconds = size / speed if speed else behaviour.pull if size != _SMALL else 0.0
        # With a speed, as often as Ollama, and otherwise in ten steps.
        steps = max(1, round(seconds / _TICK_SECONDS)) if speed else _STEPS
        line = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": size}
        for step in range(steps + 1):
            # As in Ollama, a number of zero is left out.
            yield {**line, "completed": size * step // steps} if step else line
            if injected is not None and step == steps // 2:
                await self._interrupt(digest, injected)
            await self._world.timers.sleep(seconds / steps)

    async def _interrupt(self, digest: str, injected: Injected) -> None:
        """Inject what happens in the middle of a download."""
        if injected.fault is Fault.STALL:
            await self._world.timers.sleep(injected.rule.seconds)
        if injected.fault is Fault.DISK_FULL:
            raise RequestError(500, f"write {_BLOBS}/sha256-{digest}-partial: no space left on device")

    async def push(self, model: str) -> AsyncIterator[Line]:
        """Push a model, if it is present."""
        store = self._world.store
        yield {"status": "retrieving manifest"}
        if model not in store.present:
            yield {"status": "couldn't retrieve manifest"}
            raise RequestError(500, f"open {_MANIFESTS}/{_path_of(model)}: no such file or directory")
        digest, size = f"sha256:{store.present[model]}", store.size(model)
        for completed in (0, size):
            yield {"status": f"pushing {digest[7:19]}", "digest": digest, "total": size, "completed": completed}
        yield {"status": "pushing manifest"}
        yield {"status": "success"}

    async def create(self, request: Request, body: dict[str, Any], name: str) -> AsyncIterator[Line]:
        """Create a model from another one, or from files, which are blobs."""
        store = self._world.store
        source = store.canonical(str(body["from"])) if body.get("from") else ""
        if source and source not in store.present:
            # As in Ollama, a model that is not present is pulled first.
            async for line in self.pull(request, source):
                yield line
        for digest in (body.get("files") or {}).values():
            yield {"status": "parsing GGUF"}
            if digest not in self._blobs:
                path = f"{_BLOBS}/{str(digest).replace(':', '-')}"
                raise RequestError(500, f"open {path}: no such file or directory")
        yield {"status": f"using existing layer sha256:{store.present.get(source, '0' * 64)}"}
        yield {"status": "writing manifest"}
        store.add(name, self._created(body))
        yield {"status": "success"}

    def _created(self, body: dict[str, Any]) -> Content:
        """Return the content of a created model. As in Ollama, its digest depends on all that it is made from."""
        store = self._world.store
        source = str(body.get("from") or "")
        base = store.content(source) if source else None
        files = sorted((body.get("files") or {}).values())
        made = {name: body[name] for name in _CREATED_FROM if body.get(name)}
        parts = [base.digest if base else files, store.canonical(source), made]
        digest = hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()
        weights = base.weights if base else files[0].removeprefix("sha256:")
        return Content(digest, weights, str(body.get("system") or (base.system if base else "")))


def _path_of(model: str) -> str:
    """Return the path of a model's manifest."""
    host, namespace, name, tag = parse_name(model)
    return f"{host}/{namespace}/{name}/{tag}"
