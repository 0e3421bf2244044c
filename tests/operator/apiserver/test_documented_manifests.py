"""Manifests in the documentation, against a real API server: it accepts them, with their defaults and rules."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from support.api_server.kubectl import Kubectl
from support.documents.documented import PAGES, Block, blocks_of

GROUP = "llmendpoint.dev/v1alpha1"
#: Kinds of other projects, which the API server of the tests does not have.
_FOREIGN = {
    "HTTPRoute", "BackendTrafficPolicy", "ClientTrafficPolicy", "BackendConfig", "Kustomization", "OCIRepository", "HelmRelease",
}  # fmt: skip
#: Fields that a part of a manifest leaves out, by kind.
_REST: dict[str, dict[str, Any]] = {
    "LLMEndpoint": {"models": [{"name": "llama3.2:3b"}]},
    "Ingress": {"defaultBackend": {"service": {"name": "assistant", "port": {"number": 11434}}}},
    "LoadTest": {"endpointRef": {"name": "assistant"}, "load": {"concurrency": 1, "duration": "1m"}},
}


def documents(block: Block) -> list[Any]:
    return [document for document in yaml.safe_load_all(block.text) if document]


def completed(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return whole manifests for a part of one, one for each kind that it can belong to."""
    if "kind" in document:
        kinds = [document["kind"]]
    elif "spec" in document or "metadata" in document:
        kinds = ["LLMEndpoint", "LoadTest"]
    elif "metering" in document:
        kinds, document = ["LLMEndpoint"], {"spec": document}
    else:
        return []  # tests/docs/test_snippets.py has these
    found = []
    for kind in kinds:
        whole = copy.deepcopy({"apiVersion": GROUP, "kind": kind, "metadata": {}, **document})
        whole["metadata"] = {"name": "assistant", **whole["metadata"]}
        whole["metadata"].pop("namespace", None)
        if kind in _REST:
            whole["spec"] = _with_rest(whole.get("spec") or {}, kind)
        found.append(whole)
    return found


def _with_rest(spec: dict[str, Any], kind: str) -> dict[str, Any]:
    rest = _REST[kind]
    if "target" in spec:
        rest = {name: value for name, value in rest.items() if name != "endpointRef"}
    if spec.keys() & {"scenario", "trace"}:
        rest = {name: value for name, value in rest.items() if name != "load"}
    return {**rest, **spec}


CASES = [
    pytest.param(document, id=f"{block.place}-{index}")
    for page in PAGES
    for block in blocks_of(page)
    if block.language == "yaml"
    for index, document in enumerate(documents(block))
    if isinstance(document, dict) and document.get("kind") not in _FOREIGN and completed(document)
]


@pytest.mark.parametrize("document", CASES)
def test_the_api_server_accepts_the_manifest(api: Any, kubectl: Kubectl, document: dict[str, Any]) -> None:
    done = [
        kubectl.run("apply", "--dry-run=server", "--filename=-", documents=[manifest])
        for manifest in completed(document)
    ]
    assert any(one.returncode == 0 for one in done), [one.stderr for one in done]
