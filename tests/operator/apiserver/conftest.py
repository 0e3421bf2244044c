"""A real kube-apiserver with etcd on free ports, and the operator as a process with only the shipped RBAC rules."""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST, MANAGED_BY, MANAGED_BY_LABEL
from llmendpoint_operator.cluster.kinds import KINDS, Role
from support.apiclient import Client
from support.kubectl import Kubectl
from support.waiting import wait_until

ROOT = Path(__file__).parents[3]
OPERATOR_NAMESPACE = "llmendpoint-system"
OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:llmendpoint"
HOW = "set KUBEBUILDER_ASSETS to a folder that has all of them (setup-envtest installs them), or put them on the PATH"


def find(name: str) -> str | None:
    """Return the path of a program. Those of the control plane may be in a folder of their own."""
    return shutil.which(name, path=os.environ.get("KUBEBUILDER_ASSETS") or None) or shutil.which(name)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Skip the API tests if there is no API server, with one line in the summary. In CI, fail instead."""
    _require("etcd", "kube-apiserver")


def _require(*names: str) -> None:
    missing = [name for name in names if find(name) is None]
    if missing:
        message = f"API TESTS DID NOT RUN: no {' and no '.join(missing)} here; {HOW}"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass(frozen=True)
class ControlPlane:
    """A running API server, and the kubeconfigs of an administrator and of the operator."""

    admin: Path
    operator: Path
    client: Client | None = None


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Start etcd and kube-apiserver; stop them at the end of the session."""
    etcd, apiserver = str(find("etcd")), str(find("kube-apiserver"))
    folder = tmp_path_factory.mktemp("control-plane")
    client_port, peer_port, secure_port = free_port(), free_port(), free_port()
    subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
    tokens = {"admin": secrets.token_hex(16), OPERATOR_USER: secrets.token_hex(16)}
    groups = {"admin": "system:masters", OPERATOR_USER: "system:serviceaccounts"}
    lines = [f'{token},{user},{user},"{groups[user]}"' for user, token in tokens.items()]
    (folder / "tokens.csv").write_text("\n".join(lines) + "\n")
    commands = [
        [etcd, "--data-dir", str(folder / "etcd"), f"--listen-client-urls=http://127.0.0.1:{client_port}",
         f"--advertise-client-urls=http://127.0.0.1:{client_port}", f"--listen-peer-urls=http://127.0.0.1:{peer_port}"],
        [apiserver, f"--etcd-servers=http://127.0.0.1:{client_port}", f"--secure-port={secure_port}",
         "--bind-address=127.0.0.1", f"--cert-dir={folder}/pki", f"--service-account-key-file={folder}/sa.key",
         f"--service-account-signing-key-file={folder}/sa.key", "--service-account-issuer=https://kubernetes.default.svc",
         "--service-cluster-ip-range=10.0.0.0/16", f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC",
         "--disable-admission-plugins=ServiceAccount"],
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        processes = [subprocess.Popen(command, stdout=log, stderr=log) for command in commands]
        try:
            plane = _kubeconfigs(folder, secure_port, tokens)
            client = _connect(plane, folder / "log")
            _install(client)
            yield replace(plane, client=client)
            client.close()
        finally:
            # Nothing has to be kept, and an orderly shutdown of the API server takes half a minute.
            for process in processes:
                process.kill()
                process.wait(20)


def _kubeconfigs(folder: Path, port: int, tokens: dict[str, str]) -> ControlPlane:
    paths: dict[str, Path] = {}
    for user, token in tokens.items():
        path = folder / f"{len(paths)}.kubeconfig"
        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(folder / "pki/apiserver.crt")}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "test",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": "test", "user": {"token": token}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
                }
            )
        )  # fmt: skip
        paths[user] = path
    return ControlPlane(paths["admin"], paths[OPERATOR_USER])


def _connect(plane: ControlPlane, log: Path) -> Client:
    """Return an administrator's client once the API server answers."""
    wait_until((plane.admin.parent / "pki/apiserver.crt").exists)
    client, last = Client(plane.admin), ""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            client.items("ConfigMap", "kube-system")
        except (urllib3.exceptions.HTTPError, ApiException) as error:
            last = repr(error)
            time.sleep(0.2)
        else:
            return client
    pytest.fail(f"kube-apiserver did not become ready: {last} {log.read_text(errors='replace')[-3000:]}")


