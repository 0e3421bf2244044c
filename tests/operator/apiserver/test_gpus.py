"""GPUs of endpoints on a real API server: extended resources, claims of dynamic resource allocation, and images."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.control_plane import ROOT
from support.api_server.manifests import endpoint, pod
from support.waiting import wait_until

SAMPLES = [
    path
    for path in sorted((ROOT / "manifests/samples").rglob("*.yaml"))
    if path.name not in ("kustomization.yaml", "patch.yaml")
]
DIGEST = "docker.io/ollama/ollama@sha256:" + "1" * 64


def template_of(api: Any, name: str) -> dict[str, Any]:
    """Return the spec of the pods, once the StatefulSet exists."""
    body = wait_until(lambda: api.get("StatefulSet", name))
    return dict(body["spec"]["template"]["spec"])


def gpu_column(api: Any, name: str) -> str:
    status = wait_until(lambda: (api.get(LLMENDPOINT, name) or {}).get("status", {}).get("gpu"))
    return str(status)


@pytest.mark.usefixtures("operator")
def test_claims_of_dynamic_resource_allocation_reach_the_pods(api: Any) -> None:
    device_class = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu.example.com"},
                    "spec": {"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]}}  # fmt: skip
    request = {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com", "count": 1}}
    template = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "one-gpu"},
                "spec": {"spec": {"devices": {"requests": [request]}}}}  # fmt: skip
    api.client.apply(device_class)
    api.apply(template)
    claim = {"name": "gpu", "resourceClaimTemplateName": "one-gpu", "request": "gpu"}
    api.apply(endpoint("claiming", gpu={"resourceClaims": [claim]}))
    spec = template_of(api, "claiming")
    assert spec["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]
    (ollama,) = spec["initContainers"]
    assert ollama["resources"]["claims"] == [{"name": "gpu", "request": "gpu"}]
    assert "limits" not in ollama["resources"]
    wait_until(lambda: gpu_column(api, "claiming") == "claimed: gpu")
    # The models run on GPUs, so the condition exists.
    assert api.conditions(LLMENDPOINT, "claiming")["GPUOffloaded"] == ("Unknown", "NothingLoaded")


@pytest.mark.usefixtures("operator")
def test_a_pod_that_waits_for_a_claim_is_named(api: Any) -> None:
    api.apply(endpoint("waiting", gpu={"resourceClaims": [{"name": "gpu", "resourceClaimName": "absent"}]}))
    statefulset = wait_until(lambda: api.get("StatefulSet", "waiting"))
    # The API server has no scheduler, which would not set a condition either.
    api.apply(pod("waiting-0", "waiting", statefulset["metadata"]["uid"]))
    wait_until(lambda: api.conditions(LLMENDPOINT, "waiting").get("Ready") == ("False", "Unschedulable"), 60)
    (ready,) = [row for row in api.get(LLMENDPOINT, "waiting")["status"]["conditions"] if row["type"] == "Ready"]
    assert "waiting-0 waits for ResourceClaim absent" in ready["message"]


@pytest.mark.usefixtures("operator")
def test_an_endpoint_can_change_from_a_number_of_gpus_to_claims_and_to_the_cpu(api: Any) -> None:
    api.apply(endpoint("changing", gpu={"count": 2}))
    assert template_of(api, "changing")["initContainers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    api.apply(endpoint("changing", gpu={"resourceClaims": [{"name": "gpu", "resourceClaimName": "mine"}]}))
    wait_until(lambda: "resourceClaims" in template_of(api, "changing"))
    (ollama,) = template_of(api, "changing")["initContainers"]
    assert "limits" not in ollama["resources"]
    assert "tolerations" not in template_of(api, "changing")
    api.apply(endpoint("changing", gpu={"count": 0}))
    wait_until(lambda: "resourceClaims" not in template_of(api, "changing"))
    (ollama,) = template_of(api, "changing")["initContainers"]
    assert ollama["resources"].keys() == {"requests"}
    wait_until(lambda: gpu_column(api, "changing") == "none")


@pytest.mark.usefixtures("operator")
def test_a_mig_profile_is_requested_and_the_taint_of_nvidias_nodes_is_tolerated(api: Any) -> None:
    api.apply(endpoint("mig", gpu={"resource": "nvidia.com/mig-1g.10gb"}))
    spec = template_of(api, "mig")
    assert spec["initContainers"][0]["resources"]["limits"] == {"nvidia.com/mig-1g.10gb": "1"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert gpu_column(api, "mig") == "1 x nvidia.com/mig-1g.10gb"


@pytest.mark.usefixtures("operator")
def test_gpus_of_amd_get_the_rocm_variant_of_the_default_image(api: Any) -> None:
    api.apply(endpoint("amd", gpu={"resource": "amd.com/gpu"}))
    assert template_of(api, "amd")["initContainers"][0]["image"] == "docker.io/ollama/ollama:0.17.4-rocm"
    api.apply(endpoint("own-image", gpu={"resource": "amd.com/gpu"}, ollama={"image": "registry.example/ollama:1"}))
    assert template_of(api, "own-image")["initContainers"][0]["image"] == "registry.example/ollama:1"


@pytest.fixture
def pinned(api: Any, operator: Any, start_operator: Callable[..., Any]) -> Iterator[Any]:
    """A namespace with an operator whose default image has a digest. The operator of the other tests pauses."""
    operator.send_signal(signal.SIGSTOP)
    process = start_operator("--namespace", api.namespace, f"--ollama-image={DIGEST}")
    try:
        yield api
        process.terminate()
        assert process.wait(20) == 0
        for item in api.client.items(LLMENDPOINT, api.namespace):
            api.delete(LLMENDPOINT, item["metadata"]["name"])
    finally:
        operator.send_signal(signal.SIGCONT)


def test_an_image_with_a_digest_has_no_variant_for_amd(pinned: Any) -> None:
    pinned.apply(endpoint("amd", gpu={"resource": "amd.com/gpu"}))
    wait_until(lambda: pinned.conditions(LLMENDPOINT, "amd").get("Stalled") == ("True", "InvalidSpec"))
    (stalled,) = [row for row in pinned.get(LLMENDPOINT, "amd")["status"]["conditions"] if row["type"] == "Stalled"]
    assert DIGEST in stalled["message"]
    assert "--ollama-rocm-image" in stalled["message"]
    assert pinned.children() == {}
    # NVIDIA's GPUs need no variant.
    pinned.apply(endpoint("nvidia"))
    assert template_of(pinned, "nvidia")["initContainers"][0]["image"] == DIGEST


@pytest.mark.usefixtures("operator")
def test_a_bundle_of_certificates_is_mounted_into_ollama_alone(api: Any) -> None:
    api.apply(endpoint("private", ollama={"caBundleRef": {"name": "company-ca", "key": "ca.crt"}}))
    spec = template_of(api, "private")
    (volume,) = [item for item in spec["volumes"] if item["name"] == "ca-bundle"]
    assert volume["configMap"]["name"] == "company-ca"
    # Without the bundle, pulls would fail later, so the pods wait for the ConfigMap and its key.
    assert not volume["configMap"].get("optional")
    (ollama,), (sidecar,) = spec["initContainers"], spec["containers"]
    (mount,) = [item for item in ollama["volumeMounts"] if item["name"] == "ca-bundle"]
    variables = {item["name"]: item["value"] for item in ollama["env"]}
    assert variables["SSL_CERT_DIR"].split(":")[0] == mount["mountPath"]
    assert mount["readOnly"] is True
    assert "ca-bundle" not in str(sidecar)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_api_server_accepts_each_sample(api: Any, path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        api.apply(manifest)
