"""Manifests that API tests share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

API_VERSION = "llmendpoint.dev/v1alpha1"


def endpoint(name: str, **spec: Any) -> dict[str, Any]:
    """Return an LLMEndpoint; a field of None is left out."""
    return _object("LLMEndpoint", name, {"models": [{"name": "tiny:latest"}], **spec})


def loadtest(name: str, **spec: Any) -> dict[str, Any]:
    """Return a LoadTest; a field of None is left out."""
    return _object("LoadTest", name, {"endpointRef": {"name": "assistant"}, **spec})


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    given = {field: value for field, value in spec.items() if value is not None}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": given}


def wait_until(check: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Return what `check` returns once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = check()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s")
