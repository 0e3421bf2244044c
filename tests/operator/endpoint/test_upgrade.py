"""An upgrade of the operator replaces pods only for changes of the pod template that are made on purpose.

`golden/before` has specs and their StatefulSets as an earlier operator rendered them. A difference in the pod template
replaces all pods of all endpoints when the operator is upgraded, and their models are loaded again. It has to be in
`CHANGES` and in the changelog. After a release, its renders replace those in `golden/before`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmendpoint_common.process.version import VERSION
from support.documents.golden import read_spec
from support.in_memory.endpoints import children

BEFORE = Path(__file__).parent / "golden/before"
CHANGELOG = (Path(__file__).parents[3] / "CHANGELOG.md").read_text()
NAMES = sorted(path.name.removesuffix(".spec.yaml") for path in BEFORE.glob("*.spec.yaml"))
#: The changed fields of the pod template, and the words by which the changelog names them.
CHANGES = {
    "spec.containers[metering].env": "how it created models",
    "spec.containers[metering].volumeMounts[models]": "how it created models",
    "spec.containers[metering].terminationMessagePolicy": "termination messages",
    "spec.initContainers[ollama].terminationMessagePolicy": "termination messages",
    "spec.containers[metering].resources.requests.ephemeral-storage": "ephemeral storage",
    "spec.initContainers[ollama].resources.requests.ephemeral-storage": "ephemeral storage",
    "spec.initContainers[ollama].startupProbe.exec.command": "probes of exporters",
    "spec.initContainers[ollama].livenessProbe.exec.command": "probes of exporters",
    "spec.tolerations": "taint of nodes with GPUs",
}


def paths(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each field that differs. Items of lists are identified by their names."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            yield from paths(before.get(name), after.get(name), f"{path}.{name}" if path else name)
    elif _named(before) and _named(after):
        ours, theirs = ({item["name"]: item for item in items} for items in (before, after))
        for name in sorted(ours.keys() | theirs.keys()):
            yield from paths(ours.get(name), theirs.get(name), f"{path}[{name}]")
    elif before != after:
        yield path


def _named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value)


@pytest.mark.parametrize("name", NAMES)
def test_the_pods_of_an_upgraded_endpoint_change_only_on_purpose(name: str) -> None:
    before = yaml.safe_load((BEFORE / f"{name}.yaml").read_text())["spec"]["template"]
    after = children(**read_spec(BEFORE, name))["StatefulSet/assistant"]["spec"]["template"]
    assert set(paths(before, after)) <= CHANGES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_immutable_in_a_statefulset_does_not_change(name: str) -> None:
    before = yaml.safe_load((BEFORE / f"{name}.yaml").read_text())["spec"]
    after = children(**read_spec(BEFORE, name))["StatefulSet/assistant"]["spec"]
    for field in ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"):
        assert after.get(field) == before.get(field)


def test_each_change_is_still_one_and_is_in_the_changelog() -> None:
    found = set()
    for name in NAMES:
        before = yaml.safe_load((BEFORE / f"{name}.yaml").read_text())["spec"]["template"]
        found |= set(paths(before, children(**read_spec(BEFORE, name))["StatefulSet/assistant"]["spec"]["template"]))
    assert found == CHANGES.keys()
    section = CHANGELOG.partition("### Replaces pods\n")[2].partition("\n### ")[0]
    for words in CHANGES.values():
        assert words in section


def test_the_version_of_the_operator_is_in_no_child() -> None:
    for name in NAMES:
        assert VERSION not in str(children(**read_spec(BEFORE, name)))
