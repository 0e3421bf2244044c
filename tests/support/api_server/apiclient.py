"""A synchronous client of a real API server for tests. It uses the official client; bodies are plain dicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import load_kube_config

from llmendpoint_operator.cluster.kinds import KINDS

_APPLY = "application/apply-patch+yaml"
_OTHER_KINDS = {
    "Namespace": "/api/v1/namespaces",
    "ResourceQuota": "/api/v1/namespaces/{namespace}/resourcequotas",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "DeviceClass": "/apis/resource.k8s.io/v1/deviceclasses",
    "ResourceClaimTemplate": "/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaimtemplates",
    "LimitRange": "/api/v1/namespaces/{namespace}/limitranges",
    "ValidatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "StorageClass": "/apis/storage.k8s.io/v1/storageclasses",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}

Manifest = dict[str, Any]


class Client:
    """Calls one API server as the user of a kubeconfig. A refusal raises ApiException, whose text has its message."""

    def __init__(self, kubeconfig: Path) -> None:
        configuration = Configuration()
        load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        configuration.retries = False
        self._client = ApiClient(configuration)

    def close(self) -> None:
        self._client.close()

    def apply(self, body: Manifest, *, manager: str = "test", subresource: str = "") -> Manifest:
        path = _path(body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"], subresource)
        query = [("fieldManager", manager), ("force", "true")]
        return dict(json.loads(self.request("PATCH", path, query, body, _APPLY)))

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        try:
            return dict(json.loads(self.request("GET", _path(kind, namespace, name))))
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def items(self, kind: str, namespace: str, labels: str = "") -> list[Manifest]:
        return list(json.loads(self.request("GET", _path(kind, namespace), [("labelSelector", labels)]))["items"])

    def patch(self, kind: str, namespace: str, name: str, patch: Any) -> Manifest:
        """Send a merge patch, like `kubectl edit` and other clients that do not use server-side apply."""
        path = _path(kind, namespace, name)
        return dict(json.loads(self.request("PATCH", path, [], patch, "application/merge-patch+json")))

    def patch_status(self, kind: str, name: str, patch: Any) -> Manifest:
        """Send a merge patch of the status of a cluster-scoped object."""
        content_type = "application/merge-patch+json"
        return dict(json.loads(self.request("PATCH", _path(kind, "", name, "status"), [], patch, content_type)))

    def may(self, verb: str, resource: str, namespace: str) -> bool:
        """Return whether the API server allows the user of this client to do something in the core group."""
        attributes = {"verb": verb, "resource": resource, "namespace": namespace}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes}}  # fmt: skip
        answer = self.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", [], body)
        return bool(json.loads(answer)["status"]["allowed"])

    def delete(self, kind: str, namespace: str, name: str) -> None:
        # Foreground and orphan deletion wait for the garbage collector, which is not part of an API server.
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        self.request("DELETE", _path(kind, namespace, name), body=options)

    def request(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> str:
        headers = {"Accept": "*/*", "Content-Type": content_type}
        method, url, headers, _, _ = self._client.param_serialize(
            method, path, query_params=query or [], header_params=headers, auth_settings=["BearerToken"]
        )
        response = self._client.call_api(method, url, headers, body, _request_timeout=30)
        text = response.read().decode()
        if not 200 <= response.status <= 299:
            raise ApiException(http_resp=response, body=text)
        return str(text)


def _path(kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
    if kind in KINDS:
        return KINDS[kind].path(namespace, name, subresource)
    parts = (_OTHER_KINDS[kind].format(namespace=namespace), name, subresource)
    return "/".join(part for part in parts if part)
