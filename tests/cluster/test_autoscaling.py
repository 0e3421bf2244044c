"""An endpoint follows its load through a real KEDA and a real Prometheus: `make e2e-keda`.

One pod runs eight requests at a time. Sixteen users send requests for a minute and a quarter, so they need two pods. When
the second one is ready, seven users begin, who need one pod and outlast the second one. They open new connections, which
reach both pods: connections that exist stay with their pod. The responses are streams, and an interrupted one lacks
tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from support.on_cluster.cluster import NAMESPACE, Namespace, Parameters, install_chart, kubectl, new_namespace
from support.waiting import wait_until

pytestmark = [pytest.mark.keda, pytest.mark.timeout(900)]

PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"
QUESTIONS = "category: Waves\nquestions:\n  - {id: waves-1, prompt: Say something about waves., maxTokens: 24}\n"
USERS_AFTER, TOKENS = 7, 24


@pytest.fixture(scope="module")
def models(chart: None) -> Iterator[Namespace]:
    """A namespace that is served by an operator with KEDA."""
    values = ("autoscaling.actuator=KEDA", f"prometheus.url={PROMETHEUS}", "monitoring.namespaces={monitoring}")
    flags = [flag for value in values for flag in ("--set", value)]
    install_chart("llmendpoint", NAMESPACE, "--wait", *flags)
    namespace = new_namespace("waves")
    yield namespace
    kubectl("delete", "namespace", namespace.name, "--wait=false")
    install_chart("llmendpoint", NAMESPACE, "--wait")


def test_load_brings_a_second_pod_and_quiet_takes_it_away_without_cutting_a_stream(
    models: Namespace, parameters: Parameters
) -> None:
    follows_its_load(models, parameters)


def follows_its_load(namespace: Namespace, parameters: Parameters) -> None:
    namespace.apply(wave_endpoint(parameters))
    namespace.run("wait", "--for=condition=Ready", "--timeout=5m", "llmendpoint/waves")
    # Prometheus has to reload its configuration first, which the Prometheus Operator does within three minutes.
    wait_until(lambda: namespace.condition("scaledobject", "waves", "HPAActive")["status"] == "True", 300, every=1)
    wait_until(lambda: namespace.condition("llmendpoint", "waves", "Degraded")["status"] == "False", 60)
    assert replicas(namespace) == 1
    namespace.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "waves"}, "data": {"w.yaml": QUESTIONS}}
    )
    namespace.apply(wave("burst", 16, "75s"))

    wait_until(lambda: replicas(namespace) == 2, 120, every=1)
    wait_until(lambda: namespace.get("llmendpoint", "waves")["status"]["readyReplicas"] == 2, 60, every=1)
    assert namespace.condition("llmendpoint", "waves", "Ready")["message"].startswith("2 of 2 replicas")
    namespace.apply(wave("steady", USERS_AFTER, "3m"))
    wait_until(partial(runs_requests, namespace, "waves-1"), 60, every=1)

    wait_until(lambda: replicas(namespace) == 1, 170, every=1)
    namespace.run("wait", "--for=delete", "pod/waves-1", "--timeout=90s")
    assert not is_complete(namespace, "steady"), "the run ended before the pod was removed"
    for name in ("burst", "steady"):
        namespace.run("wait", "--for=condition=Complete", "--timeout=5m", f"loadtest/{name}")
        summary = namespace.get("loadtest", name)["status"]["summary"]
        assert summary["errors"] == 0, summary
        assert summary["outputTokens"] == TOKENS * summary["requests"] > 0, summary
    wait_until(lambda: namespace.condition("llmendpoint", "waves", "Reconciling")["reason"] == "Settled", 60)


def wave_endpoint(parameters: Parameters) -> dict[str, Any]:
    spec = {
        "models": [{"name": parameters.model, **parameters.source()}],
        "gpu": {"count": 0},
        "ollama": {"numParallel": 8, "resources": {"requests": {"cpu": "1m", "memory": "128Mi"}}},
        "metering": {"resources": {"requests": {"cpu": "1m"}}},
        "storage": {"type": "Ephemeral"},
        "monitoring": {"interval": "5s"},
        "autoscaling": {"maxReplicas": 2, "targetUtilization": "100%", "scaleDownDelay": "15s"},
        "pod": {"terminationGracePeriodSeconds": 60},
    }
    return {
        "apiVersion": "llmendpoint.dev/v1alpha1",
        "kind": "LLMEndpoint",
        "metadata": {"name": "waves"},
        "spec": spec,
    }


def wave(name: str, users: int, duration: str) -> dict[str, Any]:
    spec = {
        "endpointRef": {"name": "waves"},
        "load": {"concurrency": users, "duration": duration},
        "dataset": {"questions": {"configMapRefs": [{"name": "waves"}]}},
        "request": {"maxTokens": TOKENS},
        "pod": {"resources": {"requests": {"cpu": "1m"}}},
    }
    return {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LoadTest", "metadata": {"name": name}, "spec": spec}


def replicas(namespace: Namespace) -> int:
    return int(namespace.get("statefulset", "waves")["spec"]["replicas"])


def runs_requests(namespace: Namespace, pod: str) -> bool:
    path = f"/api/v1/namespaces/{namespace.name}/pods/{pod}:8001/proxy/metrics"
    lines = kubectl("get", "--raw", path).splitlines()
    return any(line.startswith("llmendpoint_num_requests_running ") and float(line.split()[1]) > 0 for line in lines)


def is_complete(namespace: Namespace, name: str) -> bool:
    return namespace.condition("loadtest", name, "Complete")["status"] == "True"
