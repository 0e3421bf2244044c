"""A real kube-apiserver with etcd on free ports, and the operator as a process with only the shipped RBAC rules."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import MANAGED_BY, MANAGED_BY_LABEL
from llmendpoint_operator.cluster.kinds import KINDS, Role
from support.apiclient import Client
from support.control_plane import HOW, ControlPlane, find, running_control_plane
from support.operator_process import OperatorProcess, run_operator


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Skip the API tests if there is no API server, with one line in the summary. In CI, fail instead."""
    missing = [name for name in ("etcd", "kube-apiserver") if find(name) is None]
    if missing:
        message = f"API TESTS DID NOT RUN: no {' and no '.join(missing)} here; {HOW}"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Start etcd and kube-apiserver; stop them at the end of the session."""
    with running_control_plane(tmp_path_factory.mktemp("control-plane")) as plane:
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
    return _new_namespace(control_plane)


@pytest.fixture
def make_namespace(control_plane: ControlPlane) -> Callable[..., Api]:
    """Make another namespace, of this name and on this control plane if given; return an administrator's client."""

    def make(name: str = "", plane: ControlPlane = control_plane) -> Api:
        return _new_namespace(plane, name)

    return make


def _new_namespace(plane: ControlPlane, name: str = "") -> Api:
    assert plane.client is not None
    name = name or f"test-{secrets.token_hex(4)}"
    plane.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return Api(plane.client, name)


@pytest.fixture(scope="session")
def start_operator(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., OperatorProcess]:
    """Start the operator as a process, with additional flags; the caller ends it."""

    def start(*flags: str, kubeconfig: Path = control_plane.operator) -> OperatorProcess:
        return run_operator(kubeconfig, tmp_path_factory.mktemp("operator"), *flags)

    return start


@pytest.fixture(scope="session")
def operator(start_operator: Callable[[], OperatorProcess]) -> Iterator[OperatorProcess]:
    """The operator for all tests that do not stop it."""
    process = start_operator()
    yield process
    process.terminate()
    assert process.wait(20) == 0
