"""What the cluster makes of an endpoint's pods: claims of devices, a private CA and a proxy, and the ways of scraping."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.on_cluster.cluster import ROOT, Namespace, Parameters, fetch, kubectl, new_namespace, wait_for_prometheus
from support.on_cluster.private_gateway import HOST, start_private_gateway
from support.on_cluster.private_registry import issue
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SIDECAR = os.environ.get("E2E_SIDECAR_IMAGE", f"ghcr.io/llmendpoint/sidecar:{(ROOT / 'VERSION').read_text().strip()}")
SMALL = {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}}


def endpoint(name: str, **spec: Any) -> dict[str, Any]:
    """Return an endpoint on the CPU that requests little."""
    small = {
        "gpu": {"count": 0},
        "storage": {"type": "Ephemeral"},
        **spec,
        "ollama": {**SMALL, **spec.get("ollama", {})},
    }
    metadata = {"name": name}
    return {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LLMEndpoint", "metadata": metadata, "spec": small}


def ready(namespace: Namespace, name: str) -> tuple[str, str]:
    """Return reason and message of the condition Ready."""
    row = namespace.condition("llmendpoint", name, "Ready")
    return row["reason"], row["message"]


@pytest.fixture
def namespace(chart: None) -> Iterator[Namespace]:
    made = new_namespace("workload")
    yield made
    kubectl("delete", "namespace", made.name, "--wait=false")


def test_a_model_comes_through_a_proxy_from_a_registry_with_a_private_ca(
    namespace: Namespace, parameters: Parameters, tmp_path: Path
) -> None:
    if not parameters.registry:
        pytest.skip("THIS CLUSTER HAS NO REGISTRY OF ITS OWN: a private CA was not looked at")
    proxy = start_private_gateway(namespace, parameters.registry, SIDECAR, issue(tmp_path))
    registry = {"host": HOST, "repository": parameters.repository}
    env = [{"name": "HTTPS_PROXY", "value": proxy}, {"name": "HTTP_PROXY", "value": proxy},
           {"name": "NO_PROXY", "value": ".svc.cluster.local,10.0.0.0/8"}]  # fmt: skip
    namespace.apply(
        endpoint(
            "private",
            models=[{"name": parameters.model, "source": {"registry": registry}}],
            ollama={"caBundleRef": {"name": "company-ca", "key": "ca.crt"}, "env": env},
        )
    )
    # The pod waits for the bundle, and the status says so.
    # A busy kubelet says first that it has not read any ConfigMap of the pod yet.
    wait_until(lambda: 'configmap "company-ca" not found' in ready(namespace, "private")[1], 90)
    assert ready(namespace, "private")[0] == "VolumeNotReady"
    namespace.run("create", "configmap", "company-ca", f"--from-file={tmp_path}/ca.crt")
    namespace.run("wait", "--for=condition=Ready", "--timeout=3m", "llmendpoint/private")
    asked = set(namespace.run("logs", "pod/gateway").split("\n")) - {""}
    # Pulls went through the proxy, and neither probes nor the sidecar did.
    assert asked == {f"CONNECT {HOST}:443"}


def test_the_status_says_what_a_claim_of_devices_waits_for(namespace: Namespace, parameters: Parameters) -> None:
    if "resource.k8s.io/v1" not in kubectl("api-versions").split():
        pytest.skip("THIS CLUSTER HAS NO DYNAMIC RESOURCE ALLOCATION: claims were not looked at")
    device_class = f"{namespace.name}.example.com"
    request = {"name": "gpu", "exactly": {"deviceClassName": device_class}}
    namespace.apply({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "one-gpu"},
                     "spec": {"spec": {"devices": {"requests": [request]}}}})  # fmt: skip
    claims = {name: [{"name": "gpu", "resourceClaimTemplateName": name}] for name in ("one-gpu", "absent")}
    for name, claim in (("claiming", claims["one-gpu"]), ("waiting", claims["absent"])):
        namespace.apply(endpoint(name, models=[{"name": parameters.model}], gpu={"resourceClaims": claim}))

    def waits_for(words: str, name: str = "claiming") -> None:
        wait_until(lambda: words in ready(namespace, name)[1], 150)
        assert ready(namespace, name)[0] == "Unschedulable"

    waits_for('resourceclaimtemplate.resource.k8s.io "absent" not found. Create the ResourceClaimTemplate', "waiting")
    waits_for(f"the DeviceClass {device_class} of its claim does not exist")
    selector = {"cel": {"expression": f"device.driver == '{device_class}'"}}
    namespace.apply({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": device_class},
                     "spec": {"selectors": [selector]}})  # fmt: skip
    try:
        waits_for("no free GPU for the claims of spec.gpu.resourceClaims (1 of 1 nodes)")
        assert namespace.get("llmendpoint", "claiming")["status"]["gpu"] == "claimed: gpu"
    finally:
        kubectl("delete", "deviceclass", device_class)


def test_each_way_of_scraping_brings_each_series_once(namespace: Namespace, parameters: Parameters) -> None:
    if "prometheus-operated" not in kubectl("get", "services", "--all-namespaces"):
        pytest.skip("THIS CLUSTER HAS NO PROMETHEUS: the ways of scraping were not looked at")
    start_prometheus(namespace)
    for mode in ("ServiceMonitor", "PodMonitor", "Annotations"):
        models = [{"name": parameters.model, **parameters.source()}]
        scraped = {"mode": mode, **interval(mode)}
        # The Prometheus in this namespace is not in a monitoring namespace.
        namespace.apply(endpoint(mode.lower(), models=models, monitoring=scraped, networkPolicy={"enabled": False}))
    with (
        Namespace("monitoring").forward("service/prometheus-operated", 9090) as operated,
        namespace.forward("pod/prometheus", 9090) as annotated,
    ):
        once = {"servicemonitor": 1, "podmonitor": 1}
        wait_for_prometheus(lambda: series(operated, namespace.name) == once)
        wait_until(lambda: series(annotated, namespace.name) == {"annotations": 1}, 60, every=1)
        # It is still so after each has been scraped again.
        assert series(operated, namespace.name) == once


def interval(mode: str) -> dict[str, str]:
    return {} if mode == "Annotations" else {"interval": "1s"}


def series(url: str, namespace: str) -> dict[str, int]:
    """Return the number of series of one metric that each pod has once, by the label `llmendpoint`."""
    query = quote(f'count by (llmendpoint) (llmendpoint_upstream_up{{namespace="{namespace}"}})')
    found = json.loads(fetch(f"{url}/api/v1/query?query={query}"))["data"]["result"]
    return {item["metric"]["llmendpoint"]: int(item["value"][1]) for item in found}


def start_prometheus(namespace: Namespace) -> None:
    """Run a Prometheus with the scrape configuration of docs/install.md, for this namespace."""
    (config,) = re.findall(r"```yaml\n(scrape_configs:\n.*?)```", (ROOT / "docs/install.md").read_text(), re.DOTALL)
    limited = config.replace("{role: endpoints}", f"{{role: endpoints, namespaces: {{names: [{namespace.name}]}}}}")
    rules = [{"apiGroups": [""], "resources": ["endpoints", "pods", "services"], "verbs": ["get", "list", "watch"]}]
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace.name}
    for manifest in (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prometheus"},
         "data": {"prometheus.yml": f"global: {{scrape_interval: 1s}}\n{limited}"}},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "prometheus"}, "rules": rules},
        {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": {"name": "prometheus"}, "subjects": [subject],
         "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "prometheus"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "prometheus"}, "spec": _prometheus_pod()},
    ):  # fmt: skip
        namespace.apply(manifest)
    namespace.run("wait", "--for=condition=Ready", "--timeout=2m", "pod/prometheus")


def _prometheus_pod() -> dict[str, Any]:
    container = {
        "name": "prometheus",
        "image": _prometheus_image(),
        "args": ["--config.file=/config/prometheus.yml", "--storage.tsdb.path=/data"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "data", "mountPath": "/data"}],
    }
    return {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "fsGroup": 65534,
                            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "prometheus"}}, {"name": "data", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 1,
    }  # fmt: skip


def _prometheus_image() -> str:
    """Return the image that the cluster's Prometheus uses."""
    pods = json.loads(kubectl("get", "pods", "-A", "-l", "app.kubernetes.io/name=prometheus", "-o", "json"))["items"]
    containers = [container for pod in pods for container in pod["spec"]["containers"]]
    return next(str(container["image"]) for container in containers if container["name"] == "prometheus")
