"""No field of an LLMEndpoint is accepted and ignored: each one is in a golden spec, and changes an object of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmendpoint_common.api.endpoint.spec import parse_spec
from llmendpoint_common.contracts.cluster import LLMENDPOINT
from llmendpoint_operator.settings import Actuator
from support.documents.fields import Place, leaves, other_values, places, spec_schema
from support.documents.golden import read_spec
from support.in_memory.endpoints import SETTINGS, children

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = spec_schema(LLMENDPOINT)
#: Fields that are in the schema so that a rule refuses them, also for clients that do not validate strictly.
REFUSED = {"spec.podTemplate.metadata"}
FIELDS = {path: field for path, field in leaves(SCHEMA) if path not in REFUSED}
SPECS = {path.name.removesuffix(".spec.yaml"): path for path in sorted(GOLDEN.glob("*.spec.yaml"))}

SCALED = replace(SETTINGS, actuator=Actuator.KEDA, prometheus_url="http://prometheus.monitoring.svc:9090")

#: Fields that change no object of the endpoint, and the reason.
WITHOUT_OBJECT: dict[str, str] = {
    path: "it has only one value" for path in FIELDS if path.endswith((".matchFields.key", ".emptyDir.medium"))
}
#: Fields that no golden spec has, because the operator replaces them before it renders (`endpoint/test_modelfiles.py`).
RESOLVED_BEFORE = {path for path in FIELDS if path.startswith("spec.models.modelfile.configMapKeyRef.")}


def examples() -> dict[str, list[tuple[str, Place]]]:
    """Return where each field is in the golden specs, by its path."""
    found: dict[str, list[tuple[str, Place]]] = {path: [] for path in FIELDS}
    for name in SPECS:
        for place in places(SCHEMA, read_spec(GOLDEN, name)):
            found[place.path].append((name, place))
    return found


EXAMPLES = examples()


def test_each_field_is_in_a_golden_spec() -> None:
    assert [path for path, found in EXAMPLES.items() if not found and path not in RESOLVED_BEFORE] == []


@pytest.mark.parametrize("path", sorted(path for path, found in EXAMPLES.items() if found), ids=str)
def test_each_field_changes_an_object(path: str) -> None:
    changes = any(changes_an_object(read_spec(GOLDEN, name), place) for name, place in EXAMPLES[path])
    if path in WITHOUT_OBJECT:
        assert not changes, f"{path} changes an object now; remove it from WITHOUT_OBJECT"
    else:
        assert changes, f"{path} is accepted, but no object of the endpoint depends on it"


def changes_an_object(spec: dict[str, Any], place: Place) -> bool:
    """Return whether an object of the endpoint is another one with another value of a field."""
    before = children(SCALED, **spec)
    return any(children(SCALED, **other) != before for other in others(spec, place))


def others(spec: dict[str, Any], place: Place) -> Iterator[dict[str, Any]]:
    for value in other_values(place.schema, place.value(spec)):
        other = place.changed(spec, value)
        try:
            parse_spec({"spec": other})
        except ValidationError:
            continue
        yield other


#: Fields that are as long as their pattern says, or that are unbounded in Kubernetes too.
UNBOUNDED = {"spec.models.digest", "spec.pod.tolerations.tolerationSeconds", *WITHOUT_OBJECT}


def bounds(schema: dict[str, Any]) -> Iterator[str]:
    """Yield what is not bounded in a field: the cost of rules, and the size of objects, depend on it."""
    if "enum" in schema or schema.get("type") == "boolean":
        return
    if schema.get("type") == "string" or schema.get("x-kubernetes-int-or-string"):
        # Some patterns are lists of words.
        if "maxLength" not in schema and not schema.get("pattern", "").startswith("^("):
            yield "a string without maxLength"
    elif schema.get("type") == "integer":
        yield from (f"an integer without {bound}" for bound in ("minimum", "maximum") if bound not in schema)
    elif schema.get("type") == "array" and "maxItems" not in schema:
        yield "a list without maxItems"


@pytest.mark.parametrize("path", ["spec.pod.imagePullSecrets.name", "spec.metering.auth.secretRefs.name"])
def test_the_name_of_a_secret_is_described_as_one(path: str) -> None:
    assert "Secret" in FIELDS[path]["description"]


@pytest.mark.parametrize("path", sorted(FIELDS), ids=str)
def test_each_field_is_described_and_bounded(path: str) -> None:
    schema = FIELDS[path]
    assert schema.get("description", "").endswith("."), f"{path} has no sentence for kubectl explain"
    assert path in UNBOUNDED or list(bounds(schema)) == []
