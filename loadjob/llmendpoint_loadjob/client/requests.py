"""Writes the requests of a run: each prompt becomes the bytes of an HTTP request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from llmendpoint_common.contracts.loadrun import Api, RunDocument, header_problem
from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER
from llmendpoint_common.process.errors import TargetError
from llmendpoint_common.process.version import VERSION
from llmendpoint_loadjob.client.target import Target
from llmendpoint_loadjob.dataset.prompts import Prompt

#: Pairs of role and content.
Messages: TypeAlias = Sequence[tuple[str, str]]

_encode = msgspec.json.Encoder().encode


class RequestWriter:
    """Writes the requests of a run. If there is an API key, it is sent as a bearer token.

    Raises TargetError if the URL does not fit the API, or if the key cannot be sent in a header.
    """

    def __init__(self, target: Target, document: RunDocument, api_key: str | None = None) -> None:
        self._api = document.target.api
        self._model = document.model
        self._request = document.request
        fields = {
            "Host": target.authority,
            "User-Agent": f"llmendpoint/{VERSION}",
            "Accept": "*/*",
            "Content-Type": "application/json",
        }
        headers = _merged(fields, document.request.headers or {}, api_key)
        lines = [f"POST {target.request_target(self._api)} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
        self._head = ("\r\n".join(lines) + f"\r\n{REQUEST_ID_HEADER}: ").encode()

    def write(self, prompt: Prompt, request_id: str, history: Messages = ()) -> bytes:
        """Return the head and body of one request. `history` contains the earlier messages of a conversation."""
        body = _encode(self._body(prompt, history))
        return b"%b%b\r\nContent-Length: %d\r\n\r\n%b" % (self._head, request_id.encode(), len(body), body)

    def _body(self, prompt: Prompt, history: Messages) -> dict[str, Any]:
        limit = self._request.max_tokens or prompt.max_tokens
        messages = with_history(prompt.messages, history)
        if self._api is Api.OPENAI_CHAT:
            return self._openai(messages, limit)
        if self._api is Api.OLLAMA_CHAT:
            return self._ollama({"messages": _chat(messages)}, limit)
        system = "\n\n".join(content for role, content in messages if role == "system")
        return self._ollama({"prompt": _transcript(messages)} | ({"system": system} if system else {}), limit)

    def _openai(self, messages: Messages, limit: int | None) -> dict[str, Any]:
        request, extra = self._request, self._request.body or {}
        body: dict[str, Any] = {"model": self._model, "messages": _chat(messages), "stream": request.stream}
        if request.stream:
            body["stream_options"] = {"include_usage": True}
        # OpenAI's newer models refuse max_tokens beside its successor.
        is_replaced = "max_completion_tokens" in extra
        given = _given(max_tokens=None if is_replaced else limit, temperature=request.temperature)
        return _with_objects(body | given, extra, "stream_options")

    def _ollama(self, asked: dict[str, Any], limit: int | None) -> dict[str, Any]:
        request = self._request
        options = _given(num_predict=limit, temperature=request.temperature) | (request.options or {})
        body = {"model": self._model, **asked, "stream": request.stream}
        if options:
            body["options"] = options
        return _with_objects(body, request.body or {}, "options")


def with_history(messages: Messages, history: Messages) -> Messages:
    """Return the messages of a conversation: the system message, the earlier messages, and the new ones."""
    if not history:
        return messages
    count = next((index for index, (role, _) in enumerate(messages) if role != "system"), len(messages))
    return (*messages[:count], *history, *messages[count:])


def _merged(fields: dict[str, str], given: dict[str, str], api_key: str | None) -> dict[str, str]:
    """Return the headers of every request. A given header replaces ours, whatever its case."""
    if api_key is not None:
        problem = header_problem("Authorization", api_key)
        if not api_key or problem:
            # The message of `header_problem` does not quote the value.
            raise TargetError(f"the API key cannot be sent: {problem or 'it is empty'}")
        if any(name.lower() == "authorization" for name in given):
            raise TargetError("set either an API key or the header Authorization, not both")
        fields = {**fields, "Authorization": f"Bearer {api_key}"}
    replaced = {name.lower() for name in given}
    return {name: value for name, value in fields.items() if name.lower() not in replaced} | given


def _chat(messages: Messages) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in messages]


def _transcript(messages: Messages) -> str:
    """Return the messages as one text, because `/api/generate` knows no conversation."""
    said = [(role, content) for role, content in messages if role != "system"]
    if len(said) == 1:
        return said[0][1]
    return "\n\n".join(f"{role.capitalize()}: {content}" for role, content in said)


def _with_objects(body: dict[str, Any], extra: dict[str, Any], nested: str) -> dict[str, Any]:
    """Return a body with additional fields. The object `nested` is merged, and other fields are replaced."""
    merged = body | extra
    mine, theirs = body.get(nested), extra.get(nested)
    if isinstance(mine, dict) and isinstance(theirs, dict):
        merged[nested] = mine | theirs
    return merged


def _given(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
