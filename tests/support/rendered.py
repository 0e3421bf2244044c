"""The chart, rendered by helm."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "charts/llmendpoint"

needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")


def rendered(*flags: str, release: str = "llmendpoint", namespace: str = "llmendpoint-system") -> list[dict[str, Any]]:
    """Return the objects of the chart."""
    command = ["helm", "template", release, str(CHART), "--kube-version", "1.29.0", "--namespace", namespace, *flags]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def by_name(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return objects by "Kind/name", or "Kind/namespace/name" for Roles and RoleBindings."""
    found = {}
    for item in objects:
        place = [item["metadata"]["namespace"]] if item["kind"] in ("Role", "RoleBinding") else []
        found["/".join([item["kind"], *place, item["metadata"]["name"]])] = item
    return found
