"""The file VERSION is the source of every version that users see."""

from __future__ import annotations

from pathlib import Path

import generate
import pytest
import yaml
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from llmendpoint_common.process.version import VERSION
from llmendpoint_operator.settings import parse_settings

ROOT = Path(__file__).parents[2]
WRITTEN = (ROOT / "VERSION").read_text(encoding="utf-8").strip()


def test_the_distribution_takes_its_version_from_the_file() -> None:
    metadata = ProjectMetadata(str(ROOT), PluginManager())
    assert metadata.version == WRITTEN
    assert "version" in metadata.dynamic


def test_running_programs_and_default_images_have_this_version() -> None:
    images = parse_settings([]).children.images
    assert VERSION == WRITTEN, "the installed distribution is older than the file: run `make setup`"
    assert images.sidecar == f"ghcr.io/llmendpoint/sidecar:{WRITTEN}"
    assert images.loadjob == f"ghcr.io/llmendpoint/loadjob:{WRITTEN}"


def test_chart_and_plain_install_have_this_version() -> None:
    chart = yaml.safe_load((ROOT / "charts" / "llmendpoint" / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (WRITTEN, WRITTEN)
    install = (ROOT / "manifests" / "install.yaml").read_text(encoding="utf-8")
    for name in ("operator", "sidecar", "loadjob"):
        assert f"ghcr.io/llmendpoint/{name}:{WRITTEN}\n" in install
    assert f"app.kubernetes.io/version: {WRITTEN}\n" in install


def test_another_version_is_written_into_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "VERSION", "1.2.3-rc.1")
    chart = yaml.safe_load(generate.generated_files()[generate.CHART / "Chart.yaml"])
    assert (chart["version"], chart["appVersion"]) == ("1.2.3-rc.1", "1.2.3-rc.1")
    assert chart["name"] == "llmendpoint"
