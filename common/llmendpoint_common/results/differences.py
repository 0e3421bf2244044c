"""Sentences about what is not the same in a run and in its baseline, so that a comparison is not misread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from llmendpoint_common.contracts.loadrun import Environment, RunDocument, Summary

#: Sections of the run document that change what is measured. The objectives and the address of the server do not.
_SECTIONS = ("load", "questions", "synthetic", "trace", "request")


def differences(document: RunDocument, environment: Environment, baseline: Summary) -> Iterator[str]:
    """Yield a sentence for each difference. What one of the runs does not know is not compared."""
    if document.model != baseline.model:
        yield f"the baseline ran another model ({baseline.model})"
    if document.target.api != baseline.api:
        yield f"the baseline used another API ({baseline.api})"
    before = baseline.environment
    for name, mine, theirs in (
        ("model digest", environment.model_digest, before.model_digest),
        ("GPU", environment.gpu, before.gpu),
        ("server version", environment.server, before.server),
    ):
        if mine and theirs and mine != theirs:
            yield f"the baseline had another {name} ({theirs})"
    changed = sorted(_changed(as_json(document), baseline.run or {}))
    if baseline.run and changed:
        yield f"the baseline had other settings ({', '.join(changed[:8])}{', …' if len(changed) > 8 else ''})"


def has_same_load(document: RunDocument, baseline: Summary) -> bool:
    """Return whether both runs had the same load, so that their throughputs can be compared."""
    now, before = as_json(document), baseline.run or {}
    return all(now.get(section) == before.get(section) for section in ("load", "trace"))


def as_json(document: RunDocument) -> dict[str, Any]:
    """Return a document as it is read from JSON."""
    return dict(msgspec.json.decode(msgspec.json.encode(document)))


def _changed(now: dict[str, Any], before: dict[str, object]) -> Iterator[str]:
    for section in _SECTIONS:
        mine, theirs = now.get(section), before.get(section)
        if not isinstance(mine, dict) or not isinstance(theirs, dict):
            if mine != theirs:
                yield section
            continue
        yield from (f"{section}.{name}" for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
