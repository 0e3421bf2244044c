"""An upgrade with Helm from an earlier chart and operator: the resources stay, and so do pods, except as announced."""

from __future__ import annotations

import os
import runpy
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST
from support.api_server.control_plane import OPERATOR_NAMESPACE
from support.api_server.earlier import extracted
from support.api_server.manifests import endpoint, loadtest
from support.api_server.operator_process import OperatorProcess, run_operator
from support.documents.rendered import CHART, needs_helm
from support.waiting import wait_until

pytestmark = needs_helm

ENDPOINT_TESTS = Path(__file__).parents[1] / "endpoint"
SPECS = {
    path.name.removesuffix(".spec.yaml"): yaml.safe_load(path.read_text())
    for path in sorted((ENDPOINT_TESTS / "golden/before").glob("*.spec.yaml"))
}
CRDS = ("llmendpoints.llmendpoint.dev", "loadtests.llmendpoint.dev", "loadtestschedules.llmendpoint.dev")
#: Both operators start pods from the same images. docs/install.md says how to keep them during an upgrade.
FLAGS = ("--sidecar-image=registry.example/sidecar:1", "--ollama-image=registry.example/ollama:1")
FIXED = ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates")


class Upgrade:
    """The objects before and after an upgrade."""

    def __init__(self, api: Any, kubeconfig: Path, folder: Path, operator_kubeconfig: Path) -> None:
        self.api = api
        self._kubeconfig = kubeconfig
        self._folder = folder
        self._operator = operator_kubeconfig

    def helm(self, *arguments: str) -> None:
        environment = os.environ | {"KUBECONFIG": str(self._kubeconfig)}
        command = ["helm", *arguments, "--namespace", OPERATOR_NAMESPACE]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr

    def operate(self, **variables: str) -> None:
        """Run an operator until it has reconciled everything, and end it."""
        process = run_operator(self._operator, self._folder, *FLAGS, **variables)
        try:
            wait_until(lambda: process.metric("llmendpoint_operator_reconciles_total") > len(SPECS), 60)
            wait_until(lambda: all(self._is_observed(name) for name in SPECS), 60)
            wait_until(lambda: self.is_idle(process), 60)
        finally:
            process.terminate()
        assert process.wait(20) == 0, process.log.read_text()[-3000:]

    @staticmethod
    def is_idle(process: OperatorProcess) -> bool:
        return process.metric("llmendpoint_operator_queue_depth") == 0

    def _is_observed(self, name: str) -> bool:
        body = self.api.get(LLMENDPOINT, name)
        return bool(body["status"].get("observedGeneration") == body["metadata"]["generation"])

    def resources(self) -> dict[str, dict[str, Any]]:
        return {
            f"{kind}/{body['metadata']['name']}": body
            for kind in (LLMENDPOINT, LOADTEST)
            for body in self.api.client.items(kind, self.api.namespace)
        }

    def statefulsets(self) -> dict[str, dict[str, Any]]:
        return {body["metadata"]["name"]: body for body in self.api.client.items("StatefulSet", self.api.namespace)}


@pytest.fixture(scope="module")
def upgraded(
    start_control_plane: Callable[..., Any],
    make_namespace: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Upgrade, dict[str, Any], dict[str, Any]]]:
    """A cluster after an upgrade, and the resources and StatefulSets before it."""
    before = extracted(tmp_path_factory.mktemp("before"))
    with start_control_plane() as plane:
        api = make_namespace("models", plane)
        make_namespace(OPERATOR_NAMESPACE, plane)
        for name in CRDS:
            api.client.delete("CustomResourceDefinition", "", name)
        wait_until(lambda: not any(api.client.get("CustomResourceDefinition", "", name) for name in CRDS))
        upgrade = Upgrade(api, plane.admin, tmp_path_factory.mktemp("operator"), plane.operator)
        # The control plane has the rights of `kubectl apply -k manifests/`.
        upgrade.helm("install", "llmendpoint", str(before / "charts/llmendpoint"), "--take-ownership")
        for name, spec in SPECS.items():
            wait_until(partial(is_accepted, api, {**endpoint(name), "spec": spec}))
        api.apply(loadtest("smoke", suspend=None, endpointRef={"name": "minimal"}))
        upgrade.operate(PYTHONPATH=f"{before}/operator:{before}/common")
        resources, statefulsets = upgrade.resources(), upgrade.statefulsets()
        upgrade.helm("upgrade", "llmendpoint", str(CHART), "--reset-then-reuse-values")
        upgrade.operate()
        yield upgrade, resources, statefulsets


def is_accepted(api: Any, manifest: dict[str, Any]) -> bool:
    return not api.is_refused(manifest)


def test_the_resources_are_the_same(upgraded: tuple[Upgrade, dict[str, Any], dict[str, Any]]) -> None:
    upgrade, before, _ = upgraded
    after = upgrade.resources()
    assert after.keys() == before.keys()
    for name, body in before.items():
        # A new field may have a default.
        assert covers(after[name]["spec"], body["spec"]), name
        for field in ("uid", "generation"):
            assert after[name]["metadata"][field] == body["metadata"][field]


def covers(live: Any, wanted: Any) -> bool:
    """Return whether a value has everything of another one."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(covers(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(covers, live, wanted))
    return bool(live == wanted)


def test_pods_are_replaced_only_for_what_the_changelog_says(
    upgraded: tuple[Upgrade, dict[str, Any], dict[str, Any]],
) -> None:
    announced = runpy.run_path(str(ENDPOINT_TESTS / "test_upgrade.py"))
    upgrade, _, before = upgraded
    after = upgrade.statefulsets()
    assert after.keys() == before.keys() == SPECS.keys()
    for name, body in before.items():
        templates = (each["spec"]["template"] for each in (body, after[name]))
        assert set(announced["paths"](*templates)) <= announced["CHANGES"].keys(), name


def test_no_statefulset_is_replaced(upgraded: tuple[Upgrade, dict[str, Any], dict[str, Any]]) -> None:
    upgrade, _, before = upgraded
    after = upgrade.statefulsets()
    for name, body in before.items():
        assert after[name]["metadata"]["uid"] == body["metadata"]["uid"]
        for field in FIXED:
            assert after[name]["spec"].get(field) == body["spec"].get(field)


def test_the_definitions_and_the_rights_are_those_of_the_new_chart(
    upgraded: tuple[Upgrade, dict[str, Any], dict[str, Any]],
) -> None:
    upgrade, _, _ = upgraded
    client = upgrade.api.client
    for name in CRDS:
        definition = client.get("CustomResourceDefinition", "", name)
        assert definition["status"]["storedVersions"] == ["v1alpha1"]
    (version,) = client.get("CustomResourceDefinition", "", CRDS[0])["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    assert "capacity" in status
    rules = client.get("ClusterRole", "", "llmendpoint")["rules"]
    (claims,) = [rule for rule in rules if rule["resources"] == ["persistentvolumeclaims"]]
    assert "patch" in claims["verbs"]
