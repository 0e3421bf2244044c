"""Ways of scraping: monitors and Prometheus objects on an API server that has their kinds, and one that gets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.manifests import endpoint
from support.api_server.monitoring_kinds import definition
from support.waiting import wait_until

KINDS_OF_MONITORING = (
    ("ServiceMonitor", "servicemonitors"),
    ("PodMonitor", "podmonitors"),
    ("Prometheus", "prometheuses"),
)
SELECTOR = {"matchLabels": {"release": "prometheus"}}


@pytest.fixture(scope="module")
def monitored(
    start_control_plane: Callable[[], Any], start_operator: Callable[..., Any], make_namespace: Callable[..., Any]
) -> Iterator[Any]:
    """A namespace of an API server with these kinds, and an operator that labels all monitors."""
    with start_control_plane() as plane:
        api = make_namespace("models", plane)
        for kind, plural in KINDS_OF_MONITORING:
            api.client.apply(definition(kind, plural))
            wait_until(partial(is_served, api, kind))
        operator = start_operator("--monitor-label=team=ml", kubeconfig=plane.operator)
        yield api
        operator.terminate()
        assert operator.wait(20) == 0


def is_served(api: Any, kind: str) -> bool:
    try:
        api.client.items(kind, api.namespace)
    except Exception:
        return False
    return True


def monitoring(api: Any, name: str) -> tuple[str, str]:
    """Return status and reason of MonitoringReady."""
    status, reason = api.conditions(LLMENDPOINT, name).get("MonitoringReady", ("", ""))
    return status, reason


def prometheus(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": metadata, "spec": spec}


def test_the_condition_follows_the_selectors_of_prometheus(monitored: Any) -> None:
    monitored.apply(endpoint("assistant", monitoring={"labels": {"release": "prometheus"}}))
    wait_until(lambda: monitoring(monitored, "assistant") == ("Unknown", "PrometheusUnknown"))
    monitored.apply(prometheus("other", serviceMonitorSelector={"matchLabels": {"release": "other"}}))
    wait_until(lambda: monitoring(monitored, "assistant") == ("False", "NotSelected"))
    monitored.apply(prometheus("k8s", serviceMonitorSelector=SELECTOR))
    wait_until(lambda: monitoring(monitored, "assistant") == ("True", "ServiceMonitor"))
    monitored.delete("Prometheus", "k8s")
    wait_until(lambda: monitoring(monitored, "assistant") == ("False", "NotSelected"))
    monitored.delete("Prometheus", "other")


def test_labels_of_the_operator_are_on_the_monitor(monitored: Any) -> None:
    monitored.apply(endpoint("labelled"))
    labels = wait_until(lambda: monitored.get("ServiceMonitor", "labelled"))["metadata"]["labels"]
    assert labels["team"] == "ml"


def test_a_monitor_that_is_no_longer_wanted_is_deleted(monitored: Any) -> None:
    monitored.apply(endpoint("unwatched"))
    wait_until(lambda: monitored.get("ServiceMonitor", "unwatched"))
    monitored.apply(endpoint("unwatched", monitoring={"mode": "None"}))
    wait_until(lambda: monitored.get("ServiceMonitor", "unwatched") is None)


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_a_monitor_of_a_stranger_is_left_alone(monitored: Any, kind: str) -> None:
    name = f"taken-{kind.lower()}"
    monitored.apply({"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": name},
                     "spec": {"mine": True}})  # fmt: skip
    monitored.apply(endpoint(name, monitoring={"mode": kind}))
    wait_until(lambda: monitoring(monitored, name) == ("False", "NameConflict"))
    assert monitored.get(kind, name)["spec"] == {"mine": True}


def test_a_pod_monitor_is_used_if_it_is_asked_for(monitored: Any) -> None:
    monitored.apply(endpoint("by-pods", monitoring={"mode": "PodMonitor", "labels": {"release": "p"}}))
    monitor = wait_until(lambda: monitored.get("PodMonitor", "by-pods"))
    assert monitor["metadata"]["labels"]["release"] == "p"
    assert monitored.get("ServiceMonitor", "by-pods") is None
    monitored.apply(prometheus("pods", podMonitorSelector={"matchLabels": {"release": "p"}}))
    wait_until(lambda: monitoring(monitored, "by-pods") == ("True", "PodMonitor"))
    monitored.delete("Prometheus", "pods")


def test_annotations_are_used_if_they_are_asked_for(monitored: Any) -> None:
    monitored.apply(endpoint("annotated", monitoring={"mode": "Annotations"}))
    wait_until(lambda: annotations_of(monitored, "annotated") == ANNOTATIONS)
    wait_until(lambda: monitoring(monitored, "annotated") == ("Unknown", "Annotations"))
    assert monitored.get("ServiceMonitor", "annotated") is None
    monitored.apply(endpoint("annotated", monitoring={"mode": "None"}))
    wait_until(lambda: annotations_of(monitored, "annotated") == {})


ANNOTATIONS = {"prometheus.io/scrape": "true", "prometheus.io/port": "8001", "prometheus.io/path": "/metrics"}


def annotations_of(api: Any, name: str) -> dict[str, str]:
    """Return the annotations of an endpoint's headless Service from which Prometheus is configured."""
    body = wait_until(lambda: api.get("Service", f"{name}-pods"))
    given = body["metadata"].get("annotations") or {}
    return {key: value for key, value in given.items() if key.startswith("prometheus.io/")}


