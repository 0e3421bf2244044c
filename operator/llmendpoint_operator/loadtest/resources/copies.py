"""Copies of what a run reads besides its questions: its trace and the result of its baseline.

They are copies, so that later changes do not affect the run, and the run shows what it asked. The components of their
labels are those in the table of dependencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmendpoint_common.contracts.loadrun import RESULT_KEY
from llmendpoint_operator.kube.owner import Manifest, Owner


@dataclass(frozen=True)
class Sources:
    """What a run copies: ConfigMaps with questions, the ConfigMap with the trace, and the summary of the baseline."""

    questions: Sequence[Manifest] = ()
    trace: Manifest | None = None
    baseline: str | None = None


def trace_name(owner: Owner) -> str:
    """Return the name of the ConfigMap with the trace."""
    return f"{owner.name}-trace"


def trace(owner: Owner, source: Manifest, key: str) -> Manifest:
    """Return the ConfigMap with the trace, which has only this key of the source."""
    parts = {part: {key: source[part][key]} for part in ("data", "binaryData") if key in (source.get(part) or {})}
    return {**owner.child("ConfigMap", trace_name(owner), "trace"), **parts}


def baseline_name(owner: Owner) -> str:
    """Return the name of the ConfigMap with the result of the baseline."""
    return f"{owner.name}-baseline"


def baseline(owner: Owner, summary: str) -> Manifest:
    """Return the ConfigMap with the result of the baseline."""
    return {**owner.child("ConfigMap", baseline_name(owner), "baseline"), "data": {RESULT_KEY: summary}}
