"""The LLMEndpoint of `llmendpoint up -f`: errors with file, line and field, and the fields that are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmendpoint_cli.manifest.endpoint import Endpoint, read_endpoint
from llmendpoint_cli.manifest.left_out import HONOURED, LEFT_OUT, left_out
from llmendpoint_common.api.endpoint.gpu import Gpu
from llmendpoint_common.api.endpoint.metering import Metering
from llmendpoint_common.api.endpoint.ollama import OllamaSettings
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.endpoint.storage import Storage
from llmendpoint_common.process.errors import ManifestError

HEAD = """apiVersion: llmendpoint.dev/v1alpha1
kind: LLMEndpoint
metadata:
  name: assistant
spec:
"""
MODELS = """  models:
    - name: llama3.2:1b
"""


def read(folder: Path, spec: str, head: str = HEAD) -> Endpoint:
    path = folder / "e.yaml"
    path.write_text(head + spec)
    return read_endpoint(path)


def errors(folder: Path, spec: str, head: str = HEAD) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read(folder, spec, head)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_a_manifest_for_the_cluster_is_read(tmp_path: Path) -> None:
    sample = Path(__file__).parents[3] / "manifests" / "samples" / "llmendpoint.yaml"
    assert read_endpoint(sample).name == "assistant"


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("  models: []\n", "e.yaml:6: spec.models: must have at least 1 item"),
        ("  replicas: 1\n", "e.yaml:5: spec.models: is required"),
        (MODELS + "  ollama:\n    numParalel: 4\n",
         "e.yaml:9: spec.ollama.numParalel: is not a field; did you mean numParallel?"),
        (MODELS + "  ollama:\n    numParallel: many\n", "e.yaml:9: spec.ollama.numParallel: must be a whole number"),
        ("  models:\n    - name: llama3.2:1b\n      load: Sometimes\n",
         "e.yaml:8: spec.models[0].load: must be 'Preload' or 'OnDemand'"),
        (MODELS + "  metering:\n    tenants:\n      - name: a\n",
         "e.yaml:9: spec.metering.tenants: requires auth, because tenants are identified by their API keys"),
        (MODELS + "  metering:\n    timeouts:\n      idle: 0s\n",
         "e.yaml:10: spec.metering.timeouts.idle: must be longer than 0 and at most 720h (30 days)"),
        (MODELS + "  ollama:\n    env:\n      - name: LD_PRELOAD\n        value: x\n",
         "e.yaml:10: spec.ollama.env[0].name: LD_PRELOAD is not allowed, because it loads code into the Ollama that is "
         "metered"),
        (MODELS + "  ollama:\n    env:\n      - name: OLLAMA_NUM_PARALLEL\n        value: '3'\n",
         "e.yaml:10: spec.ollama.env[0].name: OLLAMA_NUM_PARALLEL has a field; set spec.ollama.numParallel instead"),
        (MODELS + "    - name: LLAMA3.2:1b\n",
         "e.yaml:6: spec.models: llama3.2:1b and LLAMA3.2:1b are one model for Ollama; remove one of them"),
        (MODELS + "  models: []\n", "e.yaml:8: the field models occurs twice"),
        (MODELS + "  ollama: {numParallel: [\n", "e.yaml:9: not YAML: expected the node content, but found '<stream end>'"),
        (MODELS + "status: {}\nspecs: 1\n", "e.yaml:9: specs: is not a field; did you mean spec?"),
        (MODELS + "  metering:\n    mode: Exporter\n    maxWaiting: 3\n",
         "e.yaml:10: spec.metering.maxWaiting: is only allowed with mode Proxy"),
    ],
)  # fmt: skip
def test_an_error_names_file_line_and_field(tmp_path: Path, spec: str, sentence: str) -> None:
    assert errors(tmp_path, spec) == [sentence]


def test_all_errors_are_reported(tmp_path: Path) -> None:
    found = errors(tmp_path, MODELS + "  replicas: -1\n  gpus: 1\n", HEAD.replace("v1alpha1", "v2"))
    assert [line.partition(": ")[0] for line in found] == ["e.yaml:1", "e.yaml:8", "e.yaml:9"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "e.yaml:1: there is no LLMEndpoint in this file; it has nothing"),
        ("kind: LoadTest\n", "e.yaml:1: there is no LLMEndpoint in this file; it has LoadTest"),
        ("a: \ud83d", "e.yaml:1: not YAML"),
        (
            f"{HEAD}{MODELS}---\n{HEAD}{MODELS}",
            "e.yaml:9: the file has 2 objects of kind LLMEndpoint; one machine runs one",
        ),
    ],
)
def test_a_file_needs_exactly_one_endpoint(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "e.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ManifestError) as caught:
        read_endpoint(path)
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(sentence)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"e\.yaml: No such file or directory"):
        read_endpoint(tmp_path / "e.yaml")


def test_a_modelfile_is_read_from_a_config_map_in_the_file(tmp_path: Path) -> None:
    spec = """  models:
    - name: mine:latest
      modelfile:
        configMapKeyRef: {name: texts, key: Modelfile}
"""
    config_map = "---\nkind: ConfigMap\nmetadata: {name: texts}\ndata:\n  Modelfile: FROM llama3.2:1b\n"
    endpoint = read(tmp_path, spec + config_map + "---\nkind: LoadTest\nmetadata: {name: smoke}\n")
    assert endpoint.spec.models[0].modelfile is not None
    assert endpoint.spec.models[0].modelfile.inline == "FROM llama3.2:1b"
    assert endpoint.others == ("LoadTest/smoke: llmendpoint load runs load tests on this machine",)
    assert errors(tmp_path, spec)[0].startswith(
        "e.yaml:9: spec.models[0].modelfile.configMapKeyRef: there is no ConfigMap"
    )


def test_every_field_of_the_schema_is_honoured_or_left_out() -> None:
    deep: dict[str, Any] = {"gpu": Gpu, "ollama": OllamaSettings, "storage": Storage, "metering": Metering}
    fields: set[tuple[str, ...]] = set()
    for info in LLMEndpointSpec.model_fields.values():
        name = str(info.alias)
        inner = deep[name].model_fields.values() if name in deep else ()
        fields |= {(name, str(each.alias)) for each in inner} or {(name,)}
    assert fields == set(HONOURED) | {path for path in LEFT_OUT if path != ("metering", "stall", "restart")}


def test_what_is_left_out_is_named_with_line_and_reason(tmp_path: Path) -> None:
    endpoint = read(
        tmp_path,
        MODELS
        + """  replicas: 3
  gpu:
    count: 2
  metering:
    auth:
      secretRefs: [{name: keys}]
    tenants:
      - name: a
  networkPolicy:
    enabled: true
""",
    )
    found = list(left_out(endpoint, has_keys=False, ollama_variables={"OLLAMA_NUM_PARALLEL": "4"}))
    assert found[0].startswith("spec.replicas (line 8): one machine has one Ollama")
    assert [line.partition(":")[0] for line in found] == [
        "spec.replicas (line 8)", "spec.gpu.count (line 10)", "spec.networkPolicy (line 16)", "spec.metering.auth (line 12)",
        "spec.metering.tenants (line 14)",
        "OLLAMA_NUM_PARALLEL=4 cannot be set in an Ollama that already runs; set it in its environment, and restart it, for "
        "example with `systemctl edit ollama`",
    ]  # fmt: skip
    assert not [line for line in left_out(endpoint, has_keys=True, ollama_variables={}) if "metering" in line]
