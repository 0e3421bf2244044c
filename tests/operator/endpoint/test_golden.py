"""Golden renders of whole endpoints (`support/documents/golden.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from llmendpoint_common.api.endpoint.scaling import Autoscaling
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.settings import Actuator
from support.documents.golden import assert_golden, read_spec
from support.in_memory.endpoints import SETTINGS, children

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["minimal", "cpu", "amd", "claims", "exporter", "models", "placement", "everything"])
def test_an_endpoint_renders_as_before(name: str) -> None:
    assert_golden(GOLDEN, name, list(children(**read_spec(GOLDEN, name)).values()))


@pytest.mark.parametrize("actuator", Actuator)
def test_an_endpoint_that_follows_its_load_renders_as_before(actuator: Actuator) -> None:
    name = actuator.lower()
    settings = replace(SETTINGS, actuator=actuator, prometheus_url="http://prometheus.monitoring.svc:9090")
    assert_golden(GOLDEN, name, list(children(settings, **read_spec(GOLDEN, name)).values()))


def test_every_field_of_the_spec_is_in_everything() -> None:
    # The other golden renders have the fields of the other storage types, claims instead of a number of GPUs, autoscaling
    # instead of a number of replicas, and models from files. The operator replaces a ConfigMap with a Modelfile by its
    # text before it renders.
    of_another_type = {
        "spec.storage.claimName",
        "spec.storage.sizeLimit",
        "spec.gpu.resourceClaims",
        "spec.models.source.gguf",
        "spec.models.modelfile.configMapKeyRef",
        "spec.autoscaling",
    }
    assert set(absent(LLMEndpointSpec, read_spec(GOLDEN, "everything"), "spec")) == of_another_type
    assert not set(absent(Autoscaling, read_spec(GOLDEN, "keda")["autoscaling"], ""))


def absent(model: type[BaseModel], given: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the path of each field that is not given. A model that occurs in several places is given in one of them."""
    places: dict[type[BaseModel], str] = {}
    found: dict[type[BaseModel], set[str]] = {}

    def visit(model: type[BaseModel], values: dict[str, Any], path: str) -> None:
        places.setdefault(model, path)
        found.setdefault(model, set()).update(values)
        for field in model.model_fields.values():
            value, kind = values.get(str(field.alias)), model_of(field.annotation)
            if kind is not None and value is not None:
                for item in value if isinstance(value, list) else [value]:
                    visit(kind, item, f"{path}.{field.alias}")

    visit(model, given, path)
    for kind, names in found.items():
        yield from (f"{places[kind]}.{field.alias}" for field in kind.model_fields.values() if field.alias not in names)


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model in the type of a field, such as `Auth | None` or `list[Model]`."""
    kinds = [annotation, *get_args(annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
