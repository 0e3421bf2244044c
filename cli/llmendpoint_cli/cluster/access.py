"""Access to the API server with the kubeconfig of the user.

The client is the operator's. It needs the package `kubernetes`, which is only imported here, because its import takes
more than a second.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import ConfigException, list_kube_config_contexts, load_incluster_config, load_kube_config
from yaml import YAMLError

from llmendpoint_cli.cluster.names import ObjectName
from llmendpoint_common.contracts.cluster import GROUP, VERSION
from llmendpoint_common.process.errors import ClusterError, NoClusterError
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_operator.cluster.client import API_ERRORS, MERGE_PATCH, ApiServer, proxy_for

_LOADTESTS = f"/apis/{GROUP}/{VERSION}/namespaces/{{}}/loadtests"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_CONFIG_MAPS = "/api/v1/namespaces/{}/configmaps"
Manifest = dict[str, Any]
# Its warning that no kubeconfig was found repeats the error.
logging.getLogger("kubernetes.aio.config.kube_config").setLevel(logging.ERROR)


class Cluster:
    """Reads and writes load tests. Every failure is a ClusterError with one sentence."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self._server = server
        self._namespace = namespace

    def resolve(self, name: ObjectName) -> ObjectName:
        """Return a name with its namespace."""
        return name if name.namespace else ObjectName(self._namespace, name.name)

    async def load_test(self, name: ObjectName) -> Manifest:
        """Return a LoadTest."""
        return await self._request("GET", f"{_LOADTESTS.format(name.namespace)}/{name.name}", f"LoadTest {name}")

    async def create(self, manifest: Manifest) -> Manifest:
        """Create a LoadTest and return it."""
        namespace = manifest["metadata"]["namespace"]
        return await self._request("POST", _LOADTESTS.format(namespace), f"a LoadTest in {namespace}", manifest)

    async def suspend(self, name: ObjectName) -> None:
        """Cancel a LoadTest. Its pods write what they have measured."""
        path = f"{_LOADTESTS.format(name.namespace)}/{name.name}"
        await self._request("PATCH", path, f"LoadTest {name}", {"spec": {"suspend": True}})

    async def config_map(self, name: ObjectName, uid: str) -> dict[str, str] | None:
        """Return the data of the ConfigMap with this name and UID, or None if it does not exist."""
        try:
            found = await self._server.request("GET", f"{_CONFIG_MAPS.format(name.namespace)}/{name.name}")
        except ApiException as error:
            if error.status == 404:
                return None
            raise ClusterError(_refusal(f"ConfigMap {name}", error)) from None
        except API_ERRORS as error:
            raise ClusterError(f"the API server cannot be reached: {reason_of(error)}") from error
        return (found.get("data") or {}) if found["metadata"]["uid"] == uid else None

    async def _request(self, method: str, path: str, what: str, body: Manifest | None = None) -> Manifest:
        content = MERGE_PATCH if method == "PATCH" else "application/json"
        try:
            answer: Manifest = await self._server.request(method, path, (), body, content)
        except ApiException as error:
            raise ClusterError(_refusal(what, error)) from None
        except API_ERRORS as error:
            raise ClusterError(f"the API server cannot be reached: {reason_of(error)}") from error
        return answer


def _refusal(what: str, error: ApiException) -> str:
    """Return what the API server said."""
    if error.status == 404:
        return f"{what} does not exist, or llmendpoint is not installed in this cluster"
    return f"{what}: {_message(error)}"


def _message(error: ApiException) -> str:
    try:
        return str(msgspec.json.decode(error.body or b"")["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"HTTP {error.status} {error.reason}"


@asynccontextmanager
async def cluster_of(kubeconfig: Path | None, context: str | None) -> AsyncIterator[Cluster]:
    """Return the cluster of a kubeconfig. Without a kubeconfig, return that of the pod in which this process runs.

    Raises ClusterError if there is neither.
    """
    async with server_of(kubeconfig, context) as (server, namespace, _):
        yield Cluster(server, namespace)


@asynccontextmanager
async def server_of(kubeconfig: Path | None, context: str | None) -> AsyncIterator[tuple[ApiServer, str, str]]:
    """Return a client of the API server, the namespace of the context, and the URL. Raises ClusterError."""
    configuration, namespace = await _configuration(kubeconfig, context)
    server = ApiServer(configuration)
    try:
        yield server, namespace, str(configuration.host)
    finally:
        await server.close()


async def _configuration(kubeconfig: Path | None, context: str | None) -> tuple[Configuration, str]:
    configuration = Configuration()
    file = None if kubeconfig is None else str(kubeconfig)
    try:
        namespace = await _load(file, context, configuration)
    except ConfigException as error:
        if kubeconfig is not None or context is not None:
            raise ClusterError(f"the kubeconfig cannot be used: {error}") from None
        try:
            load_incluster_config(client_configuration=configuration)
        except ConfigException:
            raise NoClusterError(f"there is no cluster to connect to: {error}") from None
        namespace = await asyncio.to_thread(_POD_NAMESPACE.read_text, "utf-8")
    configuration.proxy = configuration.proxy or proxy_for(configuration.host)
    configuration.disable_strict_ssl_verification = True
    return configuration, namespace.strip()


async def _load(file: str | None, context: str | None, configuration: Configuration) -> str:
    """Fill in the configuration from a kubeconfig, and return the namespace of the context.

    Raises ConfigException, or ClusterError if the file cannot be read or is damaged. The package kubernetes then raises
    various errors, because it does not check the types of the content.
    """
    try:
        await load_kube_config(file, context, client_configuration=configuration)
        return _namespace(file, context)
    except OSError as error:
        raise ClusterError(f"the kubeconfig cannot be used: {error.filename}: {error.strerror}") from None
    except (TypeError, ValueError, AttributeError, LookupError, YAMLError) as error:
        name = file or os.environ.get("KUBECONFIG") or "~/.kube/config"
        reason = " ".join(str(error).split())
        raise ClusterError(f"the kubeconfig cannot be used: {name} is damaged, or is another file: {reason}") from None


def _namespace(file: str | None, context: str | None) -> str:
    contexts, active = list_kube_config_contexts(file)
    chosen = active if context is None else next(item for item in contexts if item["name"] == context)
    return str(chosen["context"].get("namespace") or "default")
