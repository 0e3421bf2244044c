"""kopf's connection to the API server, with the configuration and the TLS settings of the official client.

kopf's own `ConnectionInfo` cannot change TLS settings, and its subclasses are not supported. So kopf gets a session of
aiohttp (`kopf.AiohttpSession`) with the context that all other requests of the operator use.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
import kopf
from kubernetes.aio.config import ConfigException

from llmendpoint_operator.cluster.client import load_configuration, tls_context

log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0


class Login:
    """The login handler of one run of kopf, which calls it at its start and when its credentials are refused.

    kopf compares new credentials with refused ones, and ends if they are the same instead of repeating its requests
    without a pause. Sessions are never equal, so unchanged credentials have to give the same session.
    """

    def __init__(self) -> None:
        self._info: kopf.ConnectionInfo | None = None
        self._session: aiohttp.ClientSession | None = None

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Make kopf use this login."""
        kopf.on.login(registry=registry, id="login")(self.login)
        kopf.on.cleanup(registry=registry, id="close")(self.close)

    async def login(self, **_: Any) -> kopf.AiohttpSession:
        """Return a session with the present credentials."""
        # If a login handler fails, kopf waits for credentials without end.
        while True:
            try:
                return await self._connect()
            except (ConfigException, OSError) as error:
                log.warning("cannot read the credentials for the API server: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def close(self, **_: Any) -> None:
        """Close the session, also if kopf ended before it used it."""
        if self._session is not None:
            await self._session.close()

    async def _connect(self) -> kopf.AiohttpSession:
        configuration = await load_configuration()
        scheme, _, token = (await configuration.get_api_key_with_prefix("BearerToken") or "").rpartition(" ")
        info = kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            username=configuration.username or None,
            password=configuration.password or None,
            scheme=scheme or None,
            token=token or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            proxy_url=configuration.proxy,
        )
        if self._session is None or info != self._info:
            # A session that is replaced is closed by kopf.
            connector = aiohttp.TCPConnector(limit=0, ssl=tls_context(configuration))
            self._session = aiohttp.ClientSession(
                connector=connector, headers=info.as_http_headers(), proxy=info.proxy_url
            )
            self._info = info
        return kopf.AiohttpSession(server=info.server, aiohttp_session=self._session)
