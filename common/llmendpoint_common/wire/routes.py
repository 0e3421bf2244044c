"""Table of Ollama's routes: method, path, operation, class, dialects of the response, and other properties.

The meter reads a response with the dialect of its route. Admission finds here whether a request runs a model, manages
models, or must request its token usage. The load generator sends its requests to the paths in this table.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.wire.dialects.anthropic import MessagesObjectDialect, MessagesStreamDialect
from llmendpoint_common.wire.dialects.ollama import EmbedDialect, OllamaDialect, ProgressDialect
from llmendpoint_common.wire.dialects.openai import OpenAIObjectDialect, OpenAIStreamDialect
from llmendpoint_common.wire.dialects.reading import Dialect, DialectFactory, OnContent
from llmendpoint_common.wire.dialects.responses import ResponsesObjectDialect, ResponsesStreamDialect
from llmendpoint_common.wire.dialects.sniffing import SniffingDialect
from llmendpoint_common.wire.dialects.unknown import UnknownObjectDialect, UnknownStreamDialect
from llmendpoint_common.wire.http1.heads import path_of


class Dialects(NamedTuple):
    """Readers for the two forms of a response: a stream (NDJSON or server-sent events), and one JSON object."""

    stream: DialectFactory
    whole: DialectFactory


class RouteClass(Enum):
    """What a request does: run a model, read something, or anything else, which counts as management."""

    INFERENCE = auto()
    READ_ONLY = auto()
    MANAGEMENT = auto()


class Route(NamedTuple):
    """A route. A path that ends with `/` is a prefix. An empty method stands for every method; GET includes HEAD.

    `dialects`: readers of the response, or None if the response is not parsed.
    `transfers_files`: the response reports the progress of a transfer of model files.
    `usage_on_request`: a stream reports token counts only if the request asks for them.
    """

    method: bytes
    path: bytes
    operation: Operation
    route_class: RouteClass
    dialects: Dialects | None = None
    transfers_files: bool = False
    usage_on_request: bool = False


_INFERENCE, _READ_ONLY, _MANAGEMENT = RouteClass.INFERENCE, RouteClass.READ_ONLY, RouteClass.MANAGEMENT
_OLLAMA = Dialects(OllamaDialect, OllamaDialect)
_EMBED = Dialects(EmbedDialect, EmbedDialect)
_OPENAI = Dialects(OpenAIStreamDialect, OpenAIObjectDialect)
_OPENAI_OBJECT = Dialects(OpenAIObjectDialect, OpenAIObjectDialect)
_RESPONSES = Dialects(ResponsesStreamDialect, ResponsesObjectDialect)
_MESSAGES = Dialects(MessagesStreamDialect, MessagesObjectDialect)
_PROGRESS = Dialects(ProgressDialect, ProgressDialect)
_UNKNOWN = Dialects(UnknownStreamDialect, UnknownObjectDialect)

ROUTES = (
    Route(b"POST", b"/api/generate", Operation.GENERATE, _INFERENCE, _OLLAMA),
    Route(b"POST", b"/api/chat", Operation.CHAT, _INFERENCE, _OLLAMA),
    Route(b"POST", b"/api/embed", Operation.EMBED, _INFERENCE, _EMBED),
    Route(b"POST", b"/api/embeddings", Operation.EMBEDDINGS, _INFERENCE, _EMBED),
    Route(b"POST", b"/v1/chat/completions", Operation.OPENAI_CHAT, _INFERENCE, _OPENAI, usage_on_request=True),
    Route(b"POST", b"/v1/completions", Operation.OPENAI_COMPLETIONS, _INFERENCE, _OPENAI, usage_on_request=True),
    Route(b"POST", b"/v1/embeddings", Operation.OPENAI_EMBEDDINGS, _INFERENCE, _OPENAI_OBJECT),
    Route(b"POST", b"/v1/responses", Operation.OPENAI_RESPONSES, _INFERENCE, _RESPONSES),
    Route(b"POST", b"/v1/audio/transcriptions", Operation.OPENAI_TRANSCRIPTIONS, _INFERENCE),
    Route(b"POST", b"/v1/images/generations", Operation.OPENAI_IMAGE_GENERATIONS, _INFERENCE),
    Route(b"POST", b"/v1/images/edits", Operation.OPENAI_IMAGE_EDITS, _INFERENCE),
    Route(b"POST", b"/v1/messages", Operation.ANTHROPIC_MESSAGES, _INFERENCE, _MESSAGES),
    Route(b"POST", b"/api/pull", Operation.PULL, _MANAGEMENT, _PROGRESS, transfers_files=True),
    Route(b"POST", b"/api/push", Operation.PUSH, _MANAGEMENT, _PROGRESS, transfers_files=True),
    Route(b"POST", b"/api/create", Operation.CREATE, _MANAGEMENT, _PROGRESS, transfers_files=True),
    Route(b"POST", b"/api/copy", Operation.COPY, _MANAGEMENT),
    Route(b"DELETE", b"/api/delete", Operation.DELETE, _MANAGEMENT),
    Route(b"", b"/api/blobs/", Operation.BLOB, _MANAGEMENT),
    Route(b"POST", b"/api/experimental/aliases", Operation.ALIAS, _MANAGEMENT),
    Route(b"DELETE", b"/api/experimental/aliases", Operation.ALIAS, _MANAGEMENT),
    Route(b"POST", b"/api/me", Operation.ACCOUNT, _MANAGEMENT),
    Route(b"POST", b"/api/signout", Operation.ACCOUNT, _MANAGEMENT),
    Route(b"", b"/api/user/", Operation.ACCOUNT, _MANAGEMENT),
    # Both use the account at ollama.com that the server is signed in to.
    Route(b"POST", b"/api/experimental/web_search", Operation.ACCOUNT, _MANAGEMENT),
    Route(b"POST", b"/api/experimental/web_fetch", Operation.ACCOUNT, _MANAGEMENT),
    Route(b"POST", b"/api/show", Operation.SHOW, _READ_ONLY),
    Route(b"GET", b"/v1/models/", Operation.SHOW, _READ_ONLY),
    Route(b"GET", b"/api/tags", Operation.LIST, _READ_ONLY),
    Route(b"GET", b"/api/ps", Operation.LIST, _READ_ONLY),
    Route(b"GET", b"/v1/models", Operation.LIST, _READ_ONLY),
    Route(b"GET", b"/api/experimental/aliases", Operation.LIST, _READ_ONLY),
    Route(b"GET", b"/", Operation.INFO, _READ_ONLY),
    Route(b"GET", b"/api/version", Operation.INFO, _READ_ONLY),
    Route(b"GET", b"/api/status", Operation.INFO, _READ_ONLY),
)

#: Operations whose responses are read for token counts.
METERED = frozenset(route.operation for route in ROUTES if route.dialects is not None and not route.transfers_files)
#: Operations whose responses report the progress of a transfer of model files.
TRANSFERS = frozenset(route.operation for route in ROUTES if route.transfers_files)
#: Operations whose request body names the model that has to run.
WITH_MODEL = frozenset(route.operation for route in ROUTES if route.route_class is _INFERENCE)
#: Operations that manage models, their files, or the server.
MANAGEMENT = frozenset(route.operation for route in ROUTES if route.route_class is _MANAGEMENT)
#: Operations whose streams report token counts only if the request asks for them.
USAGE_ON_REQUEST = frozenset(route.operation for route in ROUTES if route.usage_on_request)

_ROOT = b"/"
_METHODS = {b"GET": (b"GET", b"HEAD")}
_PREFIX_ROUTES = tuple(route for route in ROUTES if route.path.endswith(b"/") and route.path != _ROOT)
_OPERATIONS = {
    (method, route.path): route.operation
    for route in ROUTES
    if route not in _PREFIX_ROUTES
    for method in _METHODS.get(route.method, (route.method,))
}
_PATHS = {route.operation: route.path.decode() for route in reversed(ROUTES)}
_CLASSES = {route.operation: route.route_class for route in ROUTES}
_DIALECTS = dict.fromkeys((*WITH_MODEL, Operation.OTHER), _UNKNOWN)
_DIALECTS |= {route.operation: route.dialects for route in ROUTES if route.dialects is not None}
#: Operations whose responses are an event stream or one object. A response of unknown shape can be anything.
_TWO_FORMS = frozenset(
    route.operation
    for route in ROUTES
    if route.dialects is not None and route.dialects.stream is not route.dialects.whole
)
_STREAMS = (b"application/x-ndjson", b"text/event-stream")
_FORMS: dict[Operation, bool | None] = {Operation.OPENAI_TRANSCRIPTIONS: True, Operation.OTHER: None}


def operation_of(method: bytes, target: bytes) -> Operation:
    """Return the operation of a request line, or `other` for an unknown route. The query string is ignored.

    The path is compared as Ollama's router compares it: percent-decoded, with regard to case, and without a trailing
    slash. Go answers other spellings (`//`, `/../`, a trailing slash) with a redirect or with 404.
    """
    found = _OPERATIONS.get((method, target))
    if found is not None:
        return found
    path = path_of(target)
    found = _OPERATIONS.get((method, path))
    if found is not None:
        return found
    for route in _PREFIX_ROUTES:
        if path.startswith(route.path) and method in _METHODS.get(route.method, (route.method or method,)):
            return route.operation
    return Operation.OTHER


def route_class(method: bytes, operation: Operation) -> RouteClass | None:
    """Return what a request does.

    None for a POST to an unknown route: it is inference if its body names a model, and management otherwise. Every
    other request to an unknown route is management, except a browser's preflight.
    """
    if method == b"OPTIONS":
        return RouteClass.READ_ONLY
    found = _CLASSES.get(operation)
    if found is None and method != b"POST":
        return RouteClass.MANAGEMENT
    return found


def form_of(operation: Operation) -> bool | None:
    """Return the argument `form` of `request_body.BodyReader` for the requests of an operation."""
    return _FORMS.get(operation, False)


def path_of_operation(operation: Operation) -> str:
    """Return the path of an operation, such as `/api/chat`.

    If several routes have the operation, the first one is used. Raises KeyError for `other`.
    """
    return _PATHS[operation]


def is_stream(content_type: bytes) -> bool:
    """Return whether this media type is a stream, for which a time to first token can be measured."""
    # Media types are compared without regard to case (RFC 9110, 8.3.1).
    return content_type.startswith(_STREAMS) or content_type[:32].lower().startswith(_STREAMS)


def dialect_of(operation: Operation, content_type: bytes, on_content: OnContent) -> Dialect:
    """Return a reader for a successful response.

    If the API has two forms of responses and the media type is neither that of a stream nor JSON, the body decides
    which one it is.
    Raises KeyError if the operation is neither `other` nor in WITH_MODEL or TRANSFERS.
    """
    dialects = _DIALECTS[operation]
    if is_stream(content_type):
        return dialects.stream(on_content)
    if operation in _TWO_FORMS and not content_type[:16].lower().startswith(b"application/json"):
        return SniffingDialect(on_content, dialects.stream, dialects.whole)
    return dialects.whole(on_content)
