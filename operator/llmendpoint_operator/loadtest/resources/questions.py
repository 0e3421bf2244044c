"""The ConfigMaps with the questions of a run. They are copies, so that later changes do not affect the run."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_operator.kube.owner import Manifest, Owner


def snapshot(owner: Owner, sources: Sequence[Manifest]) -> list[Manifest]:
    """Return one ConfigMap per source, with only the question files (`.yaml`, `.yml`) of the source."""
    return [
        {
            **owner.child("ConfigMap", f"{owner.name}-questions-{index}", "questions"),
            "data": {
                name: text for name, text in (source.get("data") or {}).items() if name.endswith((".yaml", ".yml"))
            },
        }
        for index, source in enumerate(sources)
    ]
