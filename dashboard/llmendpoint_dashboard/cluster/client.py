"""Sends GET requests to the API server.

The `kubernetes` package supplies the configuration (ServiceAccount or kubeconfig), the credentials (a ServiceAccount's
token is read again every minute), TLS and the type of errors. Its generated classes for APIs and models are not loaded,
because they take more than a second and 60 MB. There is no method that writes.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.client.rest import RESTClientObject, RESTResponse
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from yarl import URL

from llmendpoint_common.process.errors import NoClusterError
from llmendpoint_common.process.reasons import reason_of

_CONNECT_SECONDS = 10.0
#: By default, the API server ends a request after 60 s (--request-timeout).
_TIMEOUT_SECONDS = 60.0
_BUFFER_BYTES = 256 * 1024
#: Largest line of a watch. etcd stores objects of up to 1.5 MiB, and JSON may escape what they contain.
_MAX_LINE_BYTES = 16 * 1024 * 1024

#: Exceptions of a request that the API server refuses, or of an API server that cannot be reached.
API_ERRORS = (ApiException, aiohttp.ClientError, OSError, TimeoutError, ValueError)


async def load_configuration(kubeconfig: Path | None = None, context: str | None = None) -> Configuration:
    """Return the configuration of a kubeconfig or, without one, of the pod's ServiceAccount.

    Without a kubeconfig, outside a pod, it is that of the user's default kubeconfig. Raises NoClusterError.
    """
    configuration = Configuration()
    is_given = kubeconfig is not None or context is not None
    try:
        if is_given or not _is_in_pod(configuration):
            file = None if kubeconfig is None else str(kubeconfig)
            await load_kube_config(file, context, client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise NoClusterError(f"there is no cluster to connect to: {reason_of(error)}") from None
    configuration.proxy = configuration.proxy or _proxy_for(configuration.host)
    # Like kubectl, accept certificates without an Authority Key Identifier, which EKS has (kubernetes-client/python
    # #2394). Since Python 3.13, they are refused by default. Signatures, dates and names are verified as before.
    configuration.disable_strict_ssl_verification = True
    return configuration


def _is_in_pod(configuration: Configuration) -> bool:
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException:
        return False
    return True


def _proxy_for(url: str) -> str | None:
    """Return the proxy for a URL according to HTTPS_PROXY, HTTP_PROXY and NO_PROXY, or None without one."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def is_refusal(error: Exception) -> bool:
    """Return whether the API server refused a request because of permissions, or because a kind is missing."""
    return isinstance(error, ApiException) and error.status in (
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
    )


def describe(error: Exception) -> str:
    """Return what the API server said, or why it was not reached, as one line."""
    if not isinstance(error, ApiException):
        return reason_of(error)
    try:
        message = str(msgspec.json.decode(error.body or b"")["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        message = f"HTTP {error.status} {error.reason or ''}"
    return " ".join(message.split())[:500]


class ApiServer:
    """A client of one API server. A refusal raises `ApiException`, a failed connection another of `API_ERRORS`."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._tls: ssl.SSLContext = RESTClientObject(configuration).ssl_context
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """The address of the API server."""
        return str(self._configuration.host)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def read(self, path: str, query: Iterable[tuple[str, str]] = ()) -> bytes:
        """Send one GET request and return the body of the response. Does not retry."""
        response = await self._get(
            path, query, aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS, sock_connect=_CONNECT_SECONDS)
        )
        return await response.read()

    @asynccontextmanager
    async def watch(self, path: str, query: Iterable[tuple[str, str]]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Start a watch. Yields the lines of the response, and closes the connection at the end of the context."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        response = await self._get(path, [*query, ("watch", "true")], timeout)
        try:
            yield _lines(response.content)
        finally:
            # The body has no end, so that the connection cannot be used again.
            response.close()

    async def _get(
        self, path: str, query: Iterable[tuple[str, str]], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        text = urlencode(list(query))
        headers = {}
        # Reads the token of a ServiceAccount again if it is older than a minute.
        authorization = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if authorization:
            headers["Authorization"] = authorization
        response = await self._connected().get(
            URL(f"{self._configuration.host}{path}{'?' if text else ''}{text}", encoded=True),
            headers=headers,
            timeout=timeout,
            proxy=self._configuration.proxy,
            proxy_headers=self._configuration.proxy_headers,
            server_hostname=self._configuration.tls_server_name,
        )
        if response.status != HTTPStatus.OK:
            refusal = RESTResponse(response)
            await refusal.read()
            raise ApiException(http_resp=refusal)
        return response

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Each watch keeps a connection.
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
            headers = {"User-Agent": "llmendpoint-dashboard", "Accept": "application/json"}
            self._session = aiohttp.ClientSession(
                connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=_BUFFER_BYTES
            )
        return self._session


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of a response. Raises ValueError if one is too long."""
    parts: list[bytes] = []
    size = 0
    async for piece in content.iter_any():
        first, *rest = piece.split(b"\n")
        parts.append(first)
        size += len(first)
        for part in rest:
            line = b"".join(parts)
            if line:
                yield line
            parts, size = [part], len(part)
        if size > _MAX_LINE_BYTES:
            raise ValueError(f"an event of a watch has more than {_MAX_LINE_BYTES} bytes")
