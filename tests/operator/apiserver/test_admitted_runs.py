"""What the API server admits as a LoadTest, the load generator accepts: no run ends because of its own description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.api.loadtest.spec import Protocol, parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget, run_document
from llmendpoint_common.contracts.cluster import LOADTEST
from llmendpoint_common.contracts.loadrun import Api, write_run_document
from llmendpoint_loadjob.client.requests import RequestWriter
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.settings import parse_settings
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.crd.definitions import custom_resource_definitions
from support.api_server.load_pods import summary
from support.api_server.manifests import loadtest
from support.documents.schema_samples import objects, values

SPEC = next(
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for definition in custom_resource_definitions()
    if definition["spec"]["names"]["kind"] == LOADTEST
)
FIELDS = SPEC["properties"]
#: The pod of the run has no influence on the run document, and its fields are not checked by the load generator.
DESCRIPTION = {**SPEC, "properties": {name: field for name, field in FIELDS.items() if name != "pod"}}
PROMPT = Prompt("q", "Math", (("user", "x"),))
SPECS = st.one_of(
    objects(DESCRIPTION, endpointRef=st.just({"name": "assistant"}), target=st.none()),
    objects(DESCRIPTION, endpointRef=st.none(), target=values(FIELDS["target"]), model=values(FIELDS["model"])),
)


def admitted(api: Any, spec: dict[str, Any]) -> dict[str, Any] | None:
    """Return the spec with the server's defaults, or None if the API server refuses it. Nothing is created."""
    body = loadtest("sample", **{"endpointRef": None, **spec})
    path = KINDS[LOADTEST].path(api.namespace)
    body["metadata"]["namespace"] = api.namespace
    try:
        answer = api.client.request("POST", path, [("dryRun", "All"), ("fieldValidation", "Strict")], body)
    except ApiException:
        return None
    return dict(json.loads(answer)["spec"])


def document_of(spec: dict[str, Any]) -> str:
    """Return the run document as the operator writes it."""
    parsed = parse_spec({"spec": spec})
    if parsed.target is None:
        target = ResolvedTarget("http://assistant.ns.svc:11434", Api.OLLAMA_CHAT, parsed.model or "m:1")
    else:
        api = Api.OPENAI_CHAT if parsed.target.protocol is Protocol.OPENAI else Api.OLLAMA_CHAT
        target = ResolvedTarget(parsed.target.url, api, parsed.model or "")
    return write_run_document(run_document(parsed, target))


def test_the_load_generator_accepts_every_description_that_the_api_server_admits(api: Any, tmp_path: Path) -> None:
    count = 0
    (tmp_path / "summary.json").write_text(summary())
    (tmp_path / "trace.jsonl").write_text('{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": []}\n')

    @settings(max_examples=600, deadline=None, phases=[Phase.generate], derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(SPECS)
    def check(spec: dict[str, Any]) -> None:
        nonlocal count
        found = admitted(api, spec)
        if found is None:
            return
        count += 1
        (tmp_path / "run.json").write_text(document_of(found))
        files = {"baselineRef": ("--baseline", tmp_path / "summary.json")} if "baselineRef" in found else {}
        if "trace" in found.get("dataset", {}):
            files["trace"] = ("--trace", tmp_path / "trace.jsonl")
        named = [str(part) for pair in files.values() for part in pair]
        document = parse_settings(["--run", str(tmp_path / "run.json"), *named], environment={}).document
        head = RequestWriter(parse_target(document.target.url), document).write(PROMPT, "id")
        assert head.startswith(b"POST /")
        assert head.partition(b"\r\n\r\n")[0].isascii()

    check()
    assert count >= 50


@pytest.mark.parametrize("field", ["duration", "warmup"])
def test_a_duration_in_a_file_has_the_bounds_of_the_schema(field: str) -> None:
    with pytest.raises(ValueError, match=f"load.{field}\n.*at most 720h"):
        parse_spec({"spec": {"load": {field: "123456789h"}}})
