"""The StatefulSet of an endpoint, and its pod template."""

from __future__ import annotations

from typing import Any

import pytest

from support.documents.restricted import assert_restricted
from support.in_memory.endpoints import children, pod


def statefulset(**spec: Any) -> dict[str, Any]:
    return dict(children(**spec)["StatefulSet/assistant"]["spec"])


@pytest.mark.parametrize(
    "spec", [pod(), pod(gpu={"count": 0}), pod(metering={"mode": "Exporter"})], ids=["gpu", "cpu", "exporter"]
)
def test_pods_meet_the_restricted_standard(spec: dict[str, Any]) -> None:
    assert_restricted(spec)


def test_replicas_are_replaced_in_their_place() -> None:
    assert statefulset()["podManagementPolicy"] == "Parallel"
    assert (statefulset()["replicas"], statefulset(replicas=0)["replicas"]) == (1, 0)


def test_what_becomes_of_the_claims_is_the_cluster_s_work() -> None:
    policy = {"whenDeleted": "Delete", "whenScaled": "Retain"}
    made = statefulset(storage={"retentionPolicy": policy})
    assert made["persistentVolumeClaimRetentionPolicy"] == policy


def test_labels_of_the_spec_do_not_replace_the_selector_s() -> None:
    template = statefulset(pod={"labels": {"llmendpoint.dev/endpoint": "other", "team": "a"}})["template"]
    labels = template["metadata"]["labels"]
    assert labels["team"] == "a"
    assert statefulset()["selector"]["matchLabels"].items() <= labels.items()


def test_kubectl_uses_the_container_of_the_spec_and_otherwise_the_sidecar() -> None:
    name = "kubectl.kubernetes.io/default-container"
    assert statefulset()["template"]["metadata"]["annotations"] == {name: "metering"}
    chosen = {name: "ollama", "team": "a"}
    assert statefulset(pod={"annotations": chosen})["template"]["metadata"]["annotations"] == chosen


def test_pull_secrets_of_the_spec_and_of_the_operator_are_each_used_once() -> None:
    assert pod()["imagePullSecrets"] == [{"name": "regcred"}]
    given = pod(pod={"imagePullSecrets": [{"name": "mine"}, {"name": "regcred"}]})
    assert given["imagePullSecrets"] == [{"name": "mine"}, {"name": "regcred"}]


def test_argo_cd_does_not_take_what_has_no_owner_for_its_own() -> None:
    """With label tracking, Argo CD prunes objects of the application that this label names, except owned ones.

    The claims have no owner. They get the labels of their template, and those of the StatefulSet's selector.
    """
    made = statefulset()
    labels = [template["metadata"].get("labels", {}) for template in made["volumeClaimTemplates"]]
    assert all("app.kubernetes.io/instance" not in found for found in [*labels, made["selector"]["matchLabels"]])
    assert all(child["metadata"]["ownerReferences"] for child in children().values())
