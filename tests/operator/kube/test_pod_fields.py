"""Fields of a pod that a spec sets."""

from __future__ import annotations

from llmendpoint_common.api.fields import LocalReference, Resources, Toleration
from llmendpoint_operator.kube.pod_fields import placement, pull_secrets, resources


def test_given_resources_override_the_defaults() -> None:
    given = Resources(requests={"cpu": "1"}, limits={"memory": "2Gi"})
    merged = resources(given, {"cpu": "100m", "memory": "96Mi"}, {"memory": "512Mi"})
    assert merged == {"requests": {"cpu": "1", "memory": "96Mi"}, "limits": {"memory": "2Gi"}}
    assert resources(Resources(), {"cpu": "1"}) == {"requests": {"cpu": "1"}}


def test_empty_fields_are_left_out() -> None:
    assert placement({}, [], None) == {}
    assert pull_secrets([], ()) == {}
    made = placement({"a": "b"}, [Toleration(key="k", operator="Exists")], "high")
    assert made == {
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "priorityClassName": "high",
    }


def test_each_pull_secret_is_named_once() -> None:
    made = pull_secrets([LocalReference(name="a"), LocalReference(name="b")], ("b", "c"))
    assert [secret["name"] for secret in made["imagePullSecrets"]] == ["a", "b", "c"]
