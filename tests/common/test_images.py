"""Contents of the images: the images of sidecar and load generator do not contain pydantic, kopf or a Kubernetes client.

Each image installs `requirements/COMPONENT.txt` and starts the component's `main`, so both are checked.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Only the operator may use these packages.
OPERATOR_PACKAGES = {"pydantic", "kopf", "kubernetes"}
COMPONENTS = {
    "sidecar": "llmendpoint_sidecar",
    "loadjob": "llmendpoint_loadjob",
    "simulator": "llmendpoint_simulator",
    "operator": "llmendpoint_operator",
    "dashboard": "llmendpoint_dashboard",
    "cli": "llmendpoint_cli",
}
SMALL = ("sidecar", "loadjob", "simulator")


def required_by(component: str) -> set[str]:
    """Return the names of the packages in the requirements of an image."""
    text = (ROOT / "requirements" / f"{component}.txt").read_text(encoding="utf-8")
    return {name.lower() for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}


def imported_by(module: str) -> set[str]:
    """Return the top-level packages that a new interpreter has loaded after importing a module."""
    return {name.partition(".")[0] for name in modules_of(module)}


def modules_of(module: str) -> set[str]:
    """Return the modules that a new interpreter has loaded after importing a module."""
    code = f"import {module}, sys; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60, env=environment
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("component", SMALL)
def test_a_small_component_imports_no_kubernetes_client_and_no_other_component(component: str) -> None:
    found = imported_by(f"{COMPONENTS[component]}.main")
    assert COMPONENTS[component] in found
    assert not found & OPERATOR_PACKAGES
    assert not found & {name for other, name in COMPONENTS.items() if other != component}


def test_a_worker_of_the_sidecar_imports_nothing_else() -> None:
    found = imported_by("llmendpoint_sidecar.workers.__main__")
    assert not found & (OPERATOR_PACKAGES | {name for other, name in COMPONENTS.items() if other != "sidecar"})


def test_the_operator_imports_no_other_component() -> None:
    found = imported_by("llmendpoint_operator.main")
    assert not found & {name for other, name in COMPONENTS.items() if other != "operator"}


def test_the_dashboard_imports_no_other_component_and_no_kopf() -> None:
    found = imported_by("llmendpoint_dashboard.main")
    assert not found & ({"kopf"} | {name for other, name in COMPONENTS.items() if other != "dashboard"})


def test_the_dashboard_loads_the_client_of_clusters_without_its_generated_classes() -> None:
    found = modules_of("llmendpoint_dashboard.sources.cluster")
    assert "kubernetes.aio.client.configuration" in found
    assert not [
        name for name in found if name.startswith(("kubernetes.aio.client.api.", "kubernetes.aio.client.models."))
    ]


def test_the_requirements_of_the_dashboard_contain_a_kubernetes_client_and_no_kopf() -> None:
    found = required_by("dashboard")
    assert {"aiohttp", "kubernetes"} <= found
    assert not found & {"kopf", "httptools", "google-re2"}


@pytest.mark.parametrize("component", ["sidecar", "loadjob"])
def test_the_requirements_of_a_small_image_contain_no_kubernetes_client(component: str) -> None:
    packages = required_by(component)
    assert "aiohttp" in packages
    assert not {name for name in packages if name.split("-")[0] in OPERATOR_PACKAGES}
