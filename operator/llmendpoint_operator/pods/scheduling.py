"""Translates the sentence with which the scheduler explains why a pod does not fit on any node.

The sentence is "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint(s). preemption:
..." (`pkg/scheduler/framework/types.go`, `FitError.Error`). If a plugin refuses the pod before it looks at nodes, its
reason follows the colon without a number.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from llmendpoint_common.contracts.cluster import PodReason
from llmendpoint_common.diagnosis import sentences
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.pods.trouble import Origin, Trouble, quoted

_SENTENCE = re.compile(r"0/(?P<total>\d+) nodes are available: (?P<rest>.*)", re.DOTALL)
_ITEM = re.compile(r"(?P<count>\d+) (?P<reason>(?:(?!, \d+ |\. ).)+)", re.DOTALL)
_INSUFFICIENT = re.compile(r"Insufficient (?P<resource>\S+?)\.?$")
_CLAIM = re.compile(r'persistentvolumeclaim "(?P<name>[^"]+)" not found')
_STORAGE_CLAIM = Origin().claim
_UNBOUND = "unbound immediate PersistentVolumeClaims"
#: The claims of a new pod are created and bound while the scheduler looks at the pod for the first time.
_BINDING_TIME = timedelta(seconds=15)
_DEVICE_CLASS = re.compile(r"device class (?P<name>\S+) does not exist")


class _Words(NamedTuple):
    """What is missing on some nodes, and what to do about it."""

    what: str
    advice: str


#: Parts of reasons of the scheduler's plugins, with what they mean. `{pod}` is the name of the pod.
_NODES: tuple[tuple[str, _Words], ...] = (
    (
        "untolerated taint",
        _Words(
            "a taint that the pod does not tolerate",
            "Add a toleration to spec.pod.tolerations, or remove the taint.",
        ),
    ),
    (
        "taints that the pod didn't tolerate",
        _Words(
            "a taint that the pod does not tolerate",
            "Add a toleration to spec.pod.tolerations, or remove the taint.",
        ),
    ),
    (
        "PersistentVolume's node affinity",
        _Words(
            "the volume of its claim is bound to another node",
            "The claim with the models is bound to another node. Make room on that node, or delete the claim, and "
            "the models "
            "are pulled again on a node that is free.",
        ),
    ),
    (
        "volume node affinity conflict",
        _Words(
            "the volume of its claim is bound to another node",
            "The claim with the models is bound to another node. Make room on that node, or delete the claim, and "
            "the models "
            "are pulled again on a node that is free.",
        ),
    ),
    (
        "no available volume zone",
        _Words(
            "the volume of its claim is in another zone",
            "Make room on a node of that zone, or delete the claim, and the models are pulled again.",
        ),
    ),
    (
        "didn't find available persistent volumes",
        _Words(
            sentences.NO_VOLUME_FOR_ITS_CLAIM,
            "Create a PersistentVolume, or set spec.storage.storageClassName to a StorageClass that provisions "
            "volumes.",
        ),
    ),
    (
        "did not have enough free storage",
        _Words(sentences.NOT_ENOUGH_STORAGE, "Free storage, or request less with spec.storage.size."),
    ),
    (
        "cannot allocate all claims",
        _Words(
            sentences.NO_GPU_FOR_THE_CLAIMS,
            "Free a GPU, add a node, or check the selectors of the ResourceClaimTemplate and the devices that the DRA "
            "driver offers (kubectl get resourceslices).",
        ),
    ),
    (
        "resourceclaim not available on the node",
        _Words(
            "the GPU of its ResourceClaim is on another node",
            "Make room on that node, or use a ResourceClaimTemplate, which gives each replica a claim of its own.",
        ),
    ),
    ("were unschedulable", _Words("cordoned", "Uncordon it (kubectl uncordon), or add a node.")),
    ("Too many pods", _Words("the maximum number of pods is reached", "Delete pods, or add a node.")),
    (
        "max volume count",
        _Words("the maximum number of volumes is reached", "Delete pods with volumes, or add a node."),
    ),
    (
        "ReadWriteOncePod",
        _Words(
            "another pod uses the claim with the access mode ReadWriteOncePod",
            "Use one claim per replica (spec.storage.type: PersistentVolumeClaim), or a claim with ReadWriteMany.",
        ),
    ),
    ("pod affinity rules", _Words("pod affinity rules are not met", "Change the affinity, or add a node.")),
    ("anti-affinity rules", _Words("anti-affinity rules are not met", "Change the anti-affinity, or add a node.")),
    (
        "topology spread constraints",
        _Words("topology spread constraints are not met", "Change the constraints, or add a node."),
    ),
)


def scheduling_trouble(pod: Manifest, origin: Origin, now: datetime) -> Trouble | None:
    """Return why a pod is not scheduled, or None if the scheduler has not refused it, or only waits for a new claim."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            name = pod["metadata"]["name"]
            return None if _is_binding(name, condition, now) else _trouble(name, condition, origin)
    return None


