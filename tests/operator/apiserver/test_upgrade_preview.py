"""The commands of docs/upgrade.md that show what an upgrade would change, on an API server with a release of the chart."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.api_server.control_plane import OPERATOR_NAMESPACE
from support.api_server.monitoring_kinds import definition
from support.documents.documented import ROOT, lines
from support.documents.rendered import CHART, needs_helm
from support.waiting import wait_until

pytestmark = needs_helm

_LINES = [
    line for line in lines(ROOT / "docs/upgrade.md", "sh") if line.startswith(("helm get", "helm template", "diff "))
]
#: The file that users edit, or have already.
VALUES = "my-values.yaml"


class Release:
    """A release of the chart, and the folder in which the commands are run."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._folder = folder
        self._environment = os.environ | {"KUBECONFIG": str(kubeconfig)}

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a line of a shell with the chart of this repository."""
        return subprocess.run(["sh", "-c", script.replace(" charts/llmendpoint ", f" {CHART} ")], cwd=self._folder,
                              env=self._environment, check=False, capture_output=True, text=True)  # fmt: skip

    def ok(self, script: str) -> None:
        done = self.run(script)
        assert done.returncode == 0, done.stderr

    def is_served(self, plural: str) -> bool:
        return self.run(f"kubectl get {plural}").returncode == 0

    def preview(self, **values: Any) -> list[str]:
        """Return the changed lines that the commands show for an upgrade with these values in addition."""
        for line in _LINES[:-1]:
            self.ok(line)
            if f"> {VALUES}" in line:
                path = self._folder / VALUES
                path.write_text(yaml.safe_dump((yaml.safe_load(path.read_text()) or {}) | values))
        shown = self.run(_LINES[-1])
        assert shown.returncode in (0, 1), shown.stderr
        return [line for line in shown.stdout.splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]


@pytest.fixture(scope="module")
def release(
    start_control_plane: Callable[..., Any],
    make_namespace: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Release]:
    """A release with rules, dashboards and a ServiceMonitor: the API server has the kinds of the Prometheus Operator."""
    with start_control_plane() as plane:
        api = make_namespace(OPERATOR_NAMESPACE, plane)
        made = Release(plane.admin, tmp_path_factory.mktemp("upgrade"))
        for kind, plural in (("PrometheusRule", "prometheusrules"), ("ServiceMonitor", "servicemonitors")):
            api.client.apply(definition(kind, plural))
            wait_until(partial(made.is_served, plural))
        made.ok(f"helm install llmendpoint {CHART} --namespace {OPERATOR_NAMESPACE} --take-ownership "
                "--set-json 'gpuHourlyPrices={\"NVIDIA-H200\":\"3.50\"}'")  # fmt: skip
        yield made


def test_an_upgrade_without_a_change_shows_none(release: Release) -> None:
    assert release.preview() == []


def test_a_change_of_an_alert_rule_is_shown_and_nothing_else(release: Release) -> None:
    shown = release.preview(gpuHourlyPrices={"NVIDIA-H200": "9.50"})
    removed, added = ([line for line in shown if line[0] == sign] for sign in "-+")
    assert removed
    assert all("3.5" in line for line in removed)
    assert [line.replace("9.5", "3.5")[1:] for line in added] == [line[1:] for line in removed]


def test_objects_that_an_upgrade_deletes_are_shown(release: Release) -> None:
    shown = release.preview(monitoring={"dashboards": "Disabled"})
    assert all(line[0] == "-" for line in shown)
    assert any("kind: ConfigMap" in line for line in shown)
