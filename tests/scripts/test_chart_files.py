"""Chart.yaml with the annotations of Artifact Hub, and the README of the chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import generate
import pytest
import yaml
from chart_files import changes_of, chart_readme, images

from llmendpoint_operator.crd.definitions import custom_resource_definitions
from llmendpoint_operator.settings import parse_settings

CHANGELOG = """# Changelog

## [Unreleased]

### Added

- Nothing yet.

## [1.1.0] - 2026-01-02

### Added

- A field `spec.x`, which does
  more ([docs/x.md](docs/x.md)).

- Another one: see [the page](docs/y.md#z).

### Replaces pods

All pods are replaced:

- new requests

### Security

- A hole was closed.

## [1.0.0] - 2026-01-01

### Fixed

- An old thing.
"""


def published(version: str = "0.1.0", monkeypatch: pytest.MonkeyPatch | None = None) -> dict[str, str]:
    if monkeypatch is not None:
        monkeypatch.setattr(generate, "VERSION", version)
    chart = yaml.safe_load(generate.generated_files()[generate.CHART / "Chart.yaml"])
    return {name.removeprefix("artifacthub.io/"): text for name, text in chart["annotations"].items()}


def loaded(name: str) -> Any:
    return yaml.safe_load(published()[name])


def test_the_changes_of_a_release_are_plain_text() -> None:
    assert list(changes_of(CHANGELOG, "1.1.0")) == [
        {"kind": "added", "description": "A field spec.x, which does more."},
        {"kind": "added", "description": "Another one: see the page."},
        {"kind": "changed", "description": "new requests"},
        {"kind": "security", "description": "A hole was closed."},
    ]


def test_before_its_release_a_version_has_the_changes_that_are_not_released() -> None:
    assert list(changes_of(CHANGELOG, "1.2.0")) == [{"kind": "added", "description": "Nothing yet."}]


def test_every_change_of_the_changelog_is_listed() -> None:
    changelog = (Path(generate.ROOT) / "CHANGELOG.md").read_text(encoding="utf-8")
    (section,) = [part for part in changelog.split("\n## ") if part.startswith(("[Unreleased]", "[0.1.0]"))]
    assert len(loaded("changes")) == section.count("\n- ")


def test_the_crds_of_the_chart_are_described() -> None:
    found = {crd["name"]: crd for crd in loaded("crds")}
    for definition in custom_resource_definitions():
        crd = found[definition["metadata"]["name"]]
        assert crd["kind"] == definition["spec"]["names"]["kind"]
        assert crd["version"] == definition["spec"]["versions"][0]["name"]
    assert {example["kind"] for example in loaded("crdsExamples")} <= {crd["kind"] for crd in found.values()}
    assert found["llmendpoints.llmendpoint.dev"]["displayName"] == "LLM Endpoint"


def test_the_images_are_those_that_the_operator_uses_by_default() -> None:
    found = {image["image"] for image in loaded("images")}
    defaults = parse_settings([]).children.images
    assert {defaults.sidecar, defaults.loadjob, defaults.ollama, defaults.rocm} <= found
    assert f"ghcr.io/llmendpoint/operator:{generate.VERSION}" in found


def test_an_image_beside_another_one_has_a_name_of_its_own(tmp_path: Path) -> None:
    image = {"registry": "r.example", "repository": "a/b", "tag": ""}
    values = {"ollama": {"image": image, "rocmImage": {**image, "tag": "rocm"}}, "sidecar": {"image": image}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    assert images(tmp_path, "1.0.0") == [
        {"name": "ollama", "image": "r.example/a/b:1.0.0"},
        {"name": "ollama-rocm", "image": "r.example/a/b:rocm"},
        {"name": "sidecar", "image": "r.example/a/b:1.0.0"},
    ]


@pytest.mark.parametrize(("version", "prerelease"), [("1.2.3", "false"), ("1.2.3-rc.1", "true")])
def test_a_version_with_a_suffix_is_a_prerelease(
    version: str, prerelease: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert published(version, monkeypatch)["prerelease"] == prerelease


def test_the_readme_names_the_version_and_every_kind() -> None:
    text = chart_readme(generate.CHART, "9.8.7")
    assert "oci://ghcr.io/llmendpoint/charts/llmendpoint --version 9.8.7 " in text
    for definition in custom_resource_definitions():
        assert f"| `{definition['spec']['names']['kind']}` |" in text
    assert "| `operator.replicas` | integer | `1` |" in text
