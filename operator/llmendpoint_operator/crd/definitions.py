"""The CustomResourceDefinitions, built from the models; `make generate` writes them into manifests and chart."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from llmendpoint_common.api import endpoint, loadtest
from llmendpoint_common.contracts.cluster import GROUP, VERSION
from llmendpoint_operator.crd.schema import structural_schema


def custom_resource_definitions() -> list[dict[str, Any]]:
    """Return the CRDs of this operator."""
    return [_llmendpoint(), _loadtest()]


def _llmendpoint() -> dict[str, Any]:
    columns = [
        _column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether the model answers."),
        _column("Model", ".spec.models[0].name", "The first model."),
        _column("Replicas", ".status.readyReplicas", "Replicas that answer.", kind="integer"),
        _column("GPU", ".status.gpu", "GPUs of a replica."),
        _column("URL", ".status.url", "Where clients connect."),
        _column("Age", ".metadata.creationTimestamp", "Since when.", kind="date"),
        _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why it is ready or not.", wide=True),
        _column("VRAM", ".status.models[0].vramBytes", "GPU memory of the first model.", kind="integer", wide=True),
    ]
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return _definition("LLMEndpoint", "llm", endpoint.LLMEndpoint, columns, {"status": {}, "scale": scale})


def _loadtest() -> dict[str, Any]:
    columns = [
        _column("Verdict", ".status.verdict", "Passed, Failed, Invalid, Error or None."),
        _column("Reason", '.status.conditions[?(@.type=="Passed")].reason', "Why."),
        _column("Target", ".status.target", "What was driven."),
        _column("Req/s", ".status.summary.requestsPerSecond", "Answered requests a second."),
        _column("TTFT-p95", ".status.summary.ttft.p95", "95th percentile of the time to first token."),
        _column("Age", ".metadata.creationTimestamp", "Since when.", kind="date"),
    ]
    return _definition("LoadTest", "lt", loadtest.LoadTest, columns, {"status": {}})


def _column(name: str, path: str, text: str, kind: str = "string", *, wide: bool = False) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": text}
    return {**column, "priority": 1} if wide else column


def _definition(
    kind: str, short: str, model: type[BaseModel], columns: list[dict[str, Any]], subresources: dict[str, Any]
) -> dict[str, Any]:
    singular = kind.lower()
    schema = structural_schema(model)
    # apiVersion, kind and metadata are the API server's own.
    schema["properties"]["metadata"] = {"type": "object"}
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": subresources,
        "additionalPrinterColumns": columns,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{GROUP}", "labels": {"app.kubernetes.io/part-of": "llmendpoint"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "singular": singular,
                "plural": f"{singular}s",
                "shortNames": [short],
            },
            "versions": [version],
        },
    }
