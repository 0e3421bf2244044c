"""A real kube-apiserver with etcd on free ports, and the operator as a process with only the shipped RBAC rules."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import MANAGED_BY, MANAGED_BY_LABEL
from llmendpoint_operator.cluster.kinds import KINDS, Role
from support.api_server.apiclient import Client
from support.api_server.control_plane import (
    HOW,
    OPERATOR_USER,
    TEAM_OPERATOR_USER,
    ControlPlane,
    find,
    running_control_plane,
)
from support.api_server.kubectl import Kubectl
from support.api_server.operator_process import OperatorProcess, run_operator
from support.api_server.parts import part_of
from support.api_server.rights import audit_policy

#: The module that compares rights and requests.
RIGHTS = "test_rights.py"
#: The share of this process in the API tests. Usually it runs all of them.
PART = part_of()
AUDIT_LOGS: list[Path] = []


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run these tests on asyncio's own loop: uvloop's cannot be closed while a server delays the end of TLS."""
    return {"asyncio": asyncio.new_event_loop}


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the comparison of rights and requests last, because it looks at the requests of all tests."""
    items.sort(key=lambda item: item.path.name == RIGHTS)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Leave out the modules that another process of the API tests runs."""
    is_ours = PART.is_last if item.path.name == RIGHTS else PART.claims(item.path.name)
    return None if is_ours else True


def pytest_sessionfinish() -> None:
    """Leave the audit logs for the process that compares rights and requests."""
    if not PART.is_last:
        PART.leave(AUDIT_LOGS)


@pytest.fixture(scope="session")
def audit_logs() -> list[Path]:
    """The audit logs of all API servers of the session, with the requests of the operators."""
    return AUDIT_LOGS


@pytest.fixture(scope="session")
def start_control_plane(
    tmp_path_factory: pytest.TempPathFactory, audit_logs: list[Path]
) -> Callable[..., AbstractContextManager[ControlPlane]]:
    """Start etcd and kube-apiserver, with additional flags of the latter. They run until the block ends."""

    def start(*flags: str) -> AbstractContextManager[ControlPlane]:
        folder = tmp_path_factory.mktemp("control-plane")
        policy, log = folder / "audit.yaml", folder / "audit.log"
        policy.write_text(json.dumps(audit_policy(OPERATOR_USER, TEAM_OPERATOR_USER)))
        audit_logs.append(log)
        return running_control_plane(
            folder, apiserver_flags=[f"--audit-policy-file={policy}", f"--audit-log-path={log}", *flags]
        )

    return start


@pytest.fixture(scope="session")
def control_plane(
    start_control_plane: Callable[..., AbstractContextManager[ControlPlane]],
) -> Iterator[ControlPlane]:
    """Start etcd and kube-apiserver; stop them at the end of the session."""
    with start_control_plane() as plane:
        yield plane


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
    return api_of(control_plane, f"test-{secrets.token_hex(4)}")


def api_of(plane: ControlPlane, namespace: str) -> Api:
    """Return an administrator's client in a namespace, which is created if it does not exist."""
    assert plane.client is not None
    plane.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    return Api(plane.client, namespace)


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    """Return a function that skips the test if a program is missing. In CI, it fails the test instead."""
    return _require


@pytest.fixture
def kubectl(api: Api, control_plane: ControlPlane) -> Kubectl:
    """Return kubectl for an administrator, in the namespace of `api`."""
    _require("kubectl")
    return Kubectl(str(find("kubectl")), control_plane.admin, api.namespace)


@pytest.fixture(scope="session")
def make_namespace(control_plane: ControlPlane) -> Callable[..., Api]:
    """Make another namespace, of this name and on this control plane if given; return an administrator's client."""

    def make(name: str = "", plane: ControlPlane = control_plane) -> Api:
        return api_of(plane, name or f"test-{secrets.token_hex(4)}")

    return make


@pytest.fixture(scope="session")
def start_operator(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., OperatorProcess]:
    """Start the operator as a process, with additional flags; the caller ends it.

    Of a flag that is given twice, the last value applies. `kubeconfig` is that of the shared API server by default.
    """

    def start(*flags: str, kubeconfig: Path | None = None) -> OperatorProcess:
        return run_operator(kubeconfig or control_plane.operator, tmp_path_factory.mktemp("operator"), *flags)

    return start


@pytest.fixture(scope="session")
def operator(start_operator: Callable[..., OperatorProcess]) -> Iterator[OperatorProcess]:
    """The operator for all tests that do not stop it."""
    process = start_operator("--autoscaling-actuator=HPA")
    yield process
    process.terminate()
    assert process.wait(20) == 0
