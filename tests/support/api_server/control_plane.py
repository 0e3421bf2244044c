"""A real kube-apiserver with etcd on free ports, for tests and benchmarks."""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import urllib3
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST, LOADTEST_SCHEDULE
from support.api_server.apiclient import Client
from support.documents.yaml_documents import documents
from support.waiting import wait_until

ROOT = Path(__file__).parents[3]
OPERATOR_NAMESPACE = "llmendpoint-system"
OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:llmendpoint"
STRANGER_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:stranger"
#: The user of a second installation, which is limited to this namespace and has no rights until a test grants some.
TEAM_NAMESPACE = "team-a"
TEAM_OPERATOR_USER = f"system:serviceaccount:{TEAM_NAMESPACE}:llmendpoint"
_USERS = {
    "admin": "system:masters",
    OPERATOR_USER: "system:serviceaccounts",
    STRANGER_USER: "strangers",
    TEAM_OPERATOR_USER: "system:serviceaccounts",
}
#: How to get the binaries.
HOW = "set KUBEBUILDER_ASSETS to a folder that has all of them (setup-envtest installs them), or put them on the PATH"


class Program:
    """A process that can be killed and started again."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command = command
        self._log = log
        self.name = Path(command[0]).name
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)


@dataclass(frozen=True)
class ControlPlane:
    """A running API server, and the kubeconfigs of an administrator and of three operators.

    `operator` has the rights of the plain install. `stranger` and
    `team_operator` have no rights: tests grant them in namespaces. `programs`
    are etcd and the API server.
    """

    admin: Path
    operator: Path
    stranger: Path
    team_operator: Path
    client: Client | None = None
    programs: tuple[Program, ...] = ()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of etcd and of the API server."""
        return tuple(program.process.pid for program in self.programs)

    def restart(self, name: str, down_seconds: float = 0.0) -> None:
        """Kill etcd or kube-apiserver, start it again, and wait until the API server answers."""
        (program,) = [item for item in self.programs if item.name == name]
        program.kill()
        time.sleep(down_seconds)
        program.start()
        assert self.client is not None
        client = self.client
        wait_until(lambda: _answers(client), 60)


def find(name: str) -> str | None:
    """Return the path of a program. Those of the control plane may be in a folder of their own."""
    return shutil.which(name, path=os.environ.get("KUBEBUILDER_ASSETS") or None) or shutil.which(name)


def free_port() -> int:
    """Return a port on the loopback address on which no process listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running_control_plane(folder: Path, *, apiserver_flags: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """Run etcd and kube-apiserver until the block ends, with our CRDs and the operator's RBAC rules installed."""
    etcd, apiserver = str(find("etcd")), str(find("kube-apiserver"))
    client_port, peer_port, secure_port = free_port(), free_port(), free_port()
    subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
    tokens = {user: secrets.token_hex(16) for user in _USERS}
    lines = [f'{token},{user},{user},"{_USERS[user]}"' for user, token in tokens.items()]
    (folder / "tokens.csv").write_text("\n".join(lines) + "\n")
    commands = [
        [etcd, "--data-dir", str(folder / "etcd"), f"--listen-client-urls=http://127.0.0.1:{client_port}",
         f"--advertise-client-urls=http://127.0.0.1:{client_port}", f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
         # A crash of the machine may lose data. On a busy disk, a sync takes seconds, and the API server gives up.
         "--unsafe-no-fsync"],
        [apiserver, f"--etcd-servers=http://127.0.0.1:{client_port}", f"--secure-port={secure_port}",
         "--bind-address=127.0.0.1", f"--cert-dir={folder}/pki", f"--service-account-key-file={folder}/sa.key",
         f"--service-account-signing-key-file={folder}/sa.key", "--service-account-issuer=https://kubernetes.default.svc",
         "--service-cluster-ip-range=10.0.0.0/16", f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC",
         "--disable-admission-plugins=ServiceAccount", *apiserver_flags],
    ]  # fmt: skip
    programs = tuple(Program(command, folder / "log") for command in commands)
    try:
        plane = _kubeconfigs(folder, secure_port, tokens)
        client = _connect(plane, folder / "log")
        _install(client)
        yield replace(plane, client=client, programs=programs)
        client.close()
    finally:
        # Nothing has to be kept, and an orderly shutdown of the API server takes half a minute.
        for program in programs:
            program.kill()


@contextmanager
def running_controllers(plane: ControlPlane, folder: Path, *names: str) -> Iterator[None]:
    """Run some controllers of kube-controller-manager until the block ends. setup-envtest does not install it."""
    command = [str(find("kube-controller-manager")), f"--kubeconfig={plane.admin}", f"--controllers={','.join(names)}",
               "--leader-elect=false", "--secure-port=0"]  # fmt: skip
    program = Program(command, folder / "log")
    try:
        yield
    finally:
        program.kill()


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
    return ControlPlane(paths["admin"], paths[OPERATOR_USER], paths[STRANGER_USER], paths[TEAM_OPERATOR_USER])


def _connect(plane: ControlPlane, log: Path) -> Client:
    """Return an administrator's client once the API server answers."""
    wait_until((plane.admin.parent / "pki/apiserver.crt").exists)
    client, last = Client(plane.admin), ""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            # It answers before the default roles exist, but is ready only afterwards.
            client.request("GET", "/readyz")
        except (urllib3.exceptions.HTTPError, ApiException) as error:
            last = repr(error)
            time.sleep(0.2)
        else:
            return client
    raise AssertionError(f"kube-apiserver did not become ready: {last} {log.read_text(errors='replace')[-3000:]}")


def _install(client: Client) -> None:
    """Apply the CRDs and the manifests of `kubectl apply -k manifests/`, except those that need more than an API server."""
    for path in sorted((ROOT / "manifests/crds").glob("*.yaml")):
        for document in documents(path.read_text()):
            client.apply(document)
    for document in documents((ROOT / "manifests/install.yaml").read_text()):
        if document["kind"] not in ("Deployment", "Service", "ServiceMonitor"):
            client.apply(document)
    for kind in (LLMENDPOINT, LOADTEST, LOADTEST_SCHEDULE):
        wait_until(functools.partial(_is_served, client, kind))


def _answers(client: Client) -> bool:
    try:
        client.request("GET", "/readyz")
    except (urllib3.exceptions.HTTPError, ApiException):
        return False
    return True


def _is_served(client: Client, kind: str) -> bool:
    try:
        client.items(kind, "default")
    except ApiException:
        return False
    return True
