"""Sentences that conditions of endpoints, the doctor and the dashboard share.

The operator composes the messages of its conditions from them, and the rules recognize the causes in such messages.
Each function or constant is a part of a message that names its object in front of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from llmendpoint_common.diagnosis.facts import FullDisk

# Reasons for which a pod is not scheduled.
NO_GPU_IS_FREE = "no GPU is free"
NOT_ENOUGH_GPUS_ARE_FREE = "not enough GPUs are free"
NO_GPU_FOR_THE_CLAIMS = "no free GPU for the claims of spec.gpu.resourceClaims"
NO_GPU_OF_THE_PRODUCT = "no GPU of the product"
CLAIM_IS_NOT_BOUND = "its claim is not bound to a volume yet"
NO_VOLUME_FOR_ITS_CLAIM = "no volume for its claim"
NOT_ENOUGH_STORAGE = "not enough free storage for its claim"
WAITS_FOR_CLAIM = "waits for PersistentVolumeClaim"
RESOURCE_CLAIM_NOT_CREATED = "its ResourceClaim could not be created"
RESOURCE_CLAIMS_MUST_EXIST = "the scheduler does not consider a pod before all its ResourceClaims exist"
CLAIM_DOES_NOT_EXIST = "cannot be scheduled: PersistentVolumeClaim"
FREE_A_GPU = "Free a GPU, add a node, or check that the device plugin of the GPU runs."

#: The beginning of the sentence about a model that is not in GPU memory at all.
NOTHING_ON_GPU = "No part of"


def not_ollama(where: str, answer: str) -> str:
    """Return that a server at an address is not Ollama. `answer` says what it answered."""
    return f"what answers at {where} is not Ollama: {answer}"


def answered(path: str, status: int) -> str:
    """Return how a request was answered, for `not_ollama` and others."""
    return f"GET {path} was answered with HTTP {status}"


def no_http(error: Exception) -> str:
    """Return that a server speaks another protocol: it closes the connection, or sends bytes that are not HTTP."""
    return f"the answer is not HTTP ({type(error).__name__})"


def wrong_upstream(where: str, path: str, status: int) -> str:
    """Return why an address cannot be an upstream: with which status it answered a request of Ollama's API."""
    if status == HTTPStatus.LOOP_DETECTED:
        return leads_back(where)
    return not_ollama(where, answered(path, status))


def leads_back(where: str) -> str:
    """Return that an upstream is another proxy whose upstream is, perhaps through others, the first one."""
    return f"the upstream {where} leads back to the proxy, so that no request reaches an Ollama"


def as_sentence(part: str) -> str:
    """Return one of these parts as a sentence."""
    return f"{part[:1].upper()}{part[1:]}."


def full_state_folder(disk: FullDisk) -> tuple[str, str]:
    """Return that the state folder of a stack cannot be written, and the advice."""
    sentence = (
        f"The disk with {disk.folder} is full ({disk.reason}). The state of the stack is kept in memory, and so is the "
        "new output of each program, up to 1 MiB; `llmendpoint logs` does not show it yet."
    )
    return sentence, "Free space on this disk. The output is then written to the logs."


def gpus_are_short(needed: int, resource: str) -> str:
    """Return that nodes lack `needed` free GPUs, which have the name `resource` in a container's resources."""
    missing = NOT_ENOUGH_GPUS_ARE_FREE if needed > 1 else NO_GPU_IS_FREE
    return f"{missing}, the pod needs {max(1, needed)} {resource}"


def no_gpu_of_the_product(products: Sequence[str], label: str, selectors: Sequence[str] = ()) -> str:
    """Return that no node has the label with one of these values, or that other fields that select nodes match none."""
    others = f", or no match for {' and '.join(selectors)}" if selectors else ""
    return f"{NO_GPU_OF_THE_PRODUCT} {' or '.join(products)} (label {label}){others}"


def image_cannot_be_pulled(image: str, quote: str) -> str:
    """Return that a container waits for its image. `quote` is the message of Kubernetes about it."""
    return (
        f"the image {image} cannot be pulled. Check its name, whether the node can reach the registry, and the "
        f"credentials (spec.pod.imagePullSecrets). Kubernetes: {quote}."
    )


def partly_on_cpu(name: str, on_gpu: int, size: int) -> str:
    """Return which share of a model is in GPU memory. Sizes are in bytes."""
    if on_gpu == 0:
        return f"{NOTHING_ON_GPU} {name} is in GPU memory. It runs on the CPU, which is much slower."
    share = 100 * on_gpu // max(1, size)
    return f"Only {share} % of {name} is in GPU memory. The rest runs on the CPU, which is much slower."


def monitors_selected_by(server: str, monitors: str, namespaces: str) -> str:
    """Return the selection of a Prometheus object, for example "ServiceMonitors with team=a" in "all namespaces"."""
    return f"{server} selects {monitors} in {namespaces}"


def not_selected(kind: str, servers: str, selector: str) -> str:
    """Return that no Prometheus selects a monitor. `selector` is the prefix of the selectors of its kind."""
    return (
        f"No Prometheus selects the {kind}: {servers}. Set these labels in spec.monitoring.labels or, for all "
        f"endpoints, in the chart's value monitoring.labels, or change {selector}Selector or "
        f"{selector}NamespaceSelector of the Prometheus."
    )