def test_auto_follows_the_kinds_that_come_and_go_and_restarts_no_pod(
    start_control_plane: Callable[[], Any], start_operator: Callable[..., Any], make_namespace: Callable[..., Any]
) -> None:
    with start_control_plane() as plane:
        api = make_namespace("models", plane)
        operator = start_operator(kubeconfig=plane.operator)
        api.apply(endpoint("assistant"))
        wait_until(lambda: monitoring(api, "assistant") == ("Unknown", "Annotations"))
        assert annotations_of(api, "assistant") == ANNOTATIONS
        generation = api.get("StatefulSet", "assistant")["metadata"]["generation"]

        api.client.apply(definition("PodMonitor", "podmonitors"))
        wait_until(lambda: used(api) == {"PodMonitor"}, 70)
        api.client.apply(definition("ServiceMonitor", "servicemonitors"))
        wait_until(lambda: used(api) == {"ServiceMonitor"}, 70)
        api.client.delete("CustomResourceDefinition", "", "servicemonitors.monitoring.coreos.com")
        wait_until(lambda: used(api) == {"PodMonitor"}, 70)
        api.client.delete("CustomResourceDefinition", "", "podmonitors.monitoring.coreos.com")
        wait_until(lambda: used(api) == {"Annotations"}, 70)

        assert api.get("StatefulSet", "assistant")["metadata"]["generation"] == generation
        operator.terminate()
        assert operator.wait(20) == 0


def test_kinds_that_are_installed_one_after_another_are_noticed_within_seconds(
    start_control_plane: Callable[[], Any], start_operator: Callable[..., Any], make_namespace: Callable[..., Any]
) -> None:
    """The operator looks for a missing kind each minute, and for the others as soon as it has found one."""
    with start_control_plane() as plane:
        api = make_namespace("models", plane)
        operator = start_operator(kubeconfig=plane.operator)
        api.apply(endpoint("assistant", monitoring={"labels": {"release": "prometheus"}}))
        wait_until(lambda: monitoring(api, "assistant") == ("Unknown", "Annotations"))
        api.client.apply(definition("PodMonitor", "podmonitors"))
        wait_until(lambda: used(api) == {"PodMonitor"}, 70)
        api.client.apply(definition("ServiceMonitor", "servicemonitors"))
        wait_until(lambda: used(api) == {"ServiceMonitor"}, 20)
        api.client.apply(definition("Prometheus", "prometheuses"))
        wait_until(partial(is_served, api, "Prometheus"))
        api.apply(prometheus("k8s", serviceMonitorSelector=SELECTOR))
        wait_until(lambda: monitoring(api, "assistant") == ("True", "ServiceMonitor"), 20)
        operator.terminate()
        assert operator.wait(20) == 0


def used(api: Any) -> set[str]:
    """Return the ways in which Prometheus would find the pods of the endpoint `assistant`."""
    kinds = {kind for kind in ("ServiceMonitor", "PodMonitor") if is_served(api, kind) and api.get(kind, "assistant")}
    return kinds | ({"Annotations"} if annotations_of(api, "assistant") else set())
