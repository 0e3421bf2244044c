"""The generated reference: resources, values of the chart, programs and metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from reference.markdown import anchor, bounds, code, plain, table
from reference.metrics import metrics_page
from reference.programs import programs_page
from reference.resources import resource_page
from reference.values import chart_values, values_page

from llmendpoint_operator.crd.definitions import custom_resource_definitions
from llmendpoint_operator.settings import command_line
from support.servers import StartSidecar, StartSimulator

CHART = Path(__file__).parents[2] / "charts" / "llmendpoint"
DEFINITIONS = {item["spec"]["names"]["kind"]: item for item in custom_resource_definitions()}


def nodes(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all fields of a schema."""
    for name, child in schema.get("properties", {}).items():
        yield name, child
        yield from nodes(child)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key])


def definition(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a CRD with one kind of spec."""
    empty = {"type": "object", "description": "Status.", "properties": {}}
    schema = {"type": "object", "description": "A thing.", "properties": {"spec": spec, "status": empty}}
    version = {"name": "v1", "schema": {"openAPIV3Schema": schema}, "additionalPrinterColumns": []}
    names = {"kind": "Thing", "plural": "things", "singular": "thing", "shortNames": ["th"]}
    return {"spec": {"group": "example.com", "names": names, "versions": [version]}}


def row(page: str, name: str) -> str:
    (found,) = [line for line in page.splitlines() if line.startswith(f"| `{name}`")]
    return found


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_the_page_of_a_resource_has_each_field_with_its_description(kind: str) -> None:
    page = resource_page(DEFINITIONS[kind])
    schema = DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        for name, node in nodes(schema["properties"][part]):
            assert re.search(rf"^\| `{re.escape(name)}`( \*\*required\*\*)? \| ", page, re.MULTILINE), name
            assert plain(node["description"]).replace("|", r"\|") in page, name


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_no_two_sections_of_a_page_have_one_anchor(kind: str) -> None:
    found = [anchor(heading) for heading in re.findall(r"^#+ (.+)$", resource_page(DEFINITIONS[kind]), re.MULTILINE)]
    assert len(found) == len(set(found))


def test_a_field_shows_its_type_default_bounds_and_rules() -> None:
    fields = {
        "size": {
            "type": "integer",
            "format": "int32",
            "description": "Size.",
            "minimum": 1,
            "maximum": 9,
            "default": 3,
        },
        "mode": {"type": "string", "description": "Mode. Defaults to A.", "enum": ["A", "B|C"], "default": "A"},
        "names": {
            "type": "array",
            "description": "Names.",
            "maxItems": 1,
            "items": {"type": "string", "pattern": "^a|b$"},
            "x-kubernetes-list-type": "set",
            "x-kubernetes-validations": [{"rule": "size(self) > 0", "message": "set a name"}, {"rule": "self != []"}],
        },
        "rest": {"type": "object", "description": "Rest.", "x-kubernetes-preserve-unknown-fields": True},
    }
    page = resource_page(
        definition({"type": "object", "description": "Spec.", "required": ["size"], "properties": fields})
    )
    assert row(page, "size") == "| `size` **required** | integer (int32) | Size.<br>1 to 9.<br>Default: `3`. |"
    assert row(page, "mode") == r"| `mode` | string | Mode. Defaults to A.<br>One of `A`, `B\|C`. |"
    assert row(page, "names") == (
        r"| `names` | list of string | Names.<br>At most 1 item.<br>Items are distinct.<br>Each item: matches `^a\|b$`."
        "<br>Rule: set a name.<br>Rule: `self != []`. |"
    )
    assert row(page, "rest") == "| `rest` | object with any fields | Rest. |"


def test_objects_with_the_same_fields_share_a_section() -> None:
    shared = {"type": "object", "properties": {"cpu": {"type": "string", "description": "CPU."}}}
    fields = {name: {**shared, "description": f"The {name}."} for name in ("first", "second")}
    page = resource_page(definition({"type": "object", "description": "Spec.", "properties": fields}))
    assert page.count("| `cpu` ") == 1
    assert page.count("[object](#specfirst)") == 2


def test_an_object_that_accepts_other_fields_says_so() -> None:
    open_object = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {"name": {"type": "string", "description": "Name."}},
    }
    items = {"type": "array", "description": "Items.", "items": open_object}
    page = resource_page(definition({"type": "object", "description": "Spec.", "properties": {"items": items}}))
    assert "## spec.items[]\n\nOther fields are accepted too.\n\n| field |" in page
    assert "\n\n\n" not in page


def test_each_value_of_the_chart_is_described() -> None:
    page = values_page(CHART)
    for value in chart_values(CHART):
        assert row(page, value.path)
    assert "Defaults to" not in page


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("new: 1\n", "values.schema.json has no new"),
        ("known: 1\n", "values.yaml has no description of known"),
        ("# -- About something else\nother: 1\nknown: 1\n", "values.yaml has no description of known"),
    ],
)
def test_a_value_without_description_or_schema_is_an_error(tmp_path: Path, values: str, sentence: str) -> None:
    (tmp_path / "values.yaml").write_text(values)
    (tmp_path / "values.schema.json").write_text('{"properties": {"known": {}, "other": {}}}')
    with pytest.raises(ValueError, match=re.escape(sentence)):
        values_page(tmp_path)


def test_a_description_may_have_several_lines(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("a:\n  # Not part of it\n\n  # -- First line,\n  # second line\n  b: [x]\n")
    (tmp_path / "values.schema.json").write_text(
        '{"properties": {"a": {"properties": {"b": {"type": "array", "items": {"pattern": "x"}}}}}}'
    )
    (value,) = chart_values(tmp_path)
    assert value == ("a.b", "array", ["x"], "First line, second line", ("Each item matches `x`.",))


def test_the_page_of_the_programs_has_each_option_with_its_variable() -> None:
    page = programs_page()
    for options in command_line().groups.values():
        for option in options:
            assert f"| `{option.variable}` |" in page
    assert "| `--namespace NAME` | `LLMENDPOINT_OPERATOR_NAMESPACE` |  | namespace to watch;" in page
    assert "| `--tokens N` | `LLMENDPOINT_SIMULATOR_TOKENS` | `50` | number of tokens in a response |" in page
    assert re.search(r"^\| `--category NAME` .* \(repeatable\) \|$", page, re.MULTILINE)


async def test_the_page_of_the_metrics_has_each_metric_of_a_running_sidecar(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    page = metrics_page()
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    body = {"model": "simulated", "messages": [{"role": "user", "content": "hello"}]}
    async with http.post(f"http://127.0.0.1:{sidecar.port}/api/chat", json=body) as response:
        await response.read()
    async with http.get(f"http://127.0.0.1:{sidecar.admin_port}/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    ours = [family for family in families if family.name.startswith("llmendpoint_")]
    assert len(ours) > 20
    for family in ours:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        cells = row(page, name).split(" | ")
        assert cells[1] == family.type
        for sample in family.samples:
            assert set(re.findall(r"`(\w+)`", cells[2])) == sample.labels.keys() - {"le"}


def test_text_is_escaped_in_tables() -> None:
    assert plain("a *b*\n <c> [d](e) x_y") == r"a \*b\*  \<c\> \[d\](e) x\_y".replace("  ", " ")
    assert code("a`b") == "`` a`b ``"
    assert table(["x"], [[code("a|b")]]) == "| x |\n| --- |\n| `a\\|b` |\n"


def test_bounds_are_sentences() -> None:
    assert list(bounds({"minItems": 1, "maxItems": 32})) == ["1 to 32 items."]
    assert list(bounds({"minLength": 1, "minimum": 0})) == ["At least 0.", "At least 1 character."]
    assert list(bounds({"minProperties": 2, "maxProperties": 2})) == ["2 entries."]
