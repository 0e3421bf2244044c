"""The installed release of the chart."""

from __future__ import annotations

import subprocess

import pytest

from support.on_cluster.cluster import NAMESPACE, kubectl

pytestmark = pytest.mark.cluster


def test_helm_test_passes_in_a_restricted_namespace_and_leaves_nothing(chart: None) -> None:
    command = ["helm", "test", "llmendpoint", "--namespace", NAMESPACE, "--timeout", "3m"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        logs = kubectl("--namespace", NAMESPACE, "logs", "llmendpoint-test")
        raise AssertionError(f"{done.stdout}{done.stderr}{logs}")
    assert "Phase:          Succeeded" in done.stdout
    assert "llmendpoint-test" not in kubectl("--namespace", NAMESPACE, "get", "pods", "--output=name")
