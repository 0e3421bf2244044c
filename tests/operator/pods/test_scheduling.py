"""The scheduler's sentences. They are those of kube-scheduler 1.35, unless a comment names an older version."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmendpoint_operator.pods.scheduling import scheduling_trouble
from llmendpoint_operator.pods.trouble import Origin

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = SINCE + timedelta(minutes=1)
ORIGIN = Origin(gpu="nvidia.com/gpu", gpus=2, fields={"ollama": "spec.ollama.resources"})
PRODUCT = Origin(
    gpu="nvidia.com/gpu", gpus=1, products=("NVIDIA-H200", "NVIDIA-H100"), product_label="nvidia.com/gpu.product"
)
SELECTING = replace(PRODUCT, selectors=("spec.pod.nodeSelector", "spec.pod.affinity"))
CLAIMING = Origin(claims=("ResourceClaimTemplate one-gpu",))
NO_VICTIMS = (
    " no new claims to deallocate, preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
)
HELPLESS = (
    " no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
)


def unscheduled(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                 "lastTransitionTime": "2026-01-02T03:04:05Z"}  # fmt: skip
    return {"metadata": {"name": "assistant-1"}, "status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("sentence", "origin", "words"),
    [
        (
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu." + NO_VICTIMS, ORIGIN,
            "assistant-1 cannot be scheduled: not enough GPUs are free, the pod needs 2 nvidia.com/gpu (3 of 3 nodes). Free a GPU, add a node, or",
        ),
        (
            "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint(s)."
            + HELPLESS, ORIGIN,
            "the pod needs 2 nvidia.com/gpu (1 of 3 nodes); not enough free cpu (1 of 3 nodes); a taint that the pod does not "
            "tolerate (1 of 3 nodes). Free a GPU",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector." + HELPLESS, PRODUCT,
            "no GPU of the product NVIDIA-H200 or NVIDIA-H100 (label nvidia.com/gpu.product) (3 of 3 nodes). Correct "
            "spec.gpu.products, or add such a node.",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector." + HELPLESS, SELECTING,
            "(label nvidia.com/gpu.product), or no match for spec.pod.nodeSelector and spec.pod.affinity (3 of 3 nodes). Correct "
            "spec.gpu.products or spec.pod.nodeSelector or spec.pod.affinity, or add such a node.",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector." + HELPLESS, ORIGIN,
            "no match for spec.pod.nodeSelector (3 of 3 nodes). Correct spec.pod.nodeSelector",
        ),
        (
            "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match PersistentVolume's node affinity."
            + HELPLESS, ORIGIN,
            "the volume of its claim is bound to another node (2 of 3 nodes). Free a GPU, add a node, or check that the "
            "device plugin of the GPU runs. The claim with the models is bound to another node.",
        ),
        # Kubernetes 1.34 and older
        (
            "0/1 nodes are available: 1 node(s) had volume node affinity conflict. preemption: 0/1 nodes are available", ORIGIN,
            "The claim with the models is bound to another node.",
        ),
        (
            "0/2 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: true}, 1 Insufficient memory. preemption:",
            ORIGIN,
            "a taint that the pod does not tolerate (1 of 2 nodes); not enough free memory (1 of 2 nodes). Add a toleration "
            "to spec.pod.tolerations, or remove the taint. Request less memory in spec.ollama.resources",
        ),
        (
            "0/1 nodes are available: 1 Insufficient ephemeral-storage.", ORIGIN,
            "not enough free ephemeral-storage (1 of 1 nodes). Request less ephemeral-storage",
        ),
        (
            "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable, preemption: 0/1 nodes are available",
            CLAIMING,
            "no free GPU for the claims of spec.gpu.resourceClaims (1 of 1 nodes). Free a GPU, add a node, or check the selectors",
        ),
        (
            "0/2 nodes are available: 1 Insufficient cpu, 1 resourceclaim not available on the node. still not schedulable",
            CLAIMING, "the GPU of its ResourceClaim is on another node (1 of 2 nodes)",
        ),
        (
            "0/1 nodes are available: request gpu: device class gpu.example.com does not exist. no new claims to deallocate",
            CLAIMING, "the DeviceClass gpu.example.com of its claim does not exist. Create it",
        ),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", ORIGIN, "cordoned (1 of 1 nodes). Uncordon it"),
        ("0/1 nodes are available: 1 Too many pods.", ORIGIN, "the maximum number of pods is reached (1 of 1 nodes)"),
        (
            "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.", ORIGIN,
            "no volume for its claim (1 of 1 nodes). Create a PersistentVolume, or set spec.storage.storageClassName",
        ),
        (
            "0/1 nodes are available: 1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode "
            "already in-use by another pod.", ORIGIN,
            "another pod uses the claim with the access mode ReadWriteOncePod",
        ),
        (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found", ORIGIN,
            "the cluster needs a default StorageClass (kubectl get storageclass). If it is set, check this StorageClass. "
            "If it is empty, create a PersistentVolume without a class.",
        ),
        (
            '0/1 nodes are available: persistentvolumeclaim "models" not found. not found', ORIGIN,
            "PersistentVolumeClaim models does not exist. Create it, or correct spec.storage.claimName.",
        ),
        ("no nodes available to schedule pods", ORIGIN, "the cluster has no node. Add a node."),
    ],
)  # fmt: skip
def test_the_reasons_are_named_with_what_to_do(sentence: str, origin: Origin, words: str) -> None:
    trouble = scheduling_trouble(unscheduled(sentence), origin, NOW)
    assert trouble is not None
    assert trouble.reason == "Unschedulable"
    assert words in trouble.message
    # The scheduler's own words follow.
    assert f"Kubernetes: {sentence[:60].rstrip('.')}" in trouble.message
    assert trouble.since == SINCE


def test_a_sentence_that_is_not_known_is_quoted() -> None:
    trouble = scheduling_trouble(unscheduled("0/1 nodes are available: 1 node(s) are on the moon."), ORIGIN, NOW)
    assert trouble is not None
    assert trouble.message == (
        "assistant-1 cannot be scheduled: Kubernetes: 0/1 nodes are available: 1 node(s) are on the moon."
    )


def test_a_pod_that_is_scheduled_or_not_looked_at_yet_has_no_such_trouble() -> None:
    pod = {"metadata": {"name": "p"}, "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}}
    assert scheduling_trouble(pod, ORIGIN, NOW) is None
    assert scheduling_trouble({"metadata": {"name": "p"}}, ORIGIN, NOW) is None


@pytest.mark.parametrize(
    "sentence",
    [
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
        '0/1 nodes are available: persistentvolumeclaim "models-assistant-1" not found. not found',
    ],
)
def test_a_pod_whose_new_claim_is_being_bound_is_not_in_trouble(sentence: str) -> None:
    pod = unscheduled(sentence)
    assert scheduling_trouble(pod, ORIGIN, SINCE + timedelta(seconds=14)) is None
    assert scheduling_trouble(pod, ORIGIN, SINCE + timedelta(seconds=15)) is not None


def test_a_missing_gpu_is_named_immediately() -> None:
    pod = unscheduled("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    assert scheduling_trouble(pod, ORIGIN, SINCE) is not None


def test_a_claim_that_the_spec_names_is_missing_immediately_and_named_by_its_field() -> None:
    pod = unscheduled('0/1 nodes are available: persistentvolumeclaim "runs" not found.')
    trouble = scheduling_trouble(pod, Origin(claim="spec.results.persistentVolumeClaim.claimName"), SINCE)
    assert trouble is not None
    assert "Create it, or correct spec.results.persistentVolumeClaim.claimName." in trouble.message
    pod = unscheduled("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
    trouble = scheduling_trouble(pod, Origin(claim="spec.results.persistentVolumeClaim.claimName"), NOW)
    assert trouble is not None
    assert "Check the claim in spec.results.persistentVolumeClaim.claimName." in trouble.message
    assert "spec.storage" not in trouble.message
