"""A second version of LLMEndpoint can be added without a webhook, as docs/upgrade.md describes it.

The test uses a copy of the CustomResourceDefinition in another group, so that other tests keep theirs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from llmendpoint_operator.crd.definitions import custom_resource_definitions
from support.api_server.manifests import endpoint
from support.waiting import wait_until

GROUP = "versions.example"
NAME = f"endpoints.{GROUP}"
STORAGE = {"size": "80Gi", "storageClassName": "fast", "retentionPolicy": {"whenDeleted": "Delete"}}
SPEC = {"replicas": 3, "storage": STORAGE, "ollama": {"numParallel": 4, "env": [{"name": "A", "value": "b"}]}}
APPLY = [("fieldManager", "test"), ("force", "true")]


@pytest.fixture
def definition(api: Any) -> Iterator[dict[str, Any]]:
    """The definition of LLMEndpoint with another group and names."""
    body: dict[str, Any] = copy.deepcopy(custom_resource_definitions()[0])
    body["metadata"] = {"name": NAME}
    body["spec"] |= {"group": GROUP, "names": {"kind": "Endpoint", "plural": "endpoints", "singular": "endpoint"}}
    yield body
    api.client.delete("CustomResourceDefinition", "", NAME)


def path(api: Any, version: str) -> str:
    return f"/apis/{GROUP}/{version}/namespaces/{api.namespace}/endpoints/assistant"


def write(api: Any, version: str, **spec: Any) -> dict[str, Any]:
    made = {**endpoint("assistant", **spec), "apiVersion": f"{GROUP}/{version}", "kind": "Endpoint"}
    return dict(
        json.loads(api.client.request("PATCH", path(api, version), APPLY, made, "application/apply-patch+yaml"))
    )


def read(api: Any, version: str) -> dict[str, Any]:
    return dict(json.loads(api.client.request("GET", path(api, version))))


def is_served(api: Any, version: str) -> bool:
    try:
        api.client.request("GET", path(api, version).removesuffix("/assistant"))
    except ApiException:
        return False
    return True


def stored_versions(api: Any) -> list[str]:
    return list(api.client.get("CustomResourceDefinition", "", NAME)["status"]["storedVersions"])


def test_the_schema_is_structural_and_needs_no_webhook(api: Any, definition: dict[str, Any]) -> None:
    api.client.apply(definition)
    wait_until(partial(is_served, api, "v1alpha1"))
    live = api.client.get("CustomResourceDefinition", "", NAME)
    conditions = {row["type"]: row["status"] for row in live["status"]["conditions"]}
    assert conditions.get("NonStructuralSchema", "False") == "False"
    assert live["spec"]["conversion"] == {"strategy": "None"}


def test_objects_are_the_same_in_a_version_that_is_added_and_the_old_one_can_be_removed(
    api: Any, definition: dict[str, Any]
) -> None:
    api.client.apply(definition)
    wait_until(partial(is_served, api, "v1alpha1"))
    before = write(api, "v1alpha1", **SPEC)
    # 1. The new version is served and stored, the old one is served.
    (alpha,) = definition["spec"]["versions"]
    beta = {**copy.deepcopy(alpha), "name": "v1beta1"}
    definition["spec"]["versions"] = [{**alpha, "storage": False}, beta]
    api.client.apply(definition)
    wait_until(partial(is_served, api, "v1beta1"))
    assert stored_versions(api) == ["v1alpha1", "v1beta1"]
    assert read(api, "v1beta1")["spec"] == before["spec"]
    # Both versions are views of one object. Rules compare the old value, whichever version wrote it.
    assert write(api, "v1beta1", **{**SPEC, "replicas": 4})["metadata"]["uid"] == before["metadata"]["uid"]
    assert read(api, "v1alpha1")["spec"]["replicas"] == 4
    with pytest.raises(ApiException, match="may only grow"):
        write(api, "v1beta1", **{**SPEC, "storage": {**STORAGE, "size": "70Gi"}})
    # 2. Every object has been written since, so none is stored in the old version any more.
    api.client.patch_status("CustomResourceDefinition", NAME, {"status": {"storedVersions": ["v1beta1"]}})
    assert stored_versions(api) == ["v1beta1"]
    # 3. The old version is removed.
    definition["spec"]["versions"] = [beta]
    api.client.apply(definition)
    wait_until(lambda: not is_served(api, "v1alpha1"))
    assert read(api, "v1beta1")["metadata"]["uid"] == before["metadata"]["uid"]
