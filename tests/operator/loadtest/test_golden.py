"""Golden renders of whole load tests (`support/golden.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.api.loadtest import parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget, run_document
from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.loadtest.resources.job import job
from llmendpoint_operator.loadtest.resources.questions import snapshot
from llmendpoint_operator.loadtest.resources.rbac import access
from llmendpoint_operator.loadtest.resources.run import run_config_map
from llmendpoint_operator.settings import Images
from support.golden import assert_golden, read_spec

GOLDEN = Path(__file__).parent / "golden"
OWNER = Owner("LoadTest", "ns", "smoke", "uid-1")
IMAGES = Images("sidecar:1", "loadjob:1", "ollama:1", pull_secrets=("regcred",))
TARGET = ResolvedTarget("http://assistant.ns.svc:11434", Api.OLLAMA_CHAT, "tiny:latest", "sha256:1", "1 nvidia.com/gpu")
QUESTIONS = {"metadata": {"name": "coding"}, "data": {"coding.yaml": "category: Coding\n", "README": "not a question"}}


def children(name: str) -> list[dict[str, Any]]:
    spec = parse_spec({"spec": read_spec(GOLDEN, name)})
    questions = snapshot(OWNER, [QUESTIONS])
    names = [item["metadata"]["name"] for item in questions]
    run = run_config_map(OWNER, run_document(spec, TARGET))
    return [run, *questions, *access(OWNER), job(OWNER, spec, names, IMAGES)]


@pytest.mark.parametrize("name", ["minimal", "everything"])
def test_a_load_test_renders_as_before(name: str) -> None:
    assert_golden(GOLDEN, name, children(name))