def _is_binding(name: str, condition: dict[str, Any], now: datetime) -> bool:
    """Return whether a pod may only wait for a claim of its own, which the StatefulSet controller has just created."""
    since, text = condition.get("lastTransitionTime"), str(condition.get("message") or "")
    if not since or now - datetime.fromisoformat(str(since)) >= _BINDING_TIME:
        return False
    missing = _CLAIM.search(text)
    return missing["name"].endswith(f"-{name}") if missing else _UNBOUND in text


def _trouble(name: str, condition: dict[str, Any], origin: Origin) -> Trouble:
    text = str(condition.get("message") or condition.get("reason") or "")
    since = condition.get("lastTransitionTime")
    begun = datetime.fromisoformat(since) if since else None
    missing = _CLAIM.search(text)
    if missing:
        message = (
            f"{name} {sentences.CLAIM_DOES_NOT_EXIST} {missing['name']} does not exist. Create it, or "
            f"correct {origin.claim}. Kubernetes: {quoted(text)}."
        )
        return Trouble(PodReason.UNSCHEDULABLE, message, begun)
    words = _explained(text, origin)
    what = "; ".join(one.what for one in words)
    advice = " ".join(dict.fromkeys(one.advice for one in words))
    explained = f"{what}. {advice} " if words else ""
    message = f"{name} cannot be scheduled: {explained}Kubernetes: {quoted(text)}."
    return Trouble(PodReason.UNSCHEDULABLE, message, begun)


def _explained(text: str, origin: Origin) -> list[_Words]:
    """Return the words for each reason that is known, with the number of nodes to which it applies."""
    if "no nodes available to schedule pods" in text:
        return [_Words("the cluster has no node", "Add a node.")]
    missing = _DEVICE_CLASS.search(text)
    if missing:
        advice = "Create it, which the DRA driver usually does, or correct the ResourceClaimTemplate."
        return [_Words(f"the DeviceClass {missing['name']} of its claim does not exist", advice)]
    if _UNBOUND in text and origin.claim != _STORAGE_CLAIM:
        advice = "The events of the claim say why (kubectl describe pvc)."
        return [_Words(sentences.CLAIM_IS_NOT_BOUND, f"Check the claim in {origin.claim}. {advice}")]
    if _UNBOUND in text:
        # The Event of the claim that says this is of type Normal, and the operator watches Warnings.
        advice = (
            "If spec.storage.storageClassName is not set, the cluster needs a default StorageClass (kubectl get "
            "storageclass). If it is set, check this StorageClass. If it is empty, create a PersistentVolume without a "
            "class. The events of the claim say more (kubectl describe pvc)."
        )
        return [_Words(sentences.CLAIM_IS_NOT_BOUND, advice)]
    sentence = _SENTENCE.search(text)
    if sentence is None:
        return []
    # What follows the first sentence is about preemption.
    reasons = re.split(r"\.(?:\s|$)", sentence["rest"], maxsplit=1)[0]
    found = []
    for item in _ITEM.finditer(reasons):
        words = _of_nodes(item["reason"].strip(), origin)
        if words is not None:
            found.append(_Words(f"{words.what} ({item['count']} of {sentence['total']} nodes)", words.advice))
    # GPUs first: they are what is usually missing.
    return sorted(found, key=lambda words: "GPU" not in words.what)


def _of_nodes(reason: str, origin: Origin) -> _Words | None:
    insufficient = _INSUFFICIENT.search(reason)
    if insufficient:
        return _insufficient(insufficient["resource"], origin)
    if "node affinity/selector" in reason:
        return _unselected(origin)
    return next((words for part, words in _NODES if part in reason), None)


def _insufficient(resource: str, origin: Origin) -> _Words:
    if resource == origin.gpu or "gpu" in resource.lower() or "/mig-" in resource:
        return _Words(sentences.gpus_are_short(origin.gpus, resource), sentences.FREE_A_GPU)
    fields = " and ".join(origin.fields.values()) or "spec.pod.resources"
    return _Words(f"not enough free {resource}", f"Request less {resource} in {fields}, or add a node.")


def _unselected(origin: Origin) -> _Words:
    if origin.products:
        return _Words(
            sentences.no_gpu_of_the_product(origin.products, origin.product_label, origin.selectors),
            f"Correct {' or '.join(['spec.gpu.products', *origin.selectors])}, or add such a node.",
        )
    selectors = origin.selectors or ("spec.pod.nodeSelector",)
    return _Words(f"no match for {' and '.join(selectors)}", f"Correct {' or '.join(selectors)}, or label a node.")
