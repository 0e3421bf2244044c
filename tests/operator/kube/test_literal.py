"""Pods whose command lines and environments Kubernetes passes on as written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_operator.kube.literal import literal, literal_pod
from support.documents.expansion import expand, expanded_texts, references


@given(st.text(alphabet="$()aB\n", max_size=12))
def test_kubernetes_makes_the_original_of_every_text(text: str) -> None:
    assert expand(literal(text), lambda name: pytest.fail(f"{name} is replaced")) == text


@pytest.mark.parametrize(
    ("text", "names"),
    [("$(A)", ["A"]), ("$$(A)", []), ("$$$(A)", ["A"]), ("$A", []), ("$(A", []), ("$", []), ("a$(A)b$(B)", ["A", "B"])],
)
def test_the_model_of_kubernetes_replaces_what_its_documentation_says(text: str, names: list[str]) -> None:
    assert references(text) == names


def test_every_text_that_kubernetes_would_replace_is_literal() -> None:
    probe = {"exec": {"command": ["$(A)"]}, "periodSeconds": 1}
    container: dict[str, Any] = {
        "name": "a",
        "command": ["$(A)"],
        "args": ["$(A)", "plain"],
        "env": [{"name": "A", "value": "$(B)"}, {"name": "B", "valueFrom": {}}],
        "startupProbe": probe,
        "readinessProbe": {"httpGet": {"path": "/"}},
        "livenessProbe": probe,
    }
    pod = literal_pod({"containers": [container], "initContainers": [container], "restartPolicy": "Never"})
    texts = dict(expanded_texts(pod))
    assert set(texts.values()) == {"$$(A)", "$$(B)", "plain", ""}
    assert pod["restartPolicy"] == "Never"
    assert pod["containers"][0]["readinessProbe"] == {"httpGet": {"path": "/"}}
