"""JSON answers of the API, and its errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

import msgspec
from aiohttp import web

from llmendpoint_dashboard.contract import Problem
from llmendpoint_dashboard.loadtests.problems import RefusedError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Smaller answers are not compressed.
_MIN_COMPRESSED_BYTES = 4096
#: The message of msgspec for a value of a wrong type, and what it expects in words.
_WRONG_TYPE = re.compile(r"Expected `(\w+)(?: \| null)?`, got `\w+`")
_TYPES = {"int": "a whole number", "float": "a number", "str": "a text", "array": "a list", "object": "an object"}
_encode = msgspec.json.Encoder().encode


def answer(value: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """Return a value as JSON."""
    body = _encode(value)
    response = web.Response(body=body, status=status, content_type="application/json")
    if len(body) >= _MIN_COMPRESSED_BYTES:
        response.enable_compression()
    return response


def problem(status: HTTPStatus, sentence: str, field: str = "", headers: dict[str, str] | None = None) -> web.Response:
    """Return an error as JSON."""
    body = _encode(Problem(error=sentence, field=field))
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer every error as JSON. The answer to an unexpected one does not quote it."""
    try:
        return await handler(request)
    except RefusedError as error:
        return problem(error.status, str(error), error.field)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return problem(HTTPStatus(error.status), f"{error.reason}.", headers=_allowed(error))
    except ConnectionError:
        # The browser has closed the connection, so the response is not sent.
        return web.Response(status=HTTPStatus.BAD_REQUEST)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The dashboard failed. Its log says why.")


async def body_of(request: web.Request, kind: type[T]) -> T:
    """Return the body of a request. Raises RefusedError if it is not valid JSON of this type."""
    if request.content_type != "application/json":
        raise RefusedError("The body must be JSON.", status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    data = await request.read()
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise RefusedError(_sentence(reason), path.strip(".`").partition("[")[0]) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise RefusedError("The body is not valid JSON.", status=HTTPStatus.BAD_REQUEST) from None


def _sentence(reason: str) -> str:
    """Return what msgspec says of a value as a sentence for a user of the page."""
    found = _WRONG_TYPE.fullmatch(reason)
    return f"This must be {_TYPES[found[1]]}." if found and found[1] in _TYPES else f"{reason}."


def _allowed(error: web.HTTPException) -> dict[str, str]:
    return {name: error.headers[name] for name in ("Allow", "Retry-After") if name in error.headers}
