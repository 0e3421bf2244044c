"""The questions of a run: a snapshot in the run's own namespace, so that a run shows what it asked."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_operator.kube.owner import Manifest, Owner


def snapshot(owner: Owner, sources: Sequence[Manifest]) -> list[Manifest]:
    """Return one ConfigMap for each source, with its files and nothing else of it."""
    return [
        {
            **owner.child("ConfigMap", f"{owner.name}-questions-{index}", "questions"),
            "data": {
                name: text for name, text in (source.get("data") or {}).items() if name.endswith((".yaml", ".yml"))
            },
        }
        for index, source in enumerate(sources)
    ]
