"""Models of the simulator: their names, contents and descriptions, and those in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from llmendpoint_common.contracts.ollama import canonical_name, model_key
from llmendpoint_simulator.behaviour import Behaviour
from llmendpoint_simulator.memory import FOREVER, Limits, Memory, Runner, Wanted
from llmendpoint_simulator.slots import Slots

#: Bytes of a model whose size is not configured.
DEFAULT_SIZE = 1_000_000
_CONTEXT_LENGTH = 4096
_TEMPLATE = "{{ .Prompt }}"
_MODEL_INFO: dict[str, Any] = {
    "general.architecture": "llama",
    "general.file_type": 1,
    "general.parameter_count": 1_000_000,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 4,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.block_count": 1,
    "llama.context_length": _CONTEXT_LENGTH,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 32,
    "llama.rope.dimension_count": 16,
    "llama.vocab_size": 322,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.scores": None,
    "tokenizer.ggml.token_type": None,
    "tokenizer.ggml.tokens": None,
    "tokenizer.ggml.unknown_token_id": 0,
}


class Content(NamedTuple):
    """What a manifest of Ollama refers to. Models with the same weights share memory."""

    digest: str
    weights: str
    system: str = ""


class Store:
    """Models by canonical name, with their slots, and the weights in memory."""

    def __init__(
        self, behaviour: Callable[[], Behaviour] = Behaviour, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._behaviour = behaviour
        self._now = now
        #: The digests of the models that are present, by name.
        self.present: dict[str, str] = {}
        self._contents: dict[str, Content] = {}
        self._modified: dict[str, datetime] = {}
        self.memory = Memory(now, self._limits)
        self.slots: dict[str, Slots] = {}
        self._names: dict[str, str] = {}

    def canonical(self, name: str) -> str:
        """Return the name under which a model is listed, or the canonical form of a name that is not present.

        As in Ollama, names are compared without regard to case, and the default host and namespace may be left out.
        """
        return self._names.get(model_key(name)) or canonical_name(name)

    def content(self, name: str) -> Content:
        """Return the content of a model that is present."""
        return self._contents[self.present[self.canonical(name)]]

    def add(self, name: str, content: Content | None = None) -> None:
        """Add a model, or replace it. Without a content, its digest is a hash of its name."""
        canonical = self.canonical(name)
        content = content or content_of(canonical)
        self._names[model_key(name)] = canonical
        self._contents[content.digest] = content
        self.present[canonical] = content.digest
        self._modified[canonical] = self._now()
        self.slots.setdefault(canonical, Slots())

    def remove(self, name: str) -> bool:
        """Remove a model from the list. As in Ollama, it stays in memory. Returns False if it was not present."""
        canonical = self.canonical(name)
        self._names.pop(model_key(name), None)
        return self.present.pop(canonical, None) is not None

    def is_loaded(self, name: str) -> bool:
        """Return whether a model is in memory."""
        return self.memory.find(self._weights(name)) is not None

    def load(self, name: str, keep_alive: timedelta | None = None) -> None:
        """Keep a model in memory for `keep_alive` from now. It is listed under the name that loaded it."""
        self.memory.place(self._wanted(name, keep_alive))

    async def use(self, name: str, keep_alive: timedelta | None, load: Callable[[], float]) -> tuple[Runner, float]:
        """Use a model until `memory.release`. Returns its weights in memory, and the seconds until they were there.

        `load` returns the seconds of a load. Raises QueueFullError if too many requests wait for loads.
        """
        return await self.memory.use(self._wanted(name, keep_alive), load)

    def unload(self, name: str) -> None:
        """Remove the weights of a model from memory."""
        self.memory.unload(self._weights(name))

    def size(self, name: str) -> int:
        """Return the bytes of a model."""
        sizes = {model_key(given): size for given, size in self._behaviour().sizes.items()}
        return sizes.get(model_key(name), DEFAULT_SIZE)

    def _wanted(self, name: str, keep_alive: timedelta | None) -> Wanted:
        return Wanted(self._weights(name), name, self.present.get(name, ""), self.size(name), keep_alive)

    def _limits(self) -> Limits:
        behaviour = self._behaviour()
        kept = FOREVER if behaviour.keep_alive < 0 else timedelta(seconds=behaviour.keep_alive)
        return Limits(behaviour.memory, kept, behaviour.parallel + behaviour.max_queue)

    def _weights(self, name: str) -> str:
        digest = self.present.get(name)
        return name if digest is None else self._contents[digest].weights

    def listing(self) -> list[dict[str, Any]]:
        """Return the models of `/api/tags`."""
        return [
            {
                "name": name,
                "model": name,
                "modified_at": rfc3339(self._modified.get(name, self._now())),
                "size": self.size(name),
                "digest": digest,
                "details": _details(),
            }
            for name, digest in sorted(self.present.items())
        ]

    def loaded_listing(self) -> list[dict[str, Any]]:
        """Return the models of `/api/ps`."""
        return [
            {
                "name": runner.name,
                "model": runner.name,
                "size": runner.size,
                "digest": runner.digest,
                "details": _details(),
                "expires_at": rfc3339(runner.until),
                "size_vram": runner.vram,
                "context_length": _CONTEXT_LENGTH,
            }
            for runner in self.memory.runners()
        ]

    def description(self, name: str, capabilities: list[str]) -> dict[str, Any]:
        """Return a model as `/api/show` describes it."""
        content = self.content(name)
        source = f"/models/blobs/sha256-{content.weights}"
        system = {"system": content.system} if content.system else {}
        return {
            "modelfile": f'# Modelfile generated by "ollama show"\n\nFROM {source}\nTEMPLATE {_TEMPLATE}\n',
            "parameters": f"num_ctx                        {_CONTEXT_LENGTH}",
            **system,
            "template": _TEMPLATE,
            "details": {**_details(), "parent_model": source},
            "model_info": _MODEL_INFO,
            "tensors": [{"name": "token_embd.weight", "type": "F32", "shape": [64, 322]}],
            "capabilities": capabilities,
            "modified_at": rfc3339(self._modified.get(name, self._now())),
        }


def content_of(text: str) -> Content:
    """Return the content of a model that a registry has. Another text is another content."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Content(digest, digest)


def rfc3339(when: datetime) -> str:
    """Return a time as Ollama writes it (RFC 3339)."""
    return when.isoformat().replace("+00:00", "Z")


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "1M",
        "quantization_level": "F16",
    }
