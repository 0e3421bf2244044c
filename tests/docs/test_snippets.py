"""Code in the documentation other than commands: Python, JSON, values of the chart, and configuration of other programs.

`tests/operator/apiserver/test_documented_manifests.py` has the manifests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.documents.documented import PAGES, ROOT, Block, blocks_of
from support.documents.rendered import needs_helm, rendered

CLIENTS = ROOT / "docs/how-to/clients.md"
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
YAML = [block for block in BLOCKS if block.language == "yaml"]
JSON = [block for block in BLOCKS if block.language == "json"]
PYTHON = [block for block in BLOCKS if block.language == "python"]
#: How a block of YAML is checked that is no manifest, by its first field. The text is the reason why it is not.
FOREIGN = {
    "entryPoints": "configuration of Traefik",
    "healthChecks": "a part of a Kustomization of Flux",
    "grafana": "values of another chart",
    "rules": "values of prometheus-adapter, which tests/adapter reads",
}
VALUES = ("dashboard", "gpuHourlyPrices", "operator", "networkPolicy")
CHECKED = (
    *VALUES,
    "spec",
    "metadata",
    "apiVersion",
    "metering",
    "scrape_configs",
    "category",
    "id",
    "name",
    "load-test",
)


def first_field(block: Block) -> str:
    document = next(yaml.safe_load_all(block.text))
    return str(next(iter(document[0] if isinstance(document, list) else document)))


def test_every_block_of_yaml_is_checked_or_of_another_program() -> None:
    unknown = [
        f"{block.place}: {first_field(block)}" for block in YAML if first_field(block) not in (*CHECKED, *FOREIGN)
    ]
    assert unknown == []


@needs_helm
@pytest.mark.parametrize(
    "block", [block for block in YAML if first_field(block) in VALUES], ids=lambda block: block.place
)
def test_the_chart_accepts_the_values(block: Block, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(block.text)
    assert rendered("--values", str(tmp_path / "values.yaml"))


@pytest.mark.parametrize("block", JSON, ids=lambda block: block.place)
def test_json_can_be_read(block: Block) -> None:
    assert isinstance(json.loads(block.text), dict)


def test_prometheus_accepts_the_configuration(tmp_path: Path) -> None:
    found = [block for block in YAML if first_field(block) == "scrape_configs"]
    assert found
    for block in found:
        # Debian builds promtool without the discovery of Kubernetes.
        text = block.text.replace(
            "kubernetes_sd_configs: [{role: endpoints}]", "static_configs: [{targets: [localhost]}]"
        )
        assert text != block.text
        (tmp_path / "prometheus.yml").write_text(text)
        done = subprocess.run(
            ["promtool", "check", "config", "--syntax-only", "prometheus.yml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_files_of_questions_are_valid(tmp_path: Path) -> None:
    found = [block for block in YAML if first_field(block) == "category"]
    assert found
    for number, block in enumerate(found):
        (tmp_path / f"{number}.yaml").write_text(block.text)
    done = subprocess.run(
        [sys.executable, "-m", "llmendpoint_cli", "questions", "validate", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python_compiles(block: Block) -> None:
    compile(block.text, block.place, "exec")
