"""Builders as tables: what a spec becomes."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_loadjob.contract import Api
from llmendpoint_operator.endpoint.resources.desired import desired
from llmendpoint_operator.endpoint.spec import parse_spec
from llmendpoint_operator.loadtest import spec as loadtest
from llmendpoint_operator.loadtest.resources.access import access
from llmendpoint_operator.loadtest.resources.job import ResolvedTarget, arguments, job
from llmendpoint_operator.owner import Owner
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
