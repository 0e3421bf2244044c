"""The content of answers. It follows from the request and the behaviour, so the same request has the same answer.

- Text is a fixed sequence of words.
- A request with a format (JSON, or a JSON schema) gets an example of it.
- A request that offers tools gets a call of the first one, unless its last message is the result of a tool.
- A request that asks for thinking gets as many tokens of thinking as half of a text, before the rest. In contrast to
  Ollama, it does not think by default.
"""

from __future__ import annotations

import json
import secrets
from functools import lru_cache
from typing import Any

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.examples import example
from llmendpoint_simulator.requests import RequestError
from llmendpoint_simulator.shapes.base import Answer, Piece, ToolCall

_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "naïve", "日本", "🙂")
_TEXT = tuple(Piece(text=f"{word} ") for word in _WORDS)
_THINKING = tuple(Piece(thinking=f"{word} ") for word in _WORDS)
_HELD_BACK = Piece()
#: Characters of JSON in one token.
_JSON_TOKEN = 4
_THINK = (None, True, False, "high", "medium", "low")
_EFFORTS = ("high", "medium", "low", "none")


def answer_to(body: dict[str, Any], operation: Operation, tokens: int) -> Answer:
    """Return the answer to a request. A text has `tokens` tokens, and so have thinking and text together.

    Raises RequestError if the request asks for thinking in a way that Ollama refuses.
    """
    thinking = _repeated(_THINKING, 0, (tokens + 1) // 2) if _thinks(body, operation) else ()
    tool = _tool(body, operation)
    schema = _format(body, operation)
    if tool is not None:
        content = _call(*tool)
    elif schema is not None:
        content = _json(schema)
    else:
        content = _repeated(_TEXT, len(thinking), tokens)
    wanted = (*thinking, *content) if thinking else content
    limit = _limit(body, operation)
    is_complete = limit is None or limit >= len(wanted)
    return Answer(wanted if is_complete else wanted[:limit], complete=is_complete, is_held_back=tool is not None)


def text_answer(body: dict[str, Any], operation: Operation, tokens: int) -> Answer:
    """Return a text of `tokens` tokens, or fewer if the request limits them."""
    limit = _limit(body, operation)
    kept = tokens if limit is None else min(limit, tokens)
    return Answer(_repeated(_TEXT, 0, kept), complete=kept == tokens)


@lru_cache(maxsize=32)
def _repeated(pieces: tuple[Piece, ...], first: int, end: int) -> tuple[Piece, ...]:
    """Return the pieces from one number up to another one, over and over again."""
    return tuple(pieces[index % len(pieces)] for index in range(first, end))


def _limit(body: dict[str, Any], operation: Operation) -> int | None:
    """Return the limit of generated tokens, or None. As in Ollama, zero and negative numbers are no limit."""
    match operation:
        case Operation.GENERATE | Operation.CHAT:
            given = (body.get("options") or {}).get("num_predict")
        case Operation.OPENAI_RESPONSES:
            given = body.get("max_output_tokens")
        case _:
            # Ollama 0.17.4 reads only `max_tokens`. Newer clients of the OpenAI API send the other name.
            given = body.get("max_tokens") or body.get("max_completion_tokens")
    return int(given) if isinstance(given, int | float) and given > 0 else None


def _thinks(body: dict[str, Any], operation: Operation) -> bool:
    match operation:
        case Operation.GENERATE | Operation.CHAT:
            think = body.get("think")
            if think not in _THINK:
                allowed = '(must be "high", "medium", "low", true, or false)'
                raise RequestError(400, f'invalid think value: "{think}" {allowed}', malformed=True)
            return bool(think)
        case Operation.OPENAI_CHAT:
            effort = (body.get("reasoning") or {}).get("effort") or body.get("reasoning_effort")
            if effort and effort not in _EFFORTS:
                allowed = '(must be "high", "medium", "low", or "none")'
                raise RequestError(400, f"invalid reasoning value: '{effort}' {allowed}", malformed=True)
            return bool(effort) and effort != "none"
        case Operation.OPENAI_RESPONSES:
            return bool((body.get("reasoning") or {}).get("effort"))
        case Operation.ANTHROPIC_MESSAGES:
            return (body.get("thinking") or {}).get("type") == "enabled"
    return False


def _tool(body: dict[str, Any], operation: Operation) -> tuple[str, Any] | None:
    """Return the name and the parameters of the first tool, or None if no tool is to be called."""
    tools = body.get("tools") or ()
    said = body.get("input") if operation is Operation.OPENAI_RESPONSES else body.get("messages")
    if not tools or (isinstance(said, list) and said and _is_tool_result(said[-1])):
        return None
    tool = tools[0]
    function = tool.get("function") or tool
    return str(function.get("name", "")), function.get("parameters") or function.get("input_schema") or {}


def _is_tool_result(message: Any) -> bool:
    if not isinstance(message, dict):
        return False
    if message.get("role") == "tool" or message.get("type") == "function_call_output":
        return True
    content = message.get("content")
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in content
    )


def _format(body: dict[str, Any], operation: Operation) -> Any:
    """Return the JSON schema of the answer, or None for text."""
    match operation:
        case Operation.GENERATE | Operation.CHAT:
            return body.get("format") or None
        case Operation.OPENAI_CHAT:
            wanted = body.get("response_format") or {}
            if wanted.get("type") == "json_schema":
                return (wanted.get("json_schema") or {}).get("schema")
            return "json" if wanted.get("type") == "json_object" else None
        case Operation.OPENAI_RESPONSES:
            wanted = (body.get("text") or {}).get("format") or {}
            return wanted.get("schema") if wanted.get("type") == "json_schema" else None
    return None


def _json(schema: Any) -> tuple[Piece, ...]:
    text = json.dumps({"text": "fox"} if schema == "json" else example(schema))
    return tuple(Piece(text=text[first : first + _JSON_TOKEN]) for first in range(0, len(text), _JSON_TOKEN))


def _call(name: str, parameters: Any) -> tuple[Piece, ...]:
    """Return a tool call. As in Ollama, it arrives complete, and its tokens before the last one are held back."""
    arguments = example(parameters) if parameters else {}
    call = ToolCall(f"call_{secrets.token_hex(4)}", name, arguments)
    length = len(json.dumps({"name": name, "arguments": arguments}))
    return (*(_HELD_BACK,) * (length // _JSON_TOKEN), Piece(tool_calls=(call,)))
