"""API keys of load tests that the page starts: whether one can be sent, and whether the endpoint accepts it."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

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


def read_key(path: Path) -> str:
    """Return the API key in the file of the stack. Raises RefusedError, which quotes neither the key nor the path."""
    try:
        with path.open("rb") as file:
            return parse_key(file.read(_MAX_KEY + 1).decode("utf-8-sig"))
    except OSError as error:
        reason = error.strerror
    except UnicodeDecodeError:
        reason = "it is not valid UTF-8"
    except RefusedError:
        reason = "it is too long, or contains a control character"
    raise RefusedError(f"The API key of the stack cannot be used: {reason}. Enter the key of a tenant.", FIELD)


async def check_access(url: str, key: str, *, is_of_stack: bool = False) -> None:
    """Raise RefusedError if the endpoint at a base URL refuses requests with this key, or without any if it is empty.

    Without this request, each request of the run would be refused. If there is no answer, nothing is raised: the run
    itself then says why. `is_of_stack` is whether the key is that of the stack, which the user has not entered.
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
        which = "the API key of the stack" if is_of_stack else "this API key"
        fault = f"does not accept {which}" if key else "requires an API key"
        raise RefusedError(f"The endpoint {fault}. Enter the key of one of its tenants.", FIELD)
