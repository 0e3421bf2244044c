"""The manifests of the children of load tests, without a cluster."""

from __future__ import annotations

from typing import Any

from llmendpoint_common.api.loadtest.spec import parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget
from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.loadtest.desired import desired
from llmendpoint_operator.loadtest.resources.copies import Sources
from llmendpoint_operator.settings import ChildSettings, Images

OWNER = Owner("LoadTest", "ns", "smoke", "uid-1")
SETTINGS = ChildSettings(Images("sidecar:1", "loadjob:1", "ollama:1", pull_secrets=("regcred",)))
ENDPOINT = ResolvedTarget(
    "http://assistant.ns.svc:11434", Api.OLLAMA_CHAT, "tiny:latest", "sha256:1", "1 nvidia.com/gpu"
)
QUESTIONS = {"metadata": {"name": "coding"}, "data": {"coding.yaml": "category: Coding\n", "README": "not a question"}}

TRACE = {"metadata": {"name": "traces"}, "data": {"a.jsonl": "{}\n", "other": "not used"}}


def children(spec: dict[str, Any], target: ResolvedTarget = ENDPOINT) -> dict[str, dict[str, Any]]:
    """Return the children of the load test, by "Kind/name"."""
    parsed = parse_spec({"spec": spec})
    sources = Sources(
        () if parsed.dataset.synthetic or parsed.dataset.trace else [QUESTIONS],
        TRACE if parsed.dataset.trace else None,
        "{}" if parsed.baseline_ref else None,
    )
    manifests = desired(OWNER, parsed, target, sources, SETTINGS)
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in manifests}
