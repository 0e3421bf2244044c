"""ConfigMaps with the questions of a run: copies in its own namespace, so that later changes do not affect it."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_operator.kube.owner import Manifest, Owner


def snapshot(owner: Owner, sources: Sequence[Manifest]) -> list[Manifest]:
    """Return one ConfigMap per source, with the question files of the source and none of its other entries."""
    return [
        {
            **owner.child("ConfigMap", f"{owner.name}-questions-{index}", "questions"),
            "data": {
                name: text for name, text in (source.get("data") or {}).items() if name.endswith((".yaml", ".yml"))
            },
        }
        for index, source in enumerate(sources)
    ]
