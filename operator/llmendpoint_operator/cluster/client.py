"""Sends requests to the API server with the transport of the official client.

The `kubernetes` package supplies the configuration (ServiceAccount or kubeconfig), the credentials (a ServiceAccount's
token is read again every minute), TLS, connections and errors. Its generated classes for APIs and models are not
loaded: paths come from the table of kinds, and bodies are plain dicts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import aiohttp
import msgspec
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from llmendpoint_common.contracts.cluster import FIELD_MANAGER

#: The content type of server-side apply. JSON is YAML, so the body is JSON.
APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
_JSON = "application/json"
# By default, the API server ends a request after 60 s (--request-timeout) and the call of a webhook after 10 s.
_TIMEOUT_SECONDS = 60.0

#: Exceptions of a request that the API server refuses, or of an API server that cannot be reached.
API_ERRORS = (ApiException, aiohttp.ClientError, OSError, TimeoutError)


async def load_configuration() -> Configuration:
    """Return the configuration of the pod's ServiceAccount or, outside a pod, that of the kubeconfig.

    Raises ConfigException if there is neither.
    """
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException:
        await load_kube_config(client_configuration=configuration)
    return configuration


class ApiServer:
    """A client of one API server. A refusal raises `ApiException`, a failed connection another of `API_ERRORS`."""

    def __init__(self, configuration: Configuration) -> None:
        self._client = ApiClient(configuration)
        self._client.user_agent = FIELD_MANAGER

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def request(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, str]] = (),
        body: Any = None,
        content_type: str = _JSON,
    ) -> Any:
        """Send one request and return the decoded body of the response. Does not retry."""
        headers = {"Accept": _JSON, "Content-Type": content_type}
        method, url, headers, _, _ = await self._client.param_serialize(
            method, path, query_params=list(query), header_params=headers, auth_settings=["BearerToken"]
        )
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        response = await self._client.call_api(method, url, headers, body, _request_timeout=timeout)
        data = await response.read()
        if not 200 <= response.status <= 299:
            raise ApiException(http_resp=response)
        return msgspec.json.decode(data)
