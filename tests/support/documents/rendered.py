"""The chart, rendered by helm."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.documents.yaml_documents import documents

CHART = Path(__file__).parents[3] / "charts/llmendpoint"

needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")


def rendered(*flags: str, release: str = "llmendpoint", namespace: str = "llmendpoint-system") -> list[dict[str, Any]]:
    """Return the objects of the chart. The caller may change them."""
    return documents(_template(flags, release, namespace))


# Many tests ask for the same objects several times. A text has 0.8 MB.
@functools.lru_cache(maxsize=32)
def _template(flags: tuple[str, ...], release: str, namespace: str) -> str:
    command = ["helm", "template", release, str(CHART), "--kube-version", "1.29.0", "--namespace", namespace, *flags]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_name(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return objects by "Kind/name", or "Kind/namespace/name" for Roles and RoleBindings."""
    found = {}
    for item in objects:
        place = [item["metadata"]["namespace"]] if item["kind"] in ("Role", "RoleBinding") else []
        found["/".join([item["kind"], *place, item["metadata"]["name"]])] = item
    return found
