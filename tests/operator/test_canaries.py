"""No text of a spec is replaced by Kubernetes, whichever field it is in, and no container gets a Secret as a variable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmendpoint_common.api.loadtest.spec import parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget
from llmendpoint_common.contracts.loadrun import Api
from support.documents.canaries import planted
from support.documents.expansion import expand, expanded_texts
from support.documents.golden import read_spec
from support.in_memory import endpoints, loadtests

GOLDENS = Path(__file__).parent
CANARIES = ("$(CANARY)", "$(LLMENDPOINT_LOAD_API_KEY)", "$$$(OLLAMA_MODELS)")


def endpoint_children(spec: dict[str, Any]) -> dict[str, Any]:
    return endpoints.children(**spec)


def loadtest_children(spec: dict[str, Any]) -> dict[str, Any]:
    parsed = parse_spec({"spec": spec})
    target = parsed.target
    resolved = ResolvedTarget(target.url, Api.OLLAMA_CHAT, parsed.model or "") if target else loadtests.ENDPOINT
    return loadtests.children(spec, resolved)


def everything(kind: str) -> dict[str, Any]:
    return read_spec(GOLDENS / kind / "golden", "everything")


def pods(children: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for manifest in children.values():
        if "template" in manifest.get("spec", {}):
            yield manifest["spec"]["template"]["spec"]


EXTERNAL = {**everything("loadtest"), "endpointRef": None, "target": {"url": "http://x/y", "protocol": "OpenAI"}}
SPECS = [
    pytest.param(everything("endpoint"), endpoint_children, {"spec.ollama.env[0].value"}, id="LLMEndpoint"),
    pytest.param(everything("loadtest"), loadtest_children, {"spec.dataset.questions.categories[0]"}, id="LoadTest"),
    pytest.param(EXTERNAL, loadtest_children, {"spec.target.url", "spec.model"}, id="LoadTest of another server"),
]


@pytest.mark.parametrize("canary", CANARIES)
@pytest.mark.parametrize(("spec", "children_of", "open_fields"), SPECS)
def test_kubernetes_replaces_nothing_in_any_field(
    spec: dict[str, Any], children_of: Callable[[dict[str, Any]], dict[str, Any]], open_fields: set[str], canary: str
) -> None:
    accepted = set()
    for place, changed in planted(spec, canary):
        try:
            children = children_of(changed)
        except ValidationError:
            continue
        accepted.add(place)
        for pod in pods(children):
            for where, text in expanded_texts(pod):
                expand(text, lambda name, where=where, place=place: pytest.fail(f"{place}: {name} in {where}"))  # type: ignore[misc]
    # These fields take any text, so the test has seen it in a manifest.
    assert accepted >= open_fields


@pytest.mark.parametrize(("spec", "children_of", "_open"), SPECS)
def test_no_container_has_a_secret_in_its_environment(
    spec: dict[str, Any], children_of: Callable[[dict[str, Any]], dict[str, Any]], _open: set[str]
) -> None:
    for pod in pods(children_of(spec)):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert not [source for source in container.get("envFrom", []) if "secretRef" in source]
            origins = [variable.get("valueFrom", {}) for variable in container.get("env", [])]
            assert not [origin for origin in origins if "secretKeyRef" in origin]


def test_a_variable_of_a_spec_cannot_show_or_replace_ours() -> None:
    given = [{"name": "MINE", "value": "$(OLLAMA_MODELS)"}, {"name": "OLLAMA_HOST", "value": "0.0.0.0"}]
    (container,) = endpoints.pod(ollama={"env": given})["initContainers"]
    variables = {item["name"]: expand(item["value"], str.upper) for item in container["env"]}
    assert variables["MINE"] == "$(OLLAMA_MODELS)"
    assert variables["OLLAMA_HOST"] == "127.0.0.1:11434"


RESERVED = {"llmendpoint.dev/endpoint": "x", "llmendpoint.dev/loadtest": "x", "app.kubernetes.io/component": "x"}


@pytest.mark.parametrize(
    ("children", "labels"),
    [
        (
            endpoint_children(
                {**everything("endpoint"), "pod": {"labels": RESERVED}, "monitoring": {"labels": RESERVED}}
            ),
            {"llmendpoint.dev/endpoint": "assistant"},
        ),
        (
            loadtest_children({**everything("loadtest"), "pod": {"labels": RESERVED}}),
            {"llmendpoint.dev/loadtest": "smoke"},
        ),
    ],
)
def test_labels_of_a_spec_do_not_reach_what_the_operator_selects(
    children: dict[str, Any], labels: dict[str, str]
) -> None:
    for manifest in children.values():
        metadata = [
            manifest["metadata"],
            manifest.get("spec", {}).get("template", {}).get("metadata", {"labels": labels}),
        ]
        for item in metadata:
            ours = {name: value for name, value in item["labels"].items() if name.startswith("llmendpoint.dev/")}
            ours.pop("llmendpoint.dev/scrape", None)
            assert ours == labels
            assert item["labels"].get("app.kubernetes.io/component") != "x"
