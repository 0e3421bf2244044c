"""API keys of load tests that the page starts: whether one can be sent, and whether the endpoint accepts it."""

from __future__ import annotations

from http import HTTPStatus

import aiohttp

from llmendpoint_dashboard.loadtests.problems import RefusedError

FIELD = "apiKey"
_MAX_KEY = 16 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=5)


def parse_key(text: str) -> str:
    """Return an API key without the white space around it. Raises RefusedError, which does not quote it."""
    key = text.strip()
    if len(key) > _MAX_KEY or not key.isprintable():
        raise RefusedError("The API key is too long, or contains a control character such as a line end.", FIELD)
    return key


async def check_access(url: str, key: str) -> None:
    """Raise RefusedError if the endpoint at a base URL refuses requests with this key, or without any if it is empty.

    Without this request, each request of the run would be refused. If there is no answer, nothing is raised: the run
    itself then says why.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.head(url, headers=headers, allow_redirects=False) as response,
        ):
            status = response.status
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return
    if status == HTTPStatus.UNAUTHORIZED:
        raise RefusedError(
            "The endpoint does not accept this API key. Enter the key of one of its tenants."
            if key
            else "The endpoint requires an API key. Enter the key of one of its tenants.",
            FIELD,
        )
