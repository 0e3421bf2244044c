"""Scheduling of an endpoint's pods."""

from __future__ import annotations

from support.endpoints import pod


def test_products_and_runtime_class() -> None:
    spec = pod(gpu={"runtimeClassName": "amd", "products": ["X", "Y"]})
    assert spec["runtimeClassName"] == "amd"
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "nvidia.com/gpu.product", "operator": "In", "values": ["X", "Y"]}]


def test_placement_comes_from_the_spec() -> None:
    toleration = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    given = {"nodeSelector": {"pool": "gpu"}, "tolerations": [toleration], "priorityClassName": "high"}
    assert given.items() <= pod(pod=given).items()


def test_empty_fields_are_left_out() -> None:
    fields = {"affinity", "runtimeClassName", "nodeSelector", "tolerations", "priorityClassName"}
    assert not fields & pod().keys()
