"""Golden renders: all children of whole endpoints, as they are sent to the API server.

`golden/NAME.spec.yaml` is the spec, `golden/NAME.yaml` its children in apply order. With UPDATE_GOLDEN=1 in the
environment the test writes the renders instead of comparing them; review the difference before you commit it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from llmendpoint_common.api.endpoint import LLMEndpointSpec
from support.endpoints import children

GOLDEN = Path(__file__).parent / "golden"
HEADER = (
    "# Rendered from {name}.spec.yaml by tests/operator/endpoint/test_golden.py; UPDATE_GOLDEN=1 rewrites it.\n---\n"
)


class Dumper(yaml.SafeDumper):
    """YAML without aliases, with long texts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Dumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Dumper.add_representer(str, _text)


def spec_of(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((GOLDEN / f"{name}.spec.yaml").read_text()))


def rendered(name: str) -> str:
    manifests = children(**spec_of(name)).values()
    return HEADER.format(name=name) + yaml.dump_all(manifests, Dumper=Dumper, sort_keys=False, width=110)


@pytest.mark.parametrize("name", ["minimal", "cpu", "exporter", "everything"])
def test_an_endpoint_renders_as_before(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(rendered(name))
    # Compared as data, because the order of fields has no meaning.
    assert list(children(**spec_of(name)).values()) == list(yaml.safe_load_all(path.read_text()))


def test_every_field_of_the_spec_is_in_everything() -> None:
    # The other golden renders have the fields of the other storage types.
    of_another_type = {"spec.storage.claimName", "spec.storage.sizeLimit"}
    assert set(absent(LLMEndpointSpec, spec_of("everything"), "spec")) == of_another_type


def absent(model: type[BaseModel], given: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the path of each field that is not given."""
    for field in model.model_fields.values():
        name = f"{path}.{field.alias}"
        value = given.get(str(field.alias))
        kind = model_of(field.annotation)
        if value is None:
            yield name
        elif kind is not None:
            # The first item of a list has all fields; the others omit optional ones.
            yield from absent(kind, value[0] if isinstance(value, list) else value, name)


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model in the type of a field, such as `Auth | None` or `list[Model]`."""
    kinds = [annotation, *get_args(annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
