"""Which requests carry tokens, and which dialect reads their answers."""

from __future__ import annotations

from collections.abc import Callable

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.wire.dialects.anthropic import MessagesObjectDialect, MessagesStreamDialect
from llmendpoint_common.wire.dialects.ollama import EmbedDialect, OllamaDialect, ProgressDialect
from llmendpoint_common.wire.dialects.openai import OpenAIObjectDialect, OpenAIStreamDialect
from llmendpoint_common.wire.dialects.reading import Dialect, OnContent
from llmendpoint_common.wire.dialects.responses import ResponsesObjectDialect, ResponsesStreamDialect
from llmendpoint_common.wire.http1.heads import path_of

_ROUTES = {
    (b"POST", b"/api/generate"): Operation.GENERATE,
    (b"POST", b"/api/chat"): Operation.CHAT,
    (b"POST", b"/api/embed"): Operation.EMBED,
    (b"POST", b"/api/embeddings"): Operation.EMBEDDINGS,
    (b"POST", b"/v1/chat/completions"): Operation.OPENAI_CHAT,
    (b"POST", b"/v1/completions"): Operation.OPENAI_COMPLETIONS,
    (b"POST", b"/v1/embeddings"): Operation.OPENAI_EMBEDDINGS,
    (b"POST", b"/v1/responses"): Operation.OPENAI_RESPONSES,
    (b"POST", b"/v1/audio/transcriptions"): Operation.OPENAI_TRANSCRIPTIONS,
    (b"POST", b"/v1/messages"): Operation.ANTHROPIC_MESSAGES,
    (b"POST", b"/api/pull"): Operation.PULL,
    (b"POST", b"/api/push"): Operation.PUSH,
    (b"POST", b"/api/create"): Operation.CREATE,
    (b"POST", b"/api/copy"): Operation.COPY,
    (b"DELETE", b"/api/delete"): Operation.DELETE,
    (b"POST", b"/api/show"): Operation.SHOW,
    (b"GET", b"/api/tags"): Operation.LIST,
    (b"GET", b"/api/ps"): Operation.LIST,
    (b"GET", b"/v1/models"): Operation.LIST,
}
_BLOBS = b"/api/blobs/"

#: Readers of an event stream (or NDJSON) and of one object.
_DIALECTS: dict[Operation, tuple[Callable[[OnContent], Dialect], Callable[[OnContent], Dialect]]] = {
    Operation.GENERATE: (OllamaDialect, OllamaDialect),
    Operation.CHAT: (OllamaDialect, OllamaDialect),
    Operation.EMBED: (EmbedDialect, EmbedDialect),
    Operation.EMBEDDINGS: (EmbedDialect, EmbedDialect),
    Operation.OPENAI_CHAT: (OpenAIStreamDialect, OpenAIObjectDialect),
    Operation.OPENAI_COMPLETIONS: (OpenAIStreamDialect, OpenAIObjectDialect),
    Operation.OPENAI_EMBEDDINGS: (OpenAIObjectDialect, OpenAIObjectDialect),
    Operation.OPENAI_RESPONSES: (ResponsesStreamDialect, ResponsesObjectDialect),
    Operation.ANTHROPIC_MESSAGES: (MessagesStreamDialect, MessagesObjectDialect),
}

METERED = frozenset(_DIALECTS)
#: Whose answer tells how far a model file's transfer is.
TRANSFERS = frozenset({Operation.PULL, Operation.PUSH, Operation.CREATE})
#: Whose body says which model is to work.
WITH_MODEL = METERED | {Operation.OPENAI_TRANSCRIPTIONS}


def operation_of(method: bytes, target: bytes) -> Operation:
    """Return the operation of a request line; a query string does not matter."""
    found = _ROUTES.get((method, target))
    if found is not None:
        return found
    path = path_of(target)
    found = _ROUTES.get((method, path))
    if found is not None:
        return found
    return Operation.BLOB if path.startswith(_BLOBS) else Operation.OTHER


def is_stream(content_type: bytes) -> bool:
    """Tell whether an answer comes piece by piece, so that the time of its first piece means something."""
    return content_type.startswith((b"application/x-ndjson", b"text/event-stream"))


def dialect_of(operation: Operation, content_type: bytes, on_content: OnContent) -> Dialect:
    """Return the reader of a successful answer; KeyError where the operation has none."""
    if operation in TRANSFERS:
        return ProgressDialect(on_content)
    stream, whole = _DIALECTS[operation]
    return (stream if is_stream(content_type) else whole)(on_content)
