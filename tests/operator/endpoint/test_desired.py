"""The list of an endpoint's children, its order, and their common metadata."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from llmendpoint_operator.cluster.kinds import children_of
from llmendpoint_operator.settings import Actuator
from support.in_memory.endpoints import SETTINGS, children


def test_the_children_of_the_smallest_endpoint() -> None:
    # In apply order: objects that pods require come before the pods.
    assert list(children()) == [
        "ServiceAccount/assistant", "ConfigMap/assistant", "Service/assistant-pods", "Service/assistant",
        "NetworkPolicy/assistant", "StatefulSet/assistant", "ServiceMonitor/assistant",
    ]  # fmt: skip
    assert "ServiceMonitor/assistant" not in children(monitoring={"mode": "None"})


@pytest.mark.parametrize("name", children())
def test_every_child_is_owned_and_labeled(name: str) -> None:
    metadata = children()[name]["metadata"]
    (reference,) = metadata["ownerReferences"]
    assert reference["controller"]
    assert reference["uid"] == "uid-1"
    assert metadata["labels"]["llmendpoint.dev/endpoint"] == "assistant"
    assert metadata["labels"]["app.kubernetes.io/managed-by"] == "llmendpoint"


def test_every_kind_of_child_is_in_the_table() -> None:
    spec = {
        "ingress": {"host": "a.example"},
        "httpRoute": {"parentRefs": [{"name": "public"}]},
        "autoscaling": {"maxReplicas": 2},
        "disruptionBudget": {"minAvailable": 1},
    }
    settings = [replace(SETTINGS, actuator=actuator) for actuator in Actuator]
    made = [child for each in settings for child in children(each, **spec).values()]
    made += children(monitoring={"mode": "PodMonitor"}).values()
    assert {child["kind"] for child in made} == {kind.name for kind in children_of(LLMENDPOINT)}
