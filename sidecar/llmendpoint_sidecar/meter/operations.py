"""Which requests carry tokens, and which dialect reads their answers."""

from __future__ import annotations

from llmendpoint_sidecar.contract import Operation
from llmendpoint_sidecar.wire.dialects.ollama import OllamaDialect
from llmendpoint_sidecar.wire.dialects.openai import OpenAIObjectDialect, OpenAIStreamDialect
from llmendpoint_sidecar.wire.events import Dialect, OnContent

_ROUTES = {
    (b"POST", b"/api/generate"): Operation.GENERATE,
    (b"POST", b"/api/chat"): Operation.CHAT,
    (b"POST", b"/v1/chat/completions"): Operation.OPENAI_CHAT,
    (b"POST", b"/api/pull"): Operation.PULL,
}

METERED = frozenset({Operation.GENERATE, Operation.CHAT, Operation.OPENAI_CHAT})


def operation_of(method: bytes, target: bytes) -> Operation:
    """Return the operation of a request line; a query string does not matter."""
    return _ROUTES.get((method, target.partition(b"?")[0]), Operation.OTHER)


def is_stream(content_type: bytes) -> bool:
    """Tell whether an answer comes piece by piece, so that the time of its first piece means something."""
    return content_type.startswith((b"application/x-ndjson", b"text/event-stream"))


def dialect_of(operation: Operation, content_type: bytes, on_content: OnContent) -> Dialect | None:
    """Return the reader of a successful answer; None where there is nothing to read."""
    if operation in (Operation.GENERATE, Operation.CHAT):
        return OllamaDialect(on_content)
    if operation is Operation.OPENAI_CHAT:
        stream = content_type.startswith(b"text/event-stream")
        return OpenAIStreamDialect(on_content) if stream else OpenAIObjectDialect(on_content)
    return None
