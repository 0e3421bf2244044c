"""Sends requests to the API server with the transport of the official client.

The `kubernetes` package supplies the configuration (ServiceAccount or kubeconfig), the credentials (a ServiceAccount's
token is read again every minute), TLS, connections and errors. Its generated classes for APIs and models are not
loaded: paths come from the table of kinds, and bodies are plain dicts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.client.rest import RESTResponse
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from llmendpoint_common.contracts.cluster import FIELD_MANAGER

#: The content type of server-side apply. JSON is YAML, so the body is JSON.
APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
_JSON = "application/json"
# By default, the API server ends a request after 60 s (--request-timeout) and the call of a webhook after 10 s.
_TIMEOUT_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

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


class Request(NamedTuple):
    """The labels of the counter of requests."""

    verb: str
    resource: str
    code: str


class ApiServer:
    """A client of one API server. A refusal raises `ApiException`, a failed connection another of `API_ERRORS`."""

    def __init__(self, configuration: Configuration) -> None:
        self._client = ApiClient(configuration)
        # A watch keeps its connection for half an hour or more. With the common limit of connections, the watches of
        # many namespaces would leave none for other requests.
        self._streams = ApiClient(configuration)
        self._streams.rest_client.maxsize = 0
        for client in (self._client, self._streams):
            client.user_agent = FIELD_MANAGER
        #: The number of requests by verb, resource and status code; `<error>` if no response was received.
        self.requests: Counter[Request] = Counter()
        #: The monotonic time since when requests get no response; None if the last one got one.
        self.silent_since: float | None = None

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
        await self._streams.close()

    async def request(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, str]] = (),
        body: Any = None,
        content_type: str = _JSON,
    ) -> Any:
        """Send one request and return the decoded body of the response. Does not retry."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        response = await self._send(method, path, query, timeout, body, content_type)
        return msgspec.json.decode(await response.read())

    async def read(self, path: str, query: Iterable[tuple[str, str]] = ()) -> bytes:
        """Send one GET request and return the body of the response."""
        response = await self._send("GET", path, query, aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS))
        return bytes(await response.read())

    @asynccontextmanager
    async def watch(self, path: str, query: Iterable[tuple[str, str]]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Start a watch. Yields the lines of the response, and closes the connection at the end of the context."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        response = await self._send("GET", path, [*query, ("watch", "true")], timeout)
        try:
            yield _lines(response.response.content)
        finally:
            response.response.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, str]],
        timeout: aiohttp.ClientTimeout,
        body: Any = None,
        content_type: str = _JSON,
    ) -> RESTResponse:
        """Send one request and return the response, whose body has not been read. Raises one of `API_ERRORS`."""
        headers = {"Accept": _JSON, "Content-Type": content_type}
        parameters = list(query)
        client = self._client if timeout.total else self._streams
        code = "<error>"
        verb, resource = _action(method, path, parameters, content_type)
        method, url, headers, _, _ = await client.param_serialize(
            method, path, query_params=parameters, header_params=headers, auth_settings=["BearerToken"]
        )
        try:
            response = await client.call_api(method, url, headers, body, _request_timeout=timeout)
            code, self.silent_since = str(response.status), None
            if not 200 <= response.status <= 299:
                await response.read()
                raise ApiException(http_resp=response)
        except (aiohttp.ClientError, OSError):
            # TimeoutError is an OSError. A request that is cancelled says nothing about the API server.
            self.silent_since = self.silent_since or time.monotonic()
            raise
        finally:
            self.requests[Request(verb, resource, code)] += 1
        return response


def _action(method: str, path: str, query: Iterable[tuple[str, str]], content_type: str) -> tuple[str, str]:
    """Return the verb and the resource of a request, such as `get` and `pods` or `apply` and `llmendpoints/status`."""
    parts = path.strip("/").split("/")[2 if path.startswith("/api/") else 3 :]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    plural, name, subresource = (*parts, "", "", "")[:3]
    resource = f"{plural}/{subresource}" if subresource else plural
    if method == "GET":
        return ("watch" if ("watch", "true") in query else "get" if name else "list"), resource
    return ("apply" if content_type == APPLY else _VERBS[method]), resource


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of a response. `StreamReader.readline` limits their length."""
    parts: list[bytes] = []
    async for piece in content.iter_any():
        first, *rest = piece.split(b"\n")
        parts.append(first)
        for part in rest:
            line = b"".join(parts)
            if line:
                yield line
            parts = [part]
