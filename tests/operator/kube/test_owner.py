"""The metadata that a child gets from its owner."""

from __future__ import annotations

import pytest

from llmendpoint_operator.kube.owner import Owner, is_controlled_by, owner_of

OWNER = Owner("LLMEndpoint", "ns", "assistant", "uid-1")


def test_a_child_belongs_to_its_owner() -> None:
    child = OWNER.child("StatefulSet", "assistant", "endpoint")
    assert (child["apiVersion"], child["kind"]) == ("apps/v1", "StatefulSet")
    assert child["metadata"]["namespace"] == "ns"
    assert is_controlled_by(child, OWNER)
    assert "annotations" not in child["metadata"]


@pytest.mark.parametrize(
    ("kind", "label"), [("LLMEndpoint", "llmendpoint.dev/endpoint"), ("LoadTest", "llmendpoint.dev/loadtest")]
)
def test_labels_by_which_the_operator_finds_children_win(kind: str, label: str) -> None:
    owner = Owner(kind, "ns", "assistant", "uid-1")
    labels = owner.child("ConfigMap", "c", "config", labels={label: "other", "team": "a"})["metadata"]["labels"]
    assert labels[label] == "assistant"
    assert labels["app.kubernetes.io/component"] == "config"
    assert labels["team"] == "a"


@pytest.mark.parametrize("kind", ["LLMEndpoint", "LoadTest"])
def test_labels_of_a_spec_cannot_make_a_pod_somebody_elses(kind: str) -> None:
    given = {
        "llmendpoint.dev/endpoint": "other",
        "llmendpoint.dev/loadtest": "other",
        "llmendpoint.dev/questions": "true",
        "app.kubernetes.io/name": "x",
        "app.kubernetes.io/instance": "x",
        "app.kubernetes.io/component": "x",
        "app.kubernetes.io/managed-by": "x",
        "app.kubernetes.io/part-of": "suite",
        "example.com/team": "a",
    }
    owner = Owner(kind, "ns", "assistant", "uid-1")
    assert owner.pod_labels("endpoint", given) == {
        **owner.labels("endpoint"),
        "app.kubernetes.io/part-of": "suite",
        "example.com/team": "a",
    }


def test_an_object_of_an_earlier_owner_with_the_same_name_is_not_a_child() -> None:
    child = OWNER.child("ConfigMap", "c", "config")
    assert not is_controlled_by(child, Owner("LLMEndpoint", "ns", "assistant", "uid-2"))
    assert not is_controlled_by({"metadata": {}}, OWNER)
    child["metadata"]["ownerReferences"][0]["controller"] = False
    assert not is_controlled_by(child, OWNER)


def test_the_owner_of_an_object_of_the_api() -> None:
    manifest = {"kind": "LLMEndpoint", "metadata": {"namespace": "ns", "name": "assistant", "uid": "uid-1"}}
    assert owner_of(manifest) == OWNER
