"""Sends requests to the API server.

The `kubernetes` package, the official client, supplies the configuration (ServiceAccount or kubeconfig), the
credentials (a ServiceAccount's token is read again every minute), TLS and errors. Its generated classes for APIs and
models are not loaded: paths come from the table of kinds, and bodies are plain dicts. Requests are sent on an aiohttp
session of our own. The package's session reads the environment and a netrc file for each request, in two calls of a
thread, and encodes bodies twice. That took 0.6 ms of CPU time per request, which is twice that of the request itself.
"""

from __future__ import annotations

import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.client.rest import RESTClientObject, RESTResponse
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from yarl import URL

from llmendpoint_common.contracts.cluster import FIELD_MANAGER
from llmendpoint_operator.cluster import slots

#: The content type of server-side apply. JSON is YAML, so the body is JSON.
APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
_JSON = "application/json"
# By default, the API server ends a request after 60 s (--request-timeout) and the call of a webhook after 10 s.
_TIMEOUT_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_BUFFER_BYTES = 256 * 1024
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
    configuration.proxy = configuration.proxy or proxy_for(configuration.host)
    # Like kubectl, accept certificates without an Authority Key Identifier, which EKS has (kubernetes-client/python
    # #2394). Since Python 3.13, they are refused by default. Signatures, dates and names are verified as before.
    configuration.disable_strict_ssl_verification = True
    return configuration


def tls_context(configuration: Configuration) -> ssl.SSLContext:
    """Return the certificate authorities, the client's certificate, and how strictly certificates are verified."""
    context: ssl.SSLContext = RESTClientObject(configuration).ssl_context
    return context


def proxy_for(url: str) -> str | None:
    """Return the proxy for a URL according to HTTPS_PROXY, HTTP_PROXY and NO_PROXY, or None if there is none."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


class Request(NamedTuple):
    """The labels of the counter of requests."""

    verb: str
    resource: str
    code: str


class ApiServer:
    """A client of one API server. A refusal raises `ApiException`, a failed connection another of `API_ERRORS`."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._tls = tls_context(configuration)
        self._session: aiohttp.ClientSession | None = None
        #: The number of requests by verb, resource and status code; `<error>` if no response was received.
        self.requests: Counter[Request] = Counter()
        #: The monotonic time since when requests get no response; None if the last one got one.
        self.silent_since: float | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

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
        data = None if body is None else msgspec.json.encode(body)
        response = await self._send(method, path, query, timeout, data, content_type)
        text = await response.read()
        slots.progress()
        return msgspec.json.decode(text)

    async def read(self, path: str, query: Iterable[tuple[str, str]] = ()) -> bytes:
        """Send one GET request and return the body of the response."""
        response = await self._send("GET", path, query, aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS))
        return await response.read()

    @asynccontextmanager
    async def watch(self, path: str, query: Iterable[tuple[str, str]]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Start a watch. Yields the lines of the response, and closes the connection at the end of the context."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        response = await self._send("GET", path, [*query, ("watch", "true")], timeout)
        try:
            yield _lines(response.content)
        finally:
            response.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, str]],
        timeout: aiohttp.ClientTimeout,
        data: bytes | None = None,
        content_type: str = _JSON,
    ) -> aiohttp.ClientResponse:
        """Send one request and return the response, whose body has not been read. Raises one of `API_ERRORS`."""
        parameters = list(query)
        code = "<error>"
        verb, resource = _action(method, path, parameters, content_type)
        url = (
            f"{self._configuration.host}{path}?{urlencode(parameters)}"
            if parameters
            else self._configuration.host + path
        )
        headers = {"Content-Type": content_type}
        # Reads the token of a ServiceAccount again if it is older than a minute.
        authorization = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if authorization:
            headers["Authorization"] = authorization
        try:
            response = await self._connected().request(
                method,
                URL(url, encoded=True),
                data=data,
                headers=headers,
                timeout=timeout,
                proxy=self._configuration.proxy,
                proxy_headers=self._configuration.proxy_headers,
                server_hostname=self._configuration.tls_server_name,
            )
            code, self.silent_since = str(response.status), None
            if not 200 <= response.status <= 299:
                refusal = RESTResponse(response)
                await refusal.read()
                raise ApiException(http_resp=refusal)
        except (aiohttp.ClientError, OSError):
            # TimeoutError is an OSError. A request that is cancelled says nothing about the API server.
            self.silent_since = self.silent_since or time.monotonic()
            raise
        finally:
            self.requests[Request(verb, resource, code)] += 1
        return response

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The number of connections is not limited: watches keep theirs, and a request that hangs must not delay
            # others. The number of reconciles is limited (slots.py).
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
            headers = {"User-Agent": FIELD_MANAGER, "Accept": _JSON}
            self._session = aiohttp.ClientSession(
                connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=_BUFFER_BYTES
            )
        return self._session


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
