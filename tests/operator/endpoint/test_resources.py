"""Builders as tables: what a spec becomes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llmendpoint_common.api import loadtest
from llmendpoint_common.api.endpoint import parse_spec
from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_common.contracts.sidecar import ModelManagement, SidecarConfig, TenantConfig, TenantLimits
from llmendpoint_operator.endpoint.resources.desired import desired
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.loadtest.resources.job import ResolvedTarget, arguments, job
from llmendpoint_operator.loadtest.resources.rbac import access
from llmendpoint_operator.settings import Images

OWNER = Owner("LLMEndpoint", "ns", "assistant", "uid-1")
IMAGES = Images("sidecar:1", "loadjob:1", "ollama:1", pull_secrets=("regcred",))


def children(**spec: Any) -> dict[str, dict[str, Any]]:
    parsed = parse_spec({"spec": {"models": [{"name": "tiny:latest"}], **spec}})
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in desired(OWNER, parsed, IMAGES)}


def pod(**spec: Any) -> dict[str, Any]:
    return dict(children(**spec)["StatefulSet/assistant"]["spec"]["template"]["spec"])


def load_pod(**spec: Any) -> dict[str, Any]:
    parsed = loadtest.parse_spec({"spec": {"endpointRef": {"name": "assistant"}, **spec}})
    target = ResolvedTarget("http://x", Api.OLLAMA_CHAT, "tiny:latest")
    return dict(job(OWNER, parsed, target, ["q-0"], IMAGES)["spec"]["template"]["spec"])


def test_the_children_of_the_smallest_endpoint() -> None:
    assert set(children()) == {
        "ServiceAccount/assistant", "ConfigMap/assistant", "Service/assistant-pods", "Service/assistant",
        "StatefulSet/assistant", "ServiceMonitor/assistant",
    }  # fmt: skip
    assert "ServiceMonitor/assistant" not in children(monitoring={"mode": "None"})
    for child in children().values():
        (reference,) = child["metadata"]["ownerReferences"]
        assert reference["controller"]
        assert reference["uid"] == "uid-1"


@pytest.mark.parametrize("spec", [pod(), load_pod()])
def test_pods_meet_the_restricted_standard(spec: dict[str, Any]) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    for container in spec["containers"] + spec.get("initContainers", []):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]["memory"]
        assert "cpu" not in container["resources"].get("limits", {})
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


def test_ollama_starts_first_and_has_the_gpu() -> None:
    (ollama,) = pod()["initContainers"]
    assert ollama["restartPolicy"] == "Always"
    assert ollama["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert "memory" not in ollama["resources"]["limits"]
    assert "limits" not in pod(gpu={"count": 0})["initContainers"][0]["resources"]
    spec = pod(gpu={"count": 2, "resource": "amd.com/gpu", "runtimeClassName": "amd", "products": ["X"]})
    assert spec["initContainers"][0]["resources"]["limits"] == {"amd.com/gpu": "2"}
    assert spec["runtimeClassName"] == "amd"
    assert "nodeAffinity" in spec["affinity"]


def test_ollamas_settings_become_its_environment() -> None:
    settings = {"numParallel": 4, "contextLength": 8192, "keepAlive": "1h", "flashAttention": True, "kvCacheType": "q8_0",
                "maxQueue": 9, "env": [{"name": "OLLAMA_DEBUG", "value": "1"}]}  # fmt: skip
    environment = {item["name"]: item["value"] for item in pod(ollama=settings)["initContainers"][0]["env"]}
    assert environment == {
        "OLLAMA_HOST": "127.0.0.1:11434", "OLLAMA_MODELS": "/models", "HOME": "/home/ollama", "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_MAX_LOADED_MODELS": "32", "OLLAMA_MAX_QUEUE": "9", "OLLAMA_CONTEXT_LENGTH": "8192", "OLLAMA_KEEP_ALIVE": "1h",
        "OLLAMA_FLASH_ATTENTION": "1", "OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_DEBUG": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("storage", "templates", "volume"),
    [
        ({"size": "5Gi", "storageClassName": "fast"}, 1, None),
        ({"type": "Ephemeral", "sizeLimit": "2Gi"}, 0, {"name": "models", "emptyDir": {"sizeLimit": "2Gi"}}),
        (
            {"type": "ExistingClaim", "claimName": "c"},
            0,
            {"name": "models", "persistentVolumeClaim": {"claimName": "c"}},
        ),
    ],
)
def test_storage(storage: dict[str, Any], templates: int, volume: dict[str, Any] | None) -> None:
    statefulset = children(storage=storage)["StatefulSet/assistant"]["spec"]
    assert len(statefulset.get("volumeClaimTemplates", [])) == templates
    assert (volume in statefulset["template"]["spec"]["volumes"]) == (volume is not None)


def test_only_the_headless_service_is_scraped_and_clients_reach_the_meter() -> None:
    found = children(service={"port": 80})
    assert found["Service/assistant"]["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": "proxy", "protocol": "TCP"}
    ]
    wanted = found["ServiceMonitor/assistant"]["spec"]["selector"]["matchLabels"].items()
    assert wanted <= found["Service/assistant-pods"]["metadata"]["labels"].items()
    assert not wanted <= found["Service/assistant"]["metadata"]["labels"].items()


def test_a_load_pods_token_may_patch_its_result_and_nothing_else() -> None:
    role = next(item for item in access(OWNER) if item["kind"] == "Role")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["assistant-result-0"], "verbs": ["patch"]}
    ]


def test_a_load_tests_spec_becomes_a_command_line() -> None:
    spec = loadtest.parse_spec(
        {
            "spec": {
                "endpointRef": {"name": "a"},
                "load": {"rate": 2, "arrivals": "Constant", "duration": "1m", "seed": 7, "maxRequests": 9},
                "dataset": {"questions": {"categories": ["Math"], "order": "Sequential"}},
                "request": {"stream": False, "temperature": 0, "maxTokens": 5},
                "slo": [
                    {"metric": "RequestLatency", "percentile": 99, "threshold": "30s"},
                    {"metric": "ErrorRate", "threshold": "1%"},
                ],
            }
        }
    )
    given = arguments(OWNER, spec, ResolvedTarget("http://x", Api.OLLAMA_CHAT, "m:1"))
    wanted = ["--rate=2", "--arrivals=constant", "--duration=1m", "--seed=7", "--max-requests=9", "--category=Math",
              "--slo=request_latency:p99=30s", "--slo=error_rate=1%", "--no-stream", "--in-order", "--temperature=0", "--max-tokens=5"]  # fmt: skip
    assert set(wanted) <= set(given)
    assert not [flag for flag in given if flag.startswith("--concurrency")]


def sidecar_config(**metering: Any) -> SidecarConfig:
    text = children(metering=metering)["ConfigMap/assistant"]["data"]["models.json"]
    return msgspec.json.decode(text, type=SidecarConfig)


def test_an_endpoint_bounds_its_queue_and_forbids_management_unless_told_otherwise() -> None:
    config = sidecar_config()
    assert config.max_waiting == 256
    assert config.model_management is ModelManagement.FORBIDDEN
    assert not config.tenants
    assert sidecar_config(modelManagement="Allowed").model_management is ModelManagement.ALLOWED


def test_limits_reach_the_sidecar_by_its_file_so_that_no_pod_restarts() -> None:
    limits = {
        "tenants": [{"name": "a", "requestsPerMinute": 5, "allowedModels": ["tiny:latest"]}],
        "defaultTenant": {"maxConcurrent": 2},
    }
    auth = {"auth": {"secretRefs": [{"name": "keys"}]}}
    config = sidecar_config(**auth, **limits)
    assert config.tenants == (TenantConfig(name="a", requests_per_minute=5, allowed_models=("tiny:latest",)),)
    assert config.default_tenant == TenantLimits(max_concurrent=2)
    assert pod(metering=auth) == pod(metering={**auth, **limits})


def test_keys_are_mounted_and_a_missing_secret_keeps_no_pod_from_starting() -> None:
    spec = pod(metering={"auth": {"secretRefs": [{"name": "keys"}, {"name": "new-keys"}]}, "timeouts": {"idle": "30s"}})
    secrets = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    assert secrets == [{"secretName": "keys", "optional": True}, {"secretName": "new-keys", "optional": True}]
    (metering,) = spec["containers"]
    assert "--keys=/etc/llmendpoint-keys/0" in metering["args"]
    assert "--keys=/etc/llmendpoint-keys/1" in metering["args"]
    assert "--idle-timeout=30s" in metering["args"]


def test_own_service_names_are_always_allowed_hosts() -> None:
    hosts = sidecar_config(allowedHosts=["llm.example.org"]).allowed_hosts
    assert hosts == ("llm.example.org", "assistant", "assistant.ns", "assistant.ns.svc")
    assert sidecar_config().allowed_hosts == ()


def test_an_exporter_is_out_of_the_path() -> None:
    made = children(metering={"mode": "Exporter"})
    spec = made["StatefulSet/assistant"]["spec"]["template"]["spec"]
    (metering,), (ollama,) = spec["containers"], spec["initContainers"]
    assert "--exporter" in metering["args"]
    assert not [flag for flag in metering["args"] if flag.startswith("--listen")]
    assert {"name": "OLLAMA_HOST", "value": "0.0.0.0:11434"} in ollama["env"]
    # The Service's named port is then Ollama's own.
    (port,) = ollama["ports"]
    assert made["Service/assistant"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert [port["name"] for port in metering["ports"]] == ["metrics"]


def test_a_load_tests_key_is_on_no_command_line() -> None:
    (container,) = load_pod(request={"apiKeySecretRef": {"name": "keys", "key": "a"}})["containers"]
    assert container["env"] == [
        {"name": "LLMENDPOINT_LOAD_API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}}
    ]
    assert not [flag for flag in container["args"] if "key" in flag]
    assert "env" not in load_pod()["containers"][0]
