"""Table of Ollama's routes: method, path, operation, dialects of the response, and properties that admission uses.

The meter reads a response with the dialect of its route. Admission finds here whether a request names a model, manages
models, or must request its token usage. The load generator sends its requests to the paths in this table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.wire.dialects.anthropic import MessagesObjectDialect, MessagesStreamDialect
from llmendpoint_common.wire.dialects.ollama import EmbedDialect, OllamaDialect, ProgressDialect
from llmendpoint_common.wire.dialects.openai import OpenAIObjectDialect, OpenAIStreamDialect
from llmendpoint_common.wire.dialects.reading import Dialect, OnContent
from llmendpoint_common.wire.dialects.responses import ResponsesObjectDialect, ResponsesStreamDialect
from llmendpoint_common.wire.http1.heads import path_of

DialectFactory: TypeAlias = Callable[[OnContent], Dialect]


class Dialects(NamedTuple):
    """Readers for the two forms of a response: a stream (NDJSON or server-sent events), and one JSON object."""

    stream: DialectFactory
    whole: DialectFactory


class Route(NamedTuple):
    """A route. A path that ends with `/` is a prefix and matches all methods; its `method` is empty.

    `dialects`: readers of the response, or None if the response is not parsed.
    `names_model`: the request body names the model that has to run.
    `transfers_files`: the response reports the progress of a transfer of model files.
    `usage_on_request`: a stream reports token counts only if the request asks for them.
    `manages_models`: the request manages models or their files, so `modelManagement: Forbidden` rejects it.
    """

    method: bytes
    path: bytes
    operation: Operation
    dialects: Dialects | None = None
    names_model: bool = False
    transfers_files: bool = False
    usage_on_request: bool = False
    manages_models: bool = False


_OLLAMA = Dialects(OllamaDialect, OllamaDialect)
_EMBED = Dialects(EmbedDialect, EmbedDialect)
_OPENAI = Dialects(OpenAIStreamDialect, OpenAIObjectDialect)
_OPENAI_OBJECT = Dialects(OpenAIObjectDialect, OpenAIObjectDialect)
_RESPONSES = Dialects(ResponsesStreamDialect, ResponsesObjectDialect)
_MESSAGES = Dialects(MessagesStreamDialect, MessagesObjectDialect)
_PROGRESS = Dialects(ProgressDialect, ProgressDialect)

ROUTES = (
    Route(b"POST", b"/api/generate", Operation.GENERATE, _OLLAMA, names_model=True),
    Route(b"POST", b"/api/chat", Operation.CHAT, _OLLAMA, names_model=True),
    Route(b"POST", b"/api/embed", Operation.EMBED, _EMBED, names_model=True),
    Route(b"POST", b"/api/embeddings", Operation.EMBEDDINGS, _EMBED, names_model=True),
    Route(b"POST", b"/v1/chat/completions", Operation.OPENAI_CHAT, _OPENAI, names_model=True, usage_on_request=True),
    Route(b"POST", b"/v1/completions", Operation.OPENAI_COMPLETIONS, _OPENAI, names_model=True, usage_on_request=True),
    Route(b"POST", b"/v1/embeddings", Operation.OPENAI_EMBEDDINGS, _OPENAI_OBJECT, names_model=True),
    Route(b"POST", b"/v1/responses", Operation.OPENAI_RESPONSES, _RESPONSES, names_model=True),
    Route(b"POST", b"/v1/audio/transcriptions", Operation.OPENAI_TRANSCRIPTIONS, names_model=True),
    Route(b"POST", b"/v1/messages", Operation.ANTHROPIC_MESSAGES, _MESSAGES, names_model=True),
    Route(b"POST", b"/api/pull", Operation.PULL, _PROGRESS, transfers_files=True, manages_models=True),
    Route(b"POST", b"/api/push", Operation.PUSH, _PROGRESS, transfers_files=True, manages_models=True),
    Route(b"POST", b"/api/create", Operation.CREATE, _PROGRESS, transfers_files=True, manages_models=True),
    Route(b"POST", b"/api/copy", Operation.COPY, manages_models=True),
    Route(b"DELETE", b"/api/delete", Operation.DELETE, manages_models=True),
    Route(b"", b"/api/blobs/", Operation.BLOB, manages_models=True),
    Route(b"POST", b"/api/show", Operation.SHOW),
    Route(b"GET", b"/api/tags", Operation.LIST),
    Route(b"GET", b"/api/ps", Operation.LIST),
    Route(b"GET", b"/v1/models", Operation.LIST),
)

#: Operations whose responses are read for token counts.
METERED = frozenset(route.operation for route in ROUTES if route.dialects is not None and not route.transfers_files)
#: Operations whose responses report the progress of a transfer of model files.
TRANSFERS = frozenset(route.operation for route in ROUTES if route.transfers_files)
#: Operations whose request body names the model that has to run.
WITH_MODEL = frozenset(route.operation for route in ROUTES if route.names_model)
#: Operations that manage models or their files.
MANAGEMENT = frozenset(route.operation for route in ROUTES if route.manages_models)
#: Operations whose streams report token counts only if the request asks for them.
USAGE_ON_REQUEST = frozenset(route.operation for route in ROUTES if route.usage_on_request)

_OPERATIONS = {(route.method, route.path): route.operation for route in ROUTES if not route.path.endswith(b"/")}
_PREFIXES = tuple((route.path, route.operation) for route in ROUTES if route.path.endswith(b"/"))
_PATHS = {route.operation: route.path.decode() for route in reversed(ROUTES)}
_DIALECTS = {route.operation: route.dialects for route in ROUTES if route.dialects is not None}


def operation_of(method: bytes, target: bytes) -> Operation:
    """Return the operation of a request line, or `other` for an unknown route. The query string is ignored."""
    found = _OPERATIONS.get((method, target))
    if found is not None:
        return found
    path = path_of(target)
    found = _OPERATIONS.get((method, path))
    if found is not None:
        return found
    return next((operation for prefix, operation in _PREFIXES if path.startswith(prefix)), Operation.OTHER)


def path_of_operation(operation: Operation) -> str:
    """Return the path of an operation, such as `/api/chat`.

    If several routes have the operation, the first one is used. Raises KeyError for `other`.
    """
    return _PATHS[operation]


def is_stream(content_type: bytes) -> bool:
    """Return whether this media type is a stream, for which a time to first token can be measured."""
    return content_type.startswith((b"application/x-ndjson", b"text/event-stream"))


def dialect_of(operation: Operation, content_type: bytes, on_content: OnContent) -> Dialect:
    """Return a reader for a successful response.

    Raises KeyError if the operation is neither in METERED nor in TRANSFERS.
    """
    dialects = _DIALECTS[operation]
    return (dialects.stream if is_stream(content_type) else dialects.whole)(on_content)
