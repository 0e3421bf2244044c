"""Builders of a load run's children."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_common.api import loadtest
from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.loadtest.resources.job import ResolvedTarget, arguments, job
from llmendpoint_operator.loadtest.resources.rbac import access
from llmendpoint_operator.settings import Images

OWNER = Owner("LLMEndpoint", "ns", "assistant", "uid-1")
IMAGES = Images("sidecar:1", "loadjob:1", "ollama:1", pull_secrets=("regcred",))


def load_pod(**spec: Any) -> dict[str, Any]:
    parsed = loadtest.parse_spec({"spec": {"endpointRef": {"name": "assistant"}, **spec}})
    target = ResolvedTarget("http://x", Api.OLLAMA_CHAT, "tiny:latest")
    return dict(job(OWNER, parsed, target, ["q-0"], IMAGES)["spec"]["template"]["spec"])


@pytest.mark.parametrize("spec", [load_pod()])
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


def test_a_load_tests_key_is_on_no_command_line() -> None:
    (container,) = load_pod(request={"apiKeySecretRef": {"name": "keys", "key": "a"}})["containers"]
    assert container["env"] == [
        {"name": "LLMENDPOINT_LOAD_API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}}
    ]
    assert not [flag for flag in container["args"] if "key" in flag]
    assert "env" not in load_pod()["containers"][0]
