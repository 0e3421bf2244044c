"""Ollama's port and its canonical form of model names."""

from __future__ import annotations

OLLAMA_PORT = 11434


def canonical_name(name: str) -> str:
    """Return a model name with its tag, as `/api/tags` lists it: `tiny` becomes `tiny:latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
