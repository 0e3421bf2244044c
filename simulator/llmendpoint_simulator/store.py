"""Models of the simulator, and their state: present or in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from llmendpoint_common.contracts.ollama import canonical_name, model_key
from llmendpoint_simulator.slots import Slots

_SIZE = 1_000_000
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
FOREVER = timedelta(days=36500)


class Content(NamedTuple):
    """What a manifest of Ollama refers to. Models with the same weights share memory."""

    digest: str
    weights: str
    system: str = ""


class _Runner(NamedTuple):
    """Weights in memory: the model that loaded them, and when they leave memory."""

    name: str
    digest: str
    until: datetime


class Store:
    """Models by canonical name, with their slots, and the weights in memory."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        #: The digests of the models that are present, by name.
        self.present: dict[str, str] = {}
        self._contents: dict[str, Content] = {}
        self._loaded: dict[str, _Runner] = {}
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
        self.slots.setdefault(canonical, Slots())

    def remove(self, name: str) -> bool:
        """Remove a model from the list. As in Ollama, it stays in memory. Returns False if it was not present."""
        canonical = self.canonical(name)
        self._names.pop(model_key(name), None)
        return self.present.pop(canonical, None) is not None

    def is_loaded(self, name: str) -> bool:
        """Return whether a model is in memory."""
        runner = self._loaded.get(self._weights(name))
        return runner is not None and runner.until > self._now()

    def load(self, name: str, keep_alive: timedelta) -> None:
        """Keep a model in memory for `keep_alive` from now. It is listed under the name that loaded it."""
        weights = self._weights(name)
        until = self._now() + keep_alive
        new = _Runner(name, self.present.get(name, ""), until)
        self._loaded[weights] = self._loaded[weights]._replace(until=until) if self.is_loaded(name) else new

    def unload(self, name: str) -> None:
        """Remove the weights of a model from memory."""
        self._loaded.pop(self._weights(name), None)

    def _weights(self, name: str) -> str:
        digest = self.present.get(name)
        return name if digest is None else self._contents[digest].weights

    def listing(self) -> list[dict[str, Any]]:
        """Return the models of `/api/tags`."""
        return [
            {
                "name": name,
                "model": name,
                "modified_at": self._now().isoformat(),
                "size": _SIZE,
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
                "size": _SIZE,
                "digest": runner.digest,
                "details": _details(),
                "expires_at": runner.until.isoformat(),
                "size_vram": _SIZE,
                "context_length": _CONTEXT_LENGTH,
            }
            for runner in sorted(self._loaded.values())
            if runner.until > self._now()
        ]

    def description(self, name: str, *, embedding: bool) -> dict[str, Any]:
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
            "capabilities": ["embedding"] if embedding else ["completion", "tools", "thinking"],
            "modified_at": self._now().isoformat(),
        }


def content_of(text: str) -> Content:
    """Return the content of a model that a registry has. Another text is another content."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Content(digest, digest)


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "1M",
        "quantization_level": "F16",
    }
