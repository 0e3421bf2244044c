"""Credentials in headers, in the query of the URL and in fields of the body, which the results of a run do not show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from llmendpoint_common.contracts.loadrun.document import RunDocument

#: What stands in a result in the place of a credential.
HIDDEN = "hidden"
#: Shortest text of a field of the body that no message may quote.
_MIN_SECRET = 8
#: Fields of a body that are nested deeper are hidden.
_MAX_DEPTH = 16
_SECRET_NAME = re.compile("auth|cookie|key|pass|secret|sig|token", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Return whether the name of a header, of a part of a query or of a field is one of credentials."""
    return _SECRET_NAME.search(name) is not None


def secrets_of(document: RunDocument) -> Iterator[str]:
    """Yield the credentials in a document, as texts that no message may quote."""
    request = document.request
    for name, value in (request.headers or {}).items():
        if is_secret(name):
            # "Bearer KEY" and "KEY" are both secrets.
            yield from (value, *value.split()[1:])
    yield from (value for name, value in parse_qsl(urlsplit(document.target.url).query) if is_secret(name))
    # A short text is a setting, such as `tokenizer_mode: auto`.
    yield from (text for text in _secrets_in(request.body or {}) if len(text) >= _MIN_SECRET)


def without_secrets(document: RunDocument) -> RunDocument:
    """Return a document without credentials. Everything else is as in the document."""
    headers, body = document.request.headers, document.request.body
    if headers is not None:
        headers = {name: HIDDEN if is_secret(name) else value for name, value in headers.items()}
    return msgspec.structs.replace(
        document,
        target=msgspec.structs.replace(document.target, url=_without_secrets(document.target.url)),
        request=msgspec.structs.replace(document.request, headers=headers, body=_hidden_in("", body, 0)),
    )


def _without_secrets(url: str) -> str:
    base, mark, query = url.partition("?")
    parts = [part.partition("=") for part in query.split("&")]
    shown = (name + equals + (HIDDEN if value and is_secret(name) else value) for name, equals, value in parts)
    return base + mark + "&".join(shown)


def _secrets_in(body: dict[str, Any]) -> Iterator[str]:
    """Yield the texts in the fields of a body whose names are those of credentials."""
    waiting: list[tuple[str, Any]] = list(body.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, str) and is_secret(name):
            yield value
        elif isinstance(value, list):
            waiting += [(name, item) for item in value]
        elif isinstance(value, dict):
            waiting += value.items()


def _hidden_in(name: str, value: Any, depth: int) -> Any:
    """Return a value of the body without credentials. Numbers are none: `max_tokens` is the name of one."""
    if isinstance(value, str):
        return HIDDEN if is_secret(name) else value
    if isinstance(value, list | dict) and depth == _MAX_DEPTH:
        return HIDDEN
    if isinstance(value, list):
        return [_hidden_in(name, item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _hidden_in(key, item, depth + 1) for key, item in value.items()}
    return value
