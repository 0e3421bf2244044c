"""HTTP requests to servers that the user named or that run on this machine. They never go through HTTP_PROXY.

The metering proxy and the load generator connect directly too, so a server that this module reaches is one that they
reach.
"""

from __future__ import annotations

import urllib.request
from http.client import HTTPException, HTTPResponse
from typing import cast

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_url(request: str | urllib.request.Request, seconds: float) -> HTTPResponse:
    """Send a request, and return the response, which has to be closed.

    Raises OSError if no response begins within `seconds`, if what answers does not speak HTTP, or if the status is an
    error (urllib.error.HTTPError).
    """
    try:
        return cast("HTTPResponse", _OPENER.open(request, timeout=seconds))
    except HTTPException as error:
        raise OSError(f"this is not an HTTP response: {error!r}") from error
