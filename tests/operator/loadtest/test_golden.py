"""Golden renders: all children of whole load tests, as they are sent to the API server.

`golden/NAME.spec.yaml` is the spec, `golden/NAME.yaml` its children in apply order. With UPDATE_GOLDEN=1 in the
environment the test writes the renders instead of comparing them; review the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmendpoint_common.api.loadtest import parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget, run_document
from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.loadtest.resources.job import job
from llmendpoint_operator.loadtest.resources.questions import snapshot
from llmendpoint_operator.loadtest.resources.rbac import access
from llmendpoint_operator.loadtest.resources.run import run_config_map
from llmendpoint_operator.settings import Images

GOLDEN = Path(__file__).parent / "golden"
HEADER = (
    "# Rendered from {name}.spec.yaml by tests/operator/loadtest/test_golden.py; UPDATE_GOLDEN=1 rewrites it.\n---\n"
)
OWNER = Owner("LoadTest", "ns", "smoke", "uid-1")
IMAGES = Images("sidecar:1", "loadjob:1", "ollama:1", pull_secrets=("regcred",))
TARGET = ResolvedTarget("http://assistant.ns.svc:11434", Api.OLLAMA_CHAT, "tiny:latest", "sha256:1", "1 nvidia.com/gpu")
QUESTIONS = {"metadata": {"name": "coding"}, "data": {"coding.yaml": "category: Coding\n", "README": "not a question"}}


class Dumper(yaml.SafeDumper):
    """YAML without aliases, with long texts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Dumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Dumper.add_representer(str, _text)


def children(name: str) -> list[dict[str, Any]]:
    spec = parse_spec({"spec": yaml.safe_load((GOLDEN / f"{name}.spec.yaml").read_text())})
    questions = snapshot(OWNER, [QUESTIONS])
    names = [item["metadata"]["name"] for item in questions]
    run = run_config_map(OWNER, run_document(spec, TARGET))
    return [run, *questions, *access(OWNER), job(OWNER, spec, names, IMAGES)]


@pytest.mark.parametrize("name", ["minimal", "everything"])
def test_a_load_test_renders_as_before(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        text = yaml.dump_all(children(name), Dumper=Dumper, sort_keys=False, width=110)
        path.write_text(HEADER.format(name=name) + text)
    # Compared as data, because the order of fields has no meaning.
    assert children(name) == list(yaml.safe_load_all(path.read_text()))
