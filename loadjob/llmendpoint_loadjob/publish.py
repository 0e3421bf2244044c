"""Writes the result of a load pod to the cluster. The pod may patch only one ConfigMap, which receives the result.

A result can be worth hours of load, so a failed write is repeated for five minutes. A pod that is being stopped has
only seconds: it makes the write as long as the API server may still accept it, and ends when its ConfigMap or its
permission is gone, because then the LoadTest has been deleted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import aiohttp
import msgspec

from llmendpoint_common.contracts.loadrun import MAX_RESULT_BYTES, RESULT_KEY, Summary
from llmendpoint_common.process.errors import PublishError
from llmendpoint_common.process.reasons import reason_of

log = logging.getLogger(__name__)

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LIMIT_SECONDS = 300.0
#: The limit after SIGTERM. Kubelet waits 30 s, and the run itself has ended then.
_STOPPING_LIMIT_SECONDS = 5.0
_ATTEMPT_SECONDS = 10.0
_PAUSE_SECONDS = 2.0
_STOPPING_PAUSE_SECONDS = 0.5
#: Refusals that do not depend on time: the ConfigMap does not exist, or its content is refused.
_FINAL = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    HTTPStatus.UNPROCESSABLE_ENTITY})  # fmt: skip
#: Refusals that are final for a pod that is being stopped. Otherwise, a permission that is still on its way to the API
#: server, or a token that has just expired, may be the reason.
_FINAL_WHEN_STOPPING = _FINAL | {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


async def publish(summary: Summary, config_map: str, stopping: asyncio.Event) -> None:
    """Patch the ConfigMap `NAMESPACE/NAME` with the summary.

    Raises PublishError after 5 minutes, 5 s after `stopping` is set, or immediately if no later attempt can succeed.
    """
    write = _Write(config_map, _url(config_map), _body(summary), stopping)
    limited = asyncio.timeout(_LIMIT_SECONDS)
    shortener = asyncio.create_task(_shorten(limited, stopping))
    try:
        async with limited, aiohttp.ClientSession() as session:
            await write.until_accepted(session)
    except TimeoutError:
        raise PublishError(f"could not write the result to {config_map}: {write.failure}") from None
    finally:
        shortener.cancel()


class _Write:
    """A write that is repeated until the API server accepts it. `failure` describes the last failed attempt."""

    def __init__(self, config_map: str, url: str, body: bytes, stopping: asyncio.Event) -> None:
        self._config_map = config_map
        self._url = url
        self._body = body
        self._stopping = stopping
        self._trust = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
        # Like kubectl, accept certificates without an Authority Key Identifier, which EKS has (kubernetes-client/python
        # #2394). Since Python 3.13, they are refused by default. Signatures, dates and names are verified as before.
        self._trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self.failure = "the API server does not answer"

    async def until_accepted(self, session: aiohttp.ClientSession) -> None:
        """Repeat the write. Raises PublishError if it is refused for good."""
        while (status := await self._attempt(session)) != HTTPStatus.OK:
            log.warning("could not write the result to %s: %s", self._config_map, self.failure)
            if status in (_FINAL_WHEN_STOPPING if self._stopping.is_set() else _FINAL):
                raise PublishError(f"could not write the result to {self._config_map}: {self.failure}")
            await self._pause()

    async def _attempt(self, session: aiohttp.ClientSession) -> int:
        """Send the patch once. Return the status code of the response, or 0 if no response was received."""
        try:
            token = await asyncio.to_thread((_ACCOUNT / "token").read_text)
            headers = {"Content-Type": "application/merge-patch+json", "Authorization": f"Bearer {token.strip()}"}
            async with (
                asyncio.timeout(_ATTEMPT_SECONDS),
                session.patch(self._url, data=self._body, headers=headers, ssl=self._trust) as response,
            ):
                self.failure = f"HTTP {response.status}"
                return response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.failure = reason_of(error)
            return 0

    async def _pause(self) -> None:
        """Wait for the next attempt. A stop ends a long wait."""
        if self._stopping.is_set():
            await asyncio.sleep(_STOPPING_PAUSE_SECONDS)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), _PAUSE_SECONDS)


def _body(summary: Summary) -> bytes:
    text = msgspec.json.encode(summary).decode()
    if len(text) > MAX_RESULT_BYTES:
        raise PublishError(f"the result is larger than {MAX_RESULT_BYTES // 1024} KiB; use fewer categories")
    return msgspec.json.encode({"data": {RESULT_KEY: text}})


def _url(config_map: str) -> str:
    namespace, _, name = config_map.partition("/")
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not name:
        raise PublishError(
            f"cannot write the result to {config_map!r}: the process does not run in a pod, or the name is not "
            "NAMESPACE/NAME"
        )
    return f"https://{f'[{host}]' if ':' in host else host}:{port}/api/v1/namespaces/{namespace}/configmaps/{name}"


async def _shorten(limited: asyncio.Timeout, stopping: asyncio.Event) -> None:
    await stopping.wait()
    limited.reschedule(asyncio.get_running_loop().time() + _STOPPING_LIMIT_SECONDS)
