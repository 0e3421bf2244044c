"""Lists all objects of a kind in a scope, page by page.

An object is passed on as soon as it is decoded. The memory of a listing is that of one page, however many objects
there are.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import msgspec
from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_operator.cluster.client import ApiServer
from llmendpoint_operator.cluster.kinds import Kind
from llmendpoint_operator.kube.owner import Manifest

_PAGE = 100
# When the pages of a listing have expired twice, the listing is repeated as one page.
_PAGE_ATTEMPTS = 2


class _Meta(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815 - a field of the API
    continuation: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    metadata: _Meta
    items: list[msgspec.Raw] | None = None


_pages = msgspec.json.Decoder(_Page)
_objects = msgspec.json.Decoder(dict)


def decode_object(kind: Kind, text: bytes | msgspec.Raw) -> Manifest:
    """Return an object with apiVersion and kind, which the items of a list lack, and without managedFields.

    managedFields are often larger than the rest.
    """
    body: Manifest = _objects.decode(text)
    body["metadata"].pop("managedFields", None)
    body.setdefault("apiVersion", kind.api_version)
    body.setdefault("kind", kind.name)
    return body


async def list_objects(
    server: ApiServer, kind: Kind, scope: str, begin: Callable[[], None], show: Callable[[Manifest], None]
) -> str:
    """Call `begin`, then `show` with each object, and return the resourceVersion of the listing.

    If pages expire (410), the listing begins again: `begin` is called several times then. Raises one of `API_ERRORS`.
    """
    for attempt in range(_PAGE_ATTEMPTS + 1):
        begin()
        try:
            return await _list_once(server, kind, scope, show, _PAGE if attempt < _PAGE_ATTEMPTS else 0)
        except ApiException as error:
            if error.status != HTTPStatus.GONE or attempt == _PAGE_ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _list_once(server: ApiServer, kind: Kind, scope: str, show: Callable[[Manifest], None], limit: int) -> str:
    query = [*kind.selectors, *([("limit", str(limit))] if limit else [])]
    continuation = ""
    while True:
        text = await server.read(kind.path(scope), [*query, *([("continue", continuation)] if continuation else [])])
        page = _pages.decode(text)
        for item in page.items or ():
            show(decode_object(kind, item))
        continuation = page.metadata.continuation
        if not continuation:
            return page.metadata.resourceVersion
