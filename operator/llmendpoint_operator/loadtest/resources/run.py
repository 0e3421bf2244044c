"""The ConfigMap with the run document, which the load generator reads with `--run`."""

from __future__ import annotations

from llmendpoint_common.contracts.loadrun import RUN_KEY, RunDocument, write_run_document
from llmendpoint_operator.kube.owner import Manifest, Owner


def run_name(owner: Owner) -> str:
    """Return the name of the ConfigMap."""
    return f"{owner.name}-run"


def run_config_map(owner: Owner, document: RunDocument) -> Manifest:
    """Return the ConfigMap."""
    return {
        **owner.child("ConfigMap", run_name(owner), "run"),
        "data": {RUN_KEY: write_run_document(document)},
    }
