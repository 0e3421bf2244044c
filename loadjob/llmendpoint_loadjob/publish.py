"""Writes the result of a load pod to the cluster. The pod may patch only one ConfigMap, which receives the result."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from pathlib import Path

import aiohttp
import msgspec

from llmendpoint_common.contracts.loadrun import MAX_RESULT_BYTES, RESULT_KEY, Summary
from llmendpoint_common.process.errors import PublishError

log = logging.getLogger(__name__)

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_ATTEMPTS = 30
_PAUSE_SECONDS = 2.0


async def publish(summary: Summary, config_map: str) -> None:
    """Patch the ConfigMap `NAMESPACE/NAME` with the summary.

    Raises PublishError after 30 failed attempts, 2 s apart, or immediately if the summary is too large.
    """
    text = msgspec.json.encode(summary).decode()
    if len(text) > MAX_RESULT_BYTES:
        raise PublishError(f"the result is larger than {MAX_RESULT_BYTES // 1024} KiB; use fewer categories")
    namespace, _, name = config_map.partition("/")
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not name:
        raise PublishError(
            f"cannot write the result to {config_map!r}: the process does not run in a pod, or the name is not "
            "NAMESPACE/NAME"
        )
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}/api/v1/namespaces/{namespace}/configmaps/{name}"
    body = msgspec.json.encode({"data": {RESULT_KEY: text}})
    trust = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        for attempt in range(1, _ATTEMPTS + 1):
            sentence = await _patch(session, url, body, trust)
            if not sentence:
                return
            log.warning("could not write the result to %s: %s", config_map, sentence)
            if attempt < _ATTEMPTS:
                await asyncio.sleep(_PAUSE_SECONDS)
    raise PublishError(f"could not write the result to {config_map}: {sentence}")


async def _patch(session: aiohttp.ClientSession, url: str, body: bytes, trust: ssl.SSLContext) -> str:
    """Send the patch once. Return an empty string, or the reason for the failure."""
    token = await asyncio.to_thread((_ACCOUNT / "token").read_text)
    headers = {"Content-Type": "application/merge-patch+json", "Authorization": f"Bearer {token.strip()}"}
    try:
        async with session.patch(url, data=body, headers=headers, ssl=trust) as response:
            return "" if response.status == 200 else f"HTTP {response.status}"
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return str(error) or type(error).__name__
