"""Table of Ollama's routes: method, path, operation, readers of the answer, and properties that limits depend on.

It is the only place that knows a path. The meter takes from it which answers it reads and how; admission takes which
requests name a model, manage models, or have to ask for usage; the load generator takes its paths.
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
    """Readers for the two forms of an answer: a stream (NDJSON or server-sent events), and one JSON object."""

    stream: DialectFactory
    whole: DialectFactory


class Route(NamedTuple):
    """One route. A path that ends with `/` is a prefix; an empty method matches all methods.

    `dialects` is None if the answer reports neither tokens nor transferred bytes. `names_model`: the request body
    names the model that has to run. `transfers_files`: the answer reports the progress of a transfer of model files.
    `usage_on_request`: a stream reports token counts only if the request asks for them. `manages_models`: the request
    changes which models are present.
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

#: Operations whose answers report tokens.
METERED = frozenset(route.operation for route in ROUTES if route.dialects is not None and not route.transfers_files)
#: Operations whose answers report the progress of a transfer of model files.
TRANSFERS = frozenset(route.operation for route in ROUTES if route.transfers_files)
#: Operations whose request body names the model that has to run.
WITH_MODEL = frozenset(route.operation for route in ROUTES if route.names_model)
#: Operations that change which models are present.
MANAGEMENT = frozenset(route.operation for route in ROUTES if route.manages_models)
#: Operations whose streams report token counts only if the request asks for them.
USAGE_ON_REQUEST = frozenset(route.operation for route in ROUTES if route.usage_on_request)

_OPERATIONS = {(route.method, route.path): route.operation for route in ROUTES if not route.path.endswith(b"/")}
_PREFIXES = tuple((route.path, route.operation) for route in ROUTES if route.path.endswith(b"/"))
_PATHS = {route.operation: route.path.decode() for route in reversed(ROUTES)}
_DIALECTS = {route.operation: route.dialects for route in ROUTES if route.dialects is not None}


def operation_of(method: bytes, target: bytes) -> Operation:
    """Return the operation of a request line. The query string is ignored; unknown routes are `other`."""
    found = _OPERATIONS.get((method, target))
    if found is not None:
        return found
    path = path_of(target)
    found = _OPERATIONS.get((method, path))
    if found is not None:
        return found
    return next((operation for prefix, operation in _PREFIXES if path.startswith(prefix)), Operation.OTHER)


def path_of_operation(operation: Operation) -> str:
    """Return the path of an operation, such as `/api/chat`: the first one in the table. KeyError for `other`."""
    return _PATHS[operation]


def is_stream(content_type: bytes) -> bool:
    """Return whether an answer of this media type arrives in pieces, so that its first piece has a time of its own."""
    return content_type.startswith((b"application/x-ndjson", b"text/event-stream"))


def dialect_of(operation: Operation, content_type: bytes, on_content: OnContent) -> Dialect:
    """Return a reader for a successful answer. KeyError if the operation is neither in METERED nor in TRANSFERS."""
    dialects = _DIALECTS[operation]
    return (dialects.stream if is_stream(content_type) else dialects.whole)(on_content)