def _install(client: Client) -> None:
    """Apply the CRDs and the manifests of `kubectl apply -k manifests/`, except those that need more than an API server."""
    for path in sorted((ROOT / "manifests/crds").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            client.apply(document)
    for document in yaml.safe_load_all((ROOT / "manifests/install.yaml").read_text()):
        if document["kind"] not in ("Deployment", "Service", "ServiceMonitor"):
            client.apply(document)
    for kind in (LLMENDPOINT, LOADTEST):
        wait_until(functools.partial(_is_served, client, kind))


def _is_served(client: Client, kind: str) -> bool:
    try:
        client.items(kind, "default")
    except ApiException:
        return False
    return True


class Api:
    """Operations of a kubectl user in one namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace

    def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        return self.client.apply(self._placed(manifest))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        return self.client.get(kind, self.namespace, name)

    def patch(self, kind: str, name: str, patch: Any) -> dict[str, Any]:
        return self.client.patch(kind, self.namespace, name, patch)

    def delete(self, kind: str, name: str) -> None:
        self.client.delete(kind, self.namespace, name)

    def delete_if_there(self, kind: str, name: str) -> None:
        if self.get(kind, name) is not None:
            self.delete(kind, name)

    def is_refused(self, manifest: dict[str, Any]) -> bool:
        """Return whether the API server refuses a manifest; otherwise it is applied."""
        try:
            self.apply(manifest)
        except ApiException:
            return True
        return False

    def apply_status(self, manifest: dict[str, Any]) -> None:
        self.client.apply(self._placed(manifest), manager="kubelet", subresource="status")

    def children(self) -> dict[str, str]:
        """Return the resource versions of all children in the namespace."""
        found = {}
        for kind in KINDS.values():
            if kind.role is Role.CHILD and not kind.optional:
                for body in self.client.items(kind.name, self.namespace, f"{MANAGED_BY_LABEL}={MANAGED_BY}"):
                    found[f"{kind.name}/{body['metadata']['name']}"] = body["metadata"]["resourceVersion"]
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the Events that are about an object."""
        found = self.client.items("Event", self.namespace)
        return [event for event in found if event["involvedObject"]["name"] == name]

    def conditions(self, kind: str, name: str) -> dict[str, tuple[str, str]]:
        """Return (status, reason) by type."""
        body = self.get(kind, name) or {}
        rows = (body.get("status") or {}).get("conditions") or []
        return {row["type"]: (row["status"], row["reason"]) for row in rows}

    def _placed(self, manifest: dict[str, Any]) -> dict[str, Any]:
        return {**manifest, "metadata": {"namespace": self.namespace, **manifest["metadata"]}}


@pytest.fixture
def api(control_plane: ControlPlane) -> Api:
    """An administrator's client in its own namespace."""
    client = control_plane.client
    assert client is not None
    name = f"test-{secrets.token_hex(4)}"
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return Api(client, name)


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    """Return a function that skips the test if a program is missing. In CI, it fails the test instead."""
    return _require


@pytest.fixture
def kubectl(api: Api, control_plane: ControlPlane) -> Kubectl:
    """Return kubectl for an administrator, in the namespace of `api`."""
    _require("kubectl")
    return Kubectl(str(find("kubectl")), control_plane.admin, api.namespace)


class OperatorProcess(subprocess.Popen[bytes]):
    """The operator as a process, with the address of its /metrics."""

    health: str = ""

    def metric(self, name: str) -> float:
        """Return the value of a metric without labels."""
        with urllib.request.urlopen(f"{self.health}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


@pytest.fixture(scope="session")
def start_operator(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., OperatorProcess]:
    """Start the operator as a process, with additional flags; the caller ends it."""

    def start(*flags: str) -> OperatorProcess:
        port = free_port()
        path = tmp_path_factory.mktemp("operator") / "log"
        command = [sys.executable, "-m", "llmendpoint_operator", "--own-namespace", OPERATOR_NAMESPACE,
                   "--health-listen", f"127.0.0.1:{port}", *flags]  # fmt: skip
        environment = os.environ | {"KUBECONFIG": str(control_plane.operator)}
        with path.open("wb") as log:
            process = OperatorProcess(command, stdout=log, stderr=log, env=environment)
        process.health = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{process.health}/livez", timeout=1).close()
            except OSError:
                assert process.poll() is None, path.read_text()[-3000:]
                time.sleep(0.1)
            else:
                break
        return process

    return start


@pytest.fixture(scope="session")
def operator(start_operator: Callable[[], OperatorProcess]) -> Iterator[OperatorProcess]:
    """The operator for all tests that do not stop it."""
    process = start_operator()
    yield process
    process.terminate()
    assert process.wait(20) == 0
