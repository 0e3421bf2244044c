"""Scheduling of an endpoint's pods."""

from __future__ import annotations

import pytest

from support.in_memory.endpoints import pod

GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("gpu", "label"),
    [
        ({}, "nvidia.com/gpu.product"),
        ({"resource": "nvidia.com/mig-1g.10gb"}, "nvidia.com/gpu.product"),
        ({"resource": "amd.com/gpu"}, "amd.com/gpu.product-name"),
    ],
)
def test_products_are_an_affinity_on_the_label_of_the_vendor(gpu: dict[str, str], label: str) -> None:
    spec = pod(gpu={**gpu, "products": ["X", "Y"]})
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": label, "operator": "In", "values": ["X", "Y"]}]


def test_the_runtime_class_comes_from_the_spec() -> None:
    assert pod(gpu={"runtimeClassName": "nvidia"})["runtimeClassName"] == "nvidia"


@pytest.mark.parametrize(
    ("resource", "taint"),
    [
        ("nvidia.com/gpu", "nvidia.com/gpu"),
        ("nvidia.com/mig-1g.10gb", "nvidia.com/gpu"),
        ("amd.com/gpu", "amd.com/gpu"),
        ("gpu.intel.com/xe", "gpu.intel.com/xe"),
    ],
)
def test_pods_with_gpus_tolerate_the_usual_taint_of_their_nodes(resource: str, taint: str) -> None:
    assert pod(gpu={"resource": resource})["tolerations"] == [GPU_TAINT | {"key": taint}]


def test_the_usual_taint_is_tolerated_once() -> None:
    assert pod(pod={"tolerations": [GPU_TAINT]})["tolerations"] == [GPU_TAINT]


@pytest.mark.parametrize(
    "gpu", [{"count": 0}, {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]}]
)
def test_pods_without_an_extended_resource_tolerate_no_taint_by_themselves(gpu: dict[str, object]) -> None:
    assert "tolerations" not in pod(gpu=gpu)


def test_claims_are_those_of_the_pod_and_of_the_container_of_ollama() -> None:
    template = {"name": "gpu", "resourceClaimTemplateName": "one-gpu", "request": "first"}
    shared = {"name": "shared", "resourceClaimName": "one"}
    spec = pod(gpu={"resourceClaims": [template, shared]})
    assert spec["resourceClaims"] == [
        {"name": "gpu", "resourceClaimTemplateName": "one-gpu"},
        {"name": "shared", "resourceClaimName": "one"},
    ]
    (ollama,), (sidecar,) = spec["initContainers"], spec["containers"]
    assert ollama["resources"]["claims"] == [{"name": "gpu", "request": "first"}, {"name": "shared"}]
    assert "claims" not in sidecar["resources"]
    assert "nvidia.com/gpu" not in str(ollama["resources"])


def test_placement_comes_from_the_spec() -> None:
    toleration = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    given = {"nodeSelector": {"pool": "gpu"}, "tolerations": [toleration], "priorityClassName": "high"}
    spec = pod(pod=given)
    assert {**given, "tolerations": [toleration, GPU_TAINT]}.items() <= spec.items()


def test_empty_fields_are_left_out() -> None:
    fields = {"affinity", "runtimeClassName", "nodeSelector", "tolerations", "priorityClassName", "resourceClaims"}
    assert not fields & pod(gpu={"count": 0}).keys()
