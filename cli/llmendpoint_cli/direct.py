"""HTTP requests to servers that the user named or that run on this machine. They never go through HTTP_PROXY.

The metering proxy and the load generator connect directly too, so a server that this module reaches is one that they
reach.
"""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import cast
from urllib.error import HTTPError

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextlib.contextmanager
def open_url(
    request: str | urllib.request.Request, seconds: float, *, accepts_errors: bool = False
) -> Iterator[HTTPResponse]:
    """Send a request, and provide the response until the block ends.

    Raises OSError if no response begins within `seconds`, if what answers does not speak HTTP, if the response ends too
    early, or if the status is an error (urllib.error.HTTPError), which `accepts_errors` prevents.
    """
    try:
        with _response(request, seconds) as response:
            if isinstance(response, HTTPError) and not accepts_errors:
                raise response
            yield cast("HTTPResponse", response)
    except IncompleteRead as error:
        raise OSError("the response ended too early") from error
    except HTTPException as error:
        raise OSError(f"this is not an HTTP response: {error!r}") from error


def _response(request: str | urllib.request.Request, seconds: float) -> HTTPResponse | HTTPError:
    try:
        return cast("HTTPResponse", _OPENER.open(request, timeout=seconds))
    except HTTPError as error:
        return error
