"""Aliases of models: the experimental routes of Ollama 0.17.4 (server/routes_aliases.go), in memory."""

from __future__ import annotations

from typing import Any

import msgspec

from llmendpoint_common.contracts.ollama import canonical_name, model_key
from llmendpoint_simulator.requests import RequestError, is_valid_name
from llmendpoint_simulator.store import Store


class Alias(msgspec.Struct, frozen=True, omit_defaults=True):
    """A name that stands for a model, or with `prefix_matching` the begin of such names."""

    alias: str
    target: str
    prefix_matching: bool = False


class Aliases:
    """Aliases, by the key of their name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._aliases: dict[str, Alias] = {}

    def list(self) -> dict[str, Any]:
        """Return the answer of `GET /api/experimental/aliases`. They are sorted by name."""
        return {"aliases": sorted(self._aliases.values(), key=lambda alias: alias.alias)}

    def set(self, body: dict[str, Any]) -> Alias:
        """Add or replace an alias, and return it. Raises RequestError with Ollama's sentences."""
        name, target = str(body.get("alias") or "").strip(), str(body.get("target") or "").strip()
        is_prefix = bool(body.get("prefix_matching"))
        if not name or not target:
            raise RequestError(400, "alias and target are required")
        if not is_valid_name(target):
            raise RequestError(400, f'target "{target}" is invalid')
        if not is_prefix:
            self._check(name, target)
        alias = Alias(name if is_prefix else _shown(name), _shown(target), is_prefix)
        self._aliases[model_key(name) if not is_prefix else name] = alias
        return alias

    def remove(self, body: dict[str, Any]) -> dict[str, Any]:
        """Remove an alias. Raises RequestError if it is not there."""
        name = str(body.get("alias") or "").strip()
        if not name:
            raise RequestError(400, "alias is required")
        if self._aliases.pop(model_key(name), None) is None and self._aliases.pop(name, None) is None:
            raise RequestError(404, f'alias "{name}" not found')
        return {"deleted": True}

    def target_of(self, name: str) -> str:
        """Return the name of the model that a name stands for, which is the name itself if it is not an alias."""
        if not self._aliases:
            return name
        exact = self._aliases.get(model_key(name))
        if exact is not None:
            return self.target_of(exact.target)
        prefixes = (alias for alias in self._aliases.values() if alias.prefix_matching)
        found = max((a for a in prefixes if name.startswith(a.alias)), key=lambda a: len(a.alias), default=None)
        return name if found is None else found.target

    def _check(self, name: str, target: str) -> None:
        if not is_valid_name(name):
            raise RequestError(400, f'alias "{name}" is invalid')
        if model_key(name) == model_key(target):
            raise RequestError(400, "alias cannot point to itself")
        if self._store.canonical(name) in self._store.present:
            raise RequestError(400, f'alias "{name}" conflicts with existing model')
        following, seen = target, {model_key(name)}
        while (alias := self._aliases.get(model_key(following))) is not None:
            if model_key(alias.target) in seen:
                raise RequestError(400, "alias cycle detected")
            seen.add(model_key(alias.target))
            following = alias.target


def _shown(name: str) -> str:
    """Return a name as Ollama shows it in aliases: without defaults, and without the tag `latest`."""
    return canonical_name(name).removesuffix(":latest")
