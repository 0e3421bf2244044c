"""Models of the simulator, and their state: present or in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

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


class Store:
    """Models by canonical name, with their slots and the time at which they leave memory."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self.present: dict[str, str] = {}
        self._loaded: dict[str, datetime] = {}
        self.slots: dict[str, Slots] = {}
        self._names: dict[str, str] = {}
        self._systems: dict[str, str] = {}

    def canonical(self, name: str) -> str:
        """Return the name under which a model is listed, or the canonical form of a name that is not present.

        As in Ollama, names are compared without regard to case, and the default host and namespace may be left out.
        """
        return self._names.get(model_key(name)) or canonical_name(name)

    def add(self, name: str, digest: str = "", system: str = "") -> None:
        """Add a model with an optional system prompt. The default digest is a hash of its name."""
        canonical = self.canonical(name)
        self._names[model_key(name)] = canonical
        self._systems[canonical] = system
        self.present[canonical] = digest or hashlib.sha256(canonical.encode()).hexdigest()
        self.slots.setdefault(canonical, Slots())

    def remove(self, name: str) -> bool:
        """Remove a model. Returns False if it was not present."""
        canonical = self.canonical(name)
        self._names.pop(model_key(name), None)
        self.unload(canonical)
        return self.present.pop(canonical, None) is not None

    def is_loaded(self, name: str) -> bool:
        """Return whether a model is in memory."""
        return self._ends(self._runner(name)) > self._now()

    def load(self, name: str, keep_alive: timedelta) -> None:
        """Keep a model in memory for `keep_alive` from now."""
        self._loaded[self._runner(name)] = self._now() + keep_alive

    def _ends(self, name: str) -> datetime:
        return self._loaded.get(name, datetime.min.replace(tzinfo=UTC))

    def _runner(self, name: str) -> str:
        """Return the name under which `/api/ps` lists a model.

        As in Ollama, names of the same model share its memory, and it is listed under the name that loaded it.
        """
        digest = self.present.get(name, name)
        same = (one for one in self._loaded if self.present.get(one) == digest and self._ends(one) > self._now())
        return next(same, name)

    def unload(self, name: str) -> None:
        """Remove a model from memory."""
        self._loaded.pop(name, None)

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
                "name": name,
                "model": name,
                "size": _SIZE,
                "digest": self.present[name],
                "details": _details(),
                "expires_at": until.isoformat(),
                "size_vram": _SIZE,
                "context_length": _CONTEXT_LENGTH,
            }
            for name, until in sorted(self._loaded.items())
            if self.is_loaded(name) and name in self.present
        ]

    def description(self, name: str, *, embedding: bool) -> dict[str, Any]:
        """Return a model as `/api/show` describes it."""
        source = f"/models/blobs/sha256-{self.present[name]}"
        system = {"system": self._systems[name]} if self._systems.get(name) else {}
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


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "1M",
        "quantization_level": "F16",
    }
