"""Writes of children on a real API server: they never change an object that has replaced ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import load_kube_config

from llmendpoint_common.contracts.cluster import LLMENDPOINT, FaultReason
from llmendpoint_operator.cluster.client import ApiServer
from llmendpoint_operator.cluster.faults import classify
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.kube.owner import Owner
from support.api_server.manifests import endpoint


@pytest.fixture
async def objects(control_plane: Any) -> AsyncIterator[Objects]:
    """The operator's client, with the operator's rights."""
    configuration = Configuration()
    await load_kube_config(config_file=str(control_plane.operator), client_configuration=configuration)
    server = ApiServer(configuration)
    yield Objects(server)
    await server.close()


def ours(api: Any) -> dict[str, Any]:
    owner = Owner("LLMEndpoint", api.namespace, "assistant", "0f0f0f0f-0000-0000-0000-000000000000")
    return {**owner.child("ConfigMap", "assistant", "config"), "data": {"models.json": "ours"}}


def theirs(api: Any) -> dict[str, Any]:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "assistant"},
        "data": {"models.json": "theirs"},
    }
    return dict(api.apply(body))


async def test_an_object_that_exists_is_not_created(api: Any, objects: Objects) -> None:
    before = theirs(api)
    with pytest.raises(ApiException) as refused:
        await objects.create(ours(api))
    assert refused.value.status == 409
    assert api.get("ConfigMap", "assistant")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_an_object_that_replaced_ours_between_two_requests_is_not_changed(api: Any, objects: Objects) -> None:
    uid = (await objects.create(ours(api)))["metadata"]["uid"]
    api.delete("ConfigMap", "assistant")
    before = theirs(api)
    with pytest.raises(ApiException) as refused:
        await objects.apply(ours(api), uid)
    assert classify(refused.value, ChildKey("ConfigMap", "assistant")).reason is FaultReason.CONFLICT
    await objects.delete("ConfigMap", api.namespace, "assistant", uid)
    assert api.get("ConfigMap", "assistant")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_an_object_that_is_gone_is_not_made_again_by_a_change(api: Any, objects: Objects) -> None:
    uid = (await objects.create(ours(api)))["metadata"]["uid"]
    api.delete("ConfigMap", "assistant")
    with pytest.raises(ApiException) as refused:
        await objects.apply(ours(api), uid)
    assert refused.value.status == 409
    assert api.get("ConfigMap", "assistant") is None


async def test_our_own_object_is_changed(api: Any, objects: Objects) -> None:
    uid = (await objects.create(ours(api)))["metadata"]["uid"]
    changed = {**ours(api), "data": {"models.json": "changed"}}
    assert (await objects.apply(changed, uid))["data"] == {"models.json": "changed"}


async def test_the_status_of_a_resource_is_not_written_to_its_successor(api: Any, objects: Objects) -> None:
    before = api.apply(endpoint("assistant"))
    api.delete(LLMENDPOINT, "assistant")
    after = api.apply(endpoint("assistant"))
    with pytest.raises(ApiException) as refused:
        await objects.apply_status(before, {"readyReplicas": 7})
    assert refused.value.status == 409
    assert "observedGeneration" not in api.get(LLMENDPOINT, "assistant")["status"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
