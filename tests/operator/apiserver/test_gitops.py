"""What GitOps tools and kubectl rely on: defaults, differences, dry runs, field managers and waiting."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.api_server.kubectl import Kubectl
from support.api_server.manifests import endpoint, loadtest
from support.waiting import wait_until

ROOT = Path(__file__).parents[3]
SAMPLES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "manifests/samples").glob("*.yaml"))
ways = pytest.mark.parametrize("flags", [(), ("--server-side",)], ids=["client-side", "server-side"])
#: Server-side apply as Flux and Argo CD use it, each with its own field manager.
FLUX = ("--server-side", "--field-manager=kustomize-controller", "--force-conflicts")
ARGO_CD = ("--server-side", "--field-manager=argocd-controller", "--force-conflicts")


def golden(kind: str, name: str) -> dict[str, Any]:
    """Return a resource with the spec of a golden render. Everything has every field."""
    make, folder = {"LLMEndpoint": (endpoint, "endpoint"), "LoadTest": (loadtest, "loadtest")}[kind]
    spec = yaml.safe_load((ROOT / f"tests/operator/{folder}/golden/{name}.spec.yaml").read_text())
    return {**make(name), "spec": spec}


def documents() -> Iterator[Any]:
    for path in SAMPLES:
        yield pytest.param(list(yaml.safe_load_all((ROOT / path).read_text())), id=path)
    for kind, name in (
        ("LLMEndpoint", "everything"),
        ("LLMEndpoint", "minimal"),
        ("LLMEndpoint", "exporter"),
        ("LoadTest", "everything"),
        ("LoadTest", "minimal"),
    ):
        yield pytest.param([golden(kind, name)], id=f"{kind} {name}")


DOCUMENTS = list(documents())


def observed(api: Any, bodies: list[dict[str, Any]]) -> bool:
    """Return whether the operator has written the status of each object for its present generation."""
    live = [api.get(body["kind"], body["metadata"]["name"]) for body in bodies]
    return all(
        condition["observedGeneration"] == body["metadata"]["generation"]
        for body in live
        for condition in body["status"]["conditions"]
    )


def written_by_users(api: Any, body: dict[str, Any]) -> dict[str, Any]:
    """Return an object without what changes when the operator writes its status."""
    live = api.get(body["kind"], body["metadata"]["name"])
    metadata = {name: value for name, value in live["metadata"].items() if name != "resourceVersion"}
    rows = [row for row in metadata["managedFields"] if row.get("subresource") != "status"]
    return {"metadata": {**metadata, "managedFields": rows}, "spec": live["spec"]}


def test_a_new_object_is_reconciling_before_an_operator_has_seen_it(api: Any) -> None:
    for manifest in (endpoint("new"), loadtest("new")):
        # The response is the object as it was created. An operator may see it right afterwards.
        status = api.apply(manifest)["status"]
        assert [(row["type"], row["status"], row["reason"]) for row in status["conditions"]] == [
            ("Reconciling", "True", "Pending")
        ]
        assert "observedGeneration" not in status


@ways
@pytest.mark.parametrize("bodies", DOCUMENTS)
def test_what_was_applied_has_no_difference_afterwards(
    api: Any, operator: Any, kubectl: Kubectl, bodies: list[dict[str, Any]], flags: tuple[str, ...]
) -> None:
    kubectl.ok("apply", "--filename=-", *flags, documents=bodies)
    assert kubectl.difference(bodies, *flags) == ""
    wait_until(lambda: observed(api, bodies))
    assert kubectl.difference(bodies, *flags) == ""
    # A GitOps tool applies again every few minutes. That writes nothing.
    before = [written_by_users(api, body) for body in bodies]
    kubectl.ok("apply", "--filename=-", *flags, documents=bodies)
    assert [written_by_users(api, body) for body in bodies] == before


@ways
@pytest.mark.parametrize("bodies", DOCUMENTS)
def test_a_dry_run_on_the_server_changes_nothing(
    api: Any, kubectl: Kubectl, bodies: list[dict[str, Any]], flags: tuple[str, ...]
) -> None:
    kubectl.ok("apply", "--filename=-", "--dry-run=server", *flags, documents=bodies)
    assert [api.get(body["kind"], body["metadata"]["name"]) for body in bodies] == [None for _ in bodies]


@pytest.mark.parametrize("command", [("apply", "--dry-run=server"), ("apply",), ("diff",)], ids=" ".join)
@ways
def test_an_invalid_object_is_refused_with_the_name_of_its_field(
    api: Any, kubectl: Kubectl, command: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    for body, sentence in (
        (endpoint("wrong", models=[{"name": "tiny"}]), "spec.models[0].name"),
        (endpoint("wrong", gpu={"count": -1}), "spec.gpu.count"),
        (loadtest("wrong", load={"duration": "5 minutes"}), "spec.load.duration"),
        (endpoint("wrong", replicaz=2), "replicaz"),
    ):
        done = kubectl.run(*command, "--filename=-", *flags, documents=[body])
        assert done.returncode > 0
        assert sentence in done.stderr
        assert api.get(body["kind"], "wrong") is None


@pytest.mark.parametrize("flags", [(), ("--server-side",), FLUX, ARGO_CD], ids=["client", "server", "flux", "argocd"])
def test_the_operator_writes_nothing_but_the_status(
    api: Any, operator: Any, kubectl: Kubectl, flags: tuple[str, ...]
) -> None:
    bodies = [golden("LLMEndpoint", "everything"), loadtest("smoke")]
    kubectl.ok("apply", "--filename=-", *flags, documents=bodies)
    wait_until(lambda: observed(api, bodies))
    for body in bodies:
        metadata = api.get(body["kind"], body["metadata"]["name"])["metadata"]
        ours = [row for row in metadata["managedFields"] if row["manager"] == "llmendpoint-operator"]
        assert [(row["subresource"], list(row["fieldsV1"])) for row in ours] == [("status", ["f:status"])]
        assert not {"labels", "finalizers"} & metadata.keys()
        assert metadata.get("annotations", {}).keys() <= {"kubectl.kubernetes.io/last-applied-configuration"}


def test_two_appliers_do_not_fight(api: Any, operator: Any, kubectl: Kubectl) -> None:
    """A GitOps tool owns the spec, and an autoscaler the replicas. Neither takes a field from the other."""
    in_git = [endpoint("assistant", ollama={"numParallel": 3})]
    apply = ("apply", "--filename=-", *FLUX)
    kubectl.ok(*apply, documents=in_git)
    kubectl.ok("scale", "llmendpoint/assistant", "--replicas=3")
    wait_until(lambda: observed(api, in_git) and api.get("StatefulSet", "assistant")["spec"]["replicas"] == 3)
    assert kubectl.difference(in_git, *FLUX) == ""
    kubectl.ok(*apply, documents=in_git)
    live = api.get("LLMEndpoint", "assistant")
    assert live["spec"]["replicas"] == 3
    # Flux takes back what kubectl owns, except through a subresource.
    scaled = [row for row in live["metadata"]["managedFields"] if "f:replicas" in row["fieldsV1"].get("f:spec", {})]
    assert all(row.get("subresource") == "scale" for row in scaled)
    other = [{**in_git[0], "spec": {"models": [{"name": "tiny:latest"}], "service": {"port": 80}}}]
    kubectl.ok("apply", "--filename=-", *ARGO_CD, documents=other)
    spec = api.get("LLMEndpoint", "assistant")["spec"]
    assert (spec["ollama"]["numParallel"], spec["service"]["port"]) == (3, 80)
    assert kubectl.difference(in_git, *FLUX) == ""
    assert kubectl.difference(other, *ARGO_CD) == ""


def test_a_difference_is_shown(api: Any, kubectl: Kubectl) -> None:
    kubectl.ok("apply", "--filename=-", documents=[endpoint("assistant")])
    assert "+  replicas: 2" in kubectl.difference([endpoint("assistant", replicas=2)])


@pytest.mark.parametrize("folder", ["manifests/samples/cpu", "manifests/samples/endpoint"])
def test_the_samples_for_kustomize_have_no_difference_afterwards(api: Any, kubectl: Kubectl, folder: str) -> None:
    rendered = kubectl.ok("kustomize", str(ROOT / folder))
    kubectl.ok("apply", "--filename=-", documents=rendered)
    assert kubectl.difference(rendered) == ""


@ways
@pytest.mark.parametrize("values", sorted((ROOT / "charts/llmendpoint/ci").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_chart_has_no_difference_afterwards(
    api: Any, kubectl: Kubectl, require: Callable[..., None], values: Path, flags: tuple[str, ...]
) -> None:
    require("helm")
    bodies = chart(api.namespace, values)
    try:
        kubectl.ok("apply", "--filename=-", *flags, documents=bodies)
        assert kubectl.difference(bodies, *flags) == ""
    finally:
        kubectl.run("delete", "--filename=-", "--ignore-not-found", "--wait=false", documents=bodies)


def chart(namespace: str, values: Path) -> list[dict[str, Any]]:
    """Render the chart for one namespace, without the kinds that an API server alone does not have."""
    # The names of the ClusterRoles must not be those of the installed operator, so the namespace is the release.
    command = ["helm", "template", namespace, str(ROOT / "charts/llmendpoint"), "--namespace", namespace,
               "--values", str(values), "--set", "crds.install=false", "--kube-version", "1.29.0"]  # fmt: skip
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    bodies = [body for body in yaml.safe_load_all(rendered) if body]
    for body in bodies:
        if "namespace" in body["metadata"]:
            body["metadata"]["namespace"] = namespace
    return [body for body in bodies if not body["apiVersion"].startswith("monitoring.coreos.com/")]


def test_the_crds_have_no_difference_after_an_apply(kubectl: Kubectl) -> None:
    for path in sorted((ROOT / "manifests/crds").glob("*.yaml")):
        assert kubectl.difference(path.read_text(), "--server-side", "--force-conflicts") == ""


def test_the_health_checks_are_added_to_argo_cds_settings(api: Any, kubectl: Kubectl) -> None:
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm"},
        "data": {"url": "https://a"},
    }
    api.apply(settings)
    kubectl.ok("patch", "configmap", "argocd-cm", "--patch-file", str(ROOT / "manifests/argocd/argocd-cm.yaml"))
    data = dict(api.get("ConfigMap", "argocd-cm")["data"])
    assert data.pop("url") == "https://a"
    checks = ROOT / "manifests/argocd/resource_customizations/llmendpoint.dev"
    assert data == {
        f"resource.customizations.health.llmendpoint.dev_{path.parent.name}": path.read_text()
        for path in checks.glob("*/health.lua")
    }
