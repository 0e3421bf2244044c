"""The cluster of the current KUBECONFIG, with the chart installed and the operator running with its own ServiceAccount.

The images must be available in the cluster under their published names. Environment variables: E2E_MODEL (model that
the endpoint declares), E2E_REGISTRY and E2E_REPOSITORY (its source; if empty, Ollama's library), E2E_GPU (if 0, the
cluster has no GPU and the sample for CPUs is used), E2E_PROXY_IMAGE (image of nginx), E2E_RESTORE (command that starts
the API server and etcd again; kind does not need it).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.waiting import wait_until

ROOT = Path(__file__).parents[3]
NAMESPACE = "llmendpoint-system"
#: Price of a GPU in the chart that is installed.
GPU_HOURLY_PRICE = "3.50"


@dataclass(frozen=True)
class Parameters:
    """Parameters that differ between clusters."""

    model: str = os.environ.get("E2E_MODEL", "llama3.2:3b")
    registry: str = os.environ.get("E2E_REGISTRY", "registry.kube-system.svc.cluster.local:5000")
    repository: str = os.environ.get("E2E_REPOSITORY", "library/tiny:latest")
    gpu: int = int(os.environ.get("E2E_GPU", "1"))
    proxy_image: str = os.environ.get("E2E_PROXY_IMAGE", "docker.io/nginxinc/nginx-unprivileged:1.28")

    def source(self) -> dict[str, Any]:
        """Return the model's source, for a private registry."""
        if not self.registry:
            return {}
        return {"source": {"registry": {"host": self.registry, "repository": self.repository, "insecure": True}}}


def kubectl(*arguments: str, stdin: Any = None, check: bool = True) -> str:
    """Run kubectl and return its output. If it fails, the exception has its error output."""
    text = None if stdin is None else json.dumps(stdin)
    done = subprocess.run(["kubectl", *arguments], check=False, input=text, capture_output=True, text=True, timeout=900)
    if check and done.returncode:
        pytest.fail(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else done.stderr


class Namespace:
    """Operations of a kubectl user in one namespace."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *arguments: str, stdin: Any = None, check: bool = True) -> str:
        return kubectl("--namespace", self.name, *arguments, stdin=stdin, check=check)

    def apply(self, manifest: dict[str, Any]) -> None:
        self.run("apply", "-f", "-", stdin=manifest)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return dict(json.loads(self.run("get", kind, name, "-o", "json")))

    def condition(self, kind: str, name: str, wanted: str) -> dict[str, str]:
        rows = (self.get(kind, name).get("status") or {}).get("conditions") or []
        return next((row for row in rows if row["type"] == wanted), {"status": "", "reason": "", "message": ""})

    @contextlib.contextmanager
    def forward(self, target: str, port: int) -> Iterator[str]:
        """Forward a port of a pod or Service, and yield the URL."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            local = probe.getsockname()[1]
        command = ["kubectl", "--namespace", self.name, "port-forward", target, f"{local}:{port}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: _connects(local), 20)
                yield f"http://127.0.0.1:{local}"
            finally:
                process.terminate()


def _connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def fetch(url: str, body: Any = None) -> bytes:
    """Return the response body of a GET, or of a POST with JSON."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=60) as response:
        return bytes(response.read())


def wait_for_prometheus(check: Callable[[], Any], seconds: float = 300.0) -> Any:
    """Wait until a condition that depends on the configuration of the cluster's Prometheus is true. Return its result.

    Kubelet renews the files of a pod about once a minute, or immediately if an annotation of the pod changes, so this
    changes one. If the Prometheus Operator's config reloader misses a change, it only notices it after three minutes.
    """

    def check_again() -> Any:
        annotation = f"llmendpoint-e2e/time={time.time()}"
        kubectl("--namespace", "monitoring", "annotate", "pods", "-l", "app.kubernetes.io/name=prometheus", annotation,
                "--overwrite")  # fmt: skip
        return check()

    return wait_until(check_again, seconds, every=2)


@pytest.fixture(scope="session")
def parameters() -> Parameters:
    return Parameters()


@pytest.fixture(scope="session")
def chart(parameters: Parameters) -> None:
    """Install the chart with its defaults and a price of GPUs.

    Its namespace enforces the restricted Pod Security Standard.
    """
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    kubectl("apply", "-f", "-", stdin=namespace)
    install_chart("llmendpoint", NAMESPACE, "--wait")


def install_chart(release: str, namespace: str, *flags: str) -> None:
    """Install the chart with a price of GPUs, or change its release. Values of an earlier revision are not kept."""
    price = f"gpuHourlyPrices.nvidia\\.com/gpu={GPU_HOURLY_PRICE}"
    helm("upgrade", "--install", release, str(ROOT / "charts/llmendpoint"), "--namespace", namespace,
         "--set-string", price, "--timeout", "5m", *flags)  # fmt: skip


def helm(*arguments: str) -> None:
    done = subprocess.run(["helm", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def new_namespace(prefix: str) -> Namespace:
    """Return a new namespace that enforces the restricted Pod Security Standard."""
    name = f"{prefix}-{secrets.token_hex(3)}"
    apply_namespace(name)
    return Namespace(name)


def apply_namespace(name: str) -> None:
    """Create a namespace that enforces the restricted Pod Security Standard, if it does not exist."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "llmendpoint-e2e": "true"}
    kubectl(
        "apply",
        "-f",
        "-",
        stdin={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
    )


@pytest.fixture(scope="session")
def assistant(chart: None, parameters: Parameters) -> Iterator[Namespace]:
    """The sample endpoint in a namespace other than the chart's. It is Ready."""
    namespace = new_namespace("models")
    namespace.apply(sample_endpoint("endpoint" if parameters.gpu else "cpu", parameters))
    namespace.run("wait", "--for=condition=Ready", "--timeout=10m", "llmendpoint/assistant")
    yield namespace
    kubectl("delete", "namespace", namespace.name, "--wait=false")


def sample_endpoint(folder: str, parameters: Parameters) -> dict[str, Any]:
    """Return a shipped sample whose model is replaced by the one in the cluster's registry."""
    text = kubectl("kustomize", str(ROOT / "manifests/samples" / folder))
    manifest: dict[str, Any] = yaml.safe_load(text)
    name = manifest["spec"]["models"][0]["name"] if parameters.registry else parameters.model
    manifest["spec"]["models"] = [{"name": name, **parameters.source()}]
    return manifest
