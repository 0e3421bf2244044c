"""Credentials in headers and in the query of the URL, which the results of a run do not show."""

from __future__ import annotations

import re

import msgspec

from llmendpoint_common.contracts.loadrun.document import RunDocument

#: What stands in a result in the place of a credential.
HIDDEN = "hidden"
_SECRET_NAME = re.compile("auth|cookie|key|pass|secret|sig|token", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Return whether the name of a header, or of a part of a query, is one of credentials."""
    return _SECRET_NAME.search(name) is not None


def without_secrets(document: RunDocument) -> RunDocument:
    """Return a document without credentials. Everything else is as in the document."""
    headers = document.request.headers
    if headers is not None:
        headers = {name: HIDDEN if is_secret(name) else value for name, value in headers.items()}
    return msgspec.structs.replace(
        document,
        target=msgspec.structs.replace(document.target, url=_without_secrets(document.target.url)),
        request=msgspec.structs.replace(document.request, headers=headers),
    )


def _without_secrets(url: str) -> str:
    base, mark, query = url.partition("?")
    parts = [part.partition("=") for part in query.split("&")]
    shown = (name + equals + (HIDDEN if value and is_secret(name) else value) for name, equals, value in parts)
    return base + mark + "&".join(shown)
