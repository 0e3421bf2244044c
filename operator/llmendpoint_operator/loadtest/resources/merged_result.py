"""The ConfigMap with the merged result of a run with several pods. The operator writes it when the run has ended."""

from __future__ import annotations

import msgspec

from llmendpoint_common.contracts.loadrun import RESULT_KEY, Summary
from llmendpoint_operator.kube.owner import Manifest, Owner


def merged_result_name(owner: Owner) -> str:
    """Return the name of the ConfigMap."""
    return f"{owner.name}-result"


def merged_result(owner: Owner, summary: Summary) -> Manifest:
    """Return the ConfigMap."""
    text = msgspec.json.encode(summary).decode()
    return {**owner.child("ConfigMap", merged_result_name(owner), "merged-result"), "data": {RESULT_KEY: text}}
