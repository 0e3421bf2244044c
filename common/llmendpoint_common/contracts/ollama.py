"""Ollama's port, and model names as Ollama parses and compares them (types/model/name.go)."""

from __future__ import annotations

from typing import NamedTuple

OLLAMA_PORT = 11434

_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
#: Ollama's mark for a part that is missing although a separator announces it. It makes a name invalid.
_MISSING = "!MISSING!"


class ModelName(NamedTuple):
    """The parts of a model's name. A name that Ollama would not accept is parsed as well, and equals no valid name.

    The scheme is left out, because Ollama uses it only for pulls and pushes.
    """

    host: str
    namespace: str
    model: str
    tag: str


def parse_name(name: str) -> ModelName:
    """Return the parts of a name, with Ollama's defaults for missing ones."""
    rest, tag = name, ""
    if name.rfind(":") > name.rfind("/"):
        rest, tag = _cut(name, ":")
    if "/" not in rest:
        return ModelName(_HOST, _NAMESPACE, rest, tag or _TAG)
    rest, model = _cut(rest, "/")
    if "/" not in rest:
        return ModelName(_HOST, rest, model, tag or _TAG)
    rest, namespace = _cut(rest, "/")
    _, separator, host = rest.partition("://")
    return ModelName((host if separator else rest) or _HOST, namespace, model, tag or _TAG)


def canonical_name(name: str) -> str:
    """Return a model name as `/api/tags` lists it: without defaults, but with its tag. The case is unchanged.

    `tiny`, `library/tiny` and `https://registry.ollama.ai/library/tiny:latest` become `tiny:latest`.
    """
    host, namespace, model, tag = parse_name(name)
    if fold(host) != _HOST:
        return f"{host}/{namespace}/{model}:{tag}"
    if fold(namespace) != _NAMESPACE:
        return f"{namespace}/{model}:{tag}"
    return f"{model}:{tag}"


def model_key(name: str) -> str:
    """Return a key that is equal for all names with which Ollama finds the same model, such as `TINY` and `tiny`."""
    return fold(canonical_name(name))


def fold(text: str) -> str:
    """Return a text for a comparison without regard to case, as Go's strings.EqualFold does it for ASCII names.

    Two letters beyond ASCII equal an ASCII letter: the Kelvin sign, and the long s, which `lower` does not change.
    """
    return text.lower().replace("\u017f", "s")


def _cut(text: str, separator: str) -> tuple[str, str]:
    before, _, after = text.rpartition(separator)
    return before or _MISSING, after or _MISSING
