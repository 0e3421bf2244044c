"""The chart on a real API server: uninstalled, and installed again under another name, as docs/install.md says."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.manifests import endpoint, loadtest
from support.documents.rendered import CHART, needs_helm
from support.waiting import wait_until

pytestmark = needs_helm

NAME = "llmendpoints.llmendpoint.dev"
#: The blocks of shell commands in docs/install.md.
SHELL = re.findall(r"```sh\n(.*?)```", (CHART.parents[1] / "docs/install.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def cluster(start_control_plane: Callable[[], Any], make_namespace: Callable[..., Any]) -> Iterator[Any]:
    """An administrator of an API server that has the CRDs of `kubectl apply -k manifests/`, and no release."""
    with start_control_plane() as plane:
        api = make_namespace("models", plane)
        api.kubeconfig = plane.admin
        for namespace in ("one", "two"):
            make_namespace(namespace, plane)
        yield api


def helm(cluster: Any, *arguments: str) -> str:
    """Run helm as the administrator. Returns its error output if it fails, or an empty string."""
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run(["helm", *arguments], check=False, capture_output=True, text=True, env=environment)
    return done.stderr.strip() if done.returncode else ""


def install(cluster: Any, release: str, namespace: str, *flags: str) -> str:
    return helm(cluster, "install", release, str(CHART), "--namespace", namespace, *flags)


def owner(cluster: Any) -> str:
    """Return the release that owns the CustomResourceDefinitions."""
    annotations = cluster.client.get("CustomResourceDefinition", "", NAME)["metadata"].get("annotations") or {}
    return f"{annotations.get('meta.helm.sh/release-namespace')}/{annotations.get('meta.helm.sh/release-name')}"


def test_a_release_takes_over_the_crds_that_another_one_left(cluster: Any) -> None:
    # `kubectl apply -k manifests/` has installed the CRDs.
    assert "cannot be imported into the current release" in install(cluster, "llmendpoint", "one")
    assert install(cluster, "llmendpoint", "one", "--take-ownership") == ""
    assert owner(cluster) == "one/llmendpoint"
    uid = cluster.apply(endpoint("assistant"))["metadata"]["uid"]
    assert helm(cluster, "uninstall", "llmendpoint", "--namespace", "one") == ""
    # Endpoints survive, because the CRDs are kept.
    assert cluster.get(LLMENDPOINT, "assistant")["metadata"]["uid"] == uid
    assert cluster.client.get("ClusterRole", "", "llmendpoint") is None
    assert "cannot be imported into the current release" in install(cluster, "llm", "two")
    assert install(cluster, "llm", "two", "--take-ownership") == ""
    assert owner(cluster) == "two/llm"
    assert cluster.get(LLMENDPOINT, "assistant")["metadata"]["uid"] == uid
    # Later upgrades need no flag.
    assert helm(cluster, "upgrade", "llm", str(CHART), "--namespace", "two", "--set", "operator.replicas=2") == ""


def test_without_crds_a_release_leaves_them_as_they_are(cluster: Any) -> None:
    before = owner(cluster)
    flags = ("--set", "crds.install=false,operator.watchNamespaces={models}")
    assert install(cluster, "team", "one", *flags) == ""
    assert helm(cluster, "uninstall", "team", "--namespace", "one") == ""
    assert owner(cluster) == before


def test_everything_is_removed_in_the_documented_order(cluster: Any) -> None:
    """No operator runs, and nothing waits for it: there are no finalizers."""
    command = next(block for block in SHELL if "kubectl delete crd" in block)
    cluster.apply(endpoint("assistant"))
    cluster.apply(loadtest("smoke"))
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    script = command.replace(
        "helm uninstall llmendpoint --namespace llmendpoint-system", "helm uninstall llm --namespace two"
    )
    done = subprocess.run(
        ["bash", "-ec", script], check=False, capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert cluster.client.get("CustomResourceDefinition", "", NAME) is None
    assert cluster.client.get("ClusterRole", "", "llm-llmendpoint") is None
    assert install(cluster, "llm", "two") == ""


def test_a_release_that_keeps_no_crds_takes_the_endpoints_with_it(cluster: Any) -> None:
    flags = ("--namespace", "two", "--set", "crds.keep=false")
    assert helm(cluster, "upgrade", "llm", str(CHART), *flags) == ""
    assert helm(cluster, "uninstall", "llm", "--namespace", "two") == ""
    wait_until(lambda: cluster.client.get("CustomResourceDefinition", "", NAME) is None)
