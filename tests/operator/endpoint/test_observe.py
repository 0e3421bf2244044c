"""Observation of pods."""

from __future__ import annotations

from llmendpoint_operator.endpoint.observe import trouble


def test_why_a_pod_does_not_run_is_kubernetes_own_words() -> None:
    unscheduled = {
        "metadata": {"name": "p"},
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]},
    }
    assert trouble(unscheduled) == "p: 0/1 nodes"
    waiting = {"name": "ollama", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    assert (
        trouble({"metadata": {"name": "p"}, "status": {"initContainerStatuses": [waiting]}})
        == "p, container ollama: ImagePullBackOff: no such image"
    )
    starting = {"name": "ollama", "state": {"waiting": {"reason": "ContainerCreating"}}}
    assert not trouble({"metadata": {"name": "p"}, "status": {"initContainerStatuses": [starting]}})
