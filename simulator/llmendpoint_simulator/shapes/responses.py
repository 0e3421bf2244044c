"""Events and objects of `/v1/responses`. The last event contains the complete response, and there is no `[DONE]`."""

from __future__ import annotations

import secrets
import time
from typing import Any

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.shapes.base import NAMED_EVENTS_FIELDS, Piece, Timings, ToolCall, Work, encode
from llmendpoint_simulator.shapes.openai import function_of


class ResponsesShape:
    """One response. Its output is a list of items: reasoning, then tool calls or a message."""

    operation = Operation.OPENAI_RESPONSES
    content_type = "text/event-stream"
    is_ollama = False
    stream_fields: tuple[tuple[str, str], ...] = NAMED_EVENTS_FIELDS

    def __init__(self) -> None:
        number = secrets.randbelow(1_000_000)
        self._id, self._message_id, self._reasoning_id = f"resp_{number}", f"msg_{number}", f"rs_{number}"
        self._sequence = 0
        self._index = 0
        self._thinking = ""
        self._text = ""
        self._is_reasoning = False
        self._output: list[dict[str, Any]] = []

    def piece(self, work: Work, piece: Piece) -> bytes:
        """Return the events of one piece."""
        events = self._begin(work)
        if piece.thinking:
            events += self._reason(piece.thinking)
        for call in piece.tool_calls:
            events += self._end_reasoning() + self._call(call)
        if piece.text:
            events += self._end_reasoning() + self._write(piece.text)
        return events

    def last(self, work: Work, _: Timings) -> bytes:
        """Return the ends of the open items, and `response.completed`."""
        events = self._begin(work) + self._end_reasoning()
        if self._text:
            events += self._end_message()
        response = {**self._response(work, "completed"), "output": self._output, "usage": _usage(work)}
        return events + self._event("response.completed", response=response | {"completed_at": int(time.time())})

    def whole(self, work: Work, piece: Piece, _: Timings) -> bytes:
        """Return one response."""
        output = []
        if piece.thinking:
            output.append(self._reasoning_item(piece.thinking))
        output += [self._call_item(call, index) for index, call in enumerate(piece.tool_calls)]
        if not piece.tool_calls:
            output.append(self._message_item(piece.text))
        response = self._response(work, "completed") | {"completed_at": int(time.time())}
        if response["reasoning"] is not None:
            response["reasoning"] = {name: value for name, value in response["reasoning"].items() if value}
        return encode(response | {"output": output, "usage": _usage(work)})

    def error(self, _: str) -> bytes:
        """Return nothing: Ollama 0.17.4 ends these streams without an error."""
        return b""

    # ---- events

    def _event(self, name: str, **data: Any) -> bytes:
        event = {**data, "sequence_number": self._sequence, "type": name}
        self._sequence += 1
        return f"event: {name}\n".encode() + b"data: " + encode(event) + b"\n\n"

    def _begin(self, work: Work) -> bytes:
        if self._sequence:
            return b""
        response = self._response(work, "in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _reason(self, text: str) -> bytes:
        events = b""
        if not self._is_reasoning:
            self._is_reasoning = True
            item = {"id": self._reasoning_id, "type": "reasoning", "summary": []}
            events = self._event("response.output_item.added", output_index=self._index, item=item)
        self._thinking += text
        return events + self._event("response.reasoning_summary_text.delta", **self._summary(), delta=text)

    def _end_reasoning(self) -> bytes:
        if not self._is_reasoning:
            return b""
        self._is_reasoning = False
        done = self._event("response.reasoning_summary_text.done", **self._summary(), text=self._thinking)
        return done + self._done(self._reasoning_item(self._thinking))

    def _summary(self) -> dict[str, Any]:
        return {"item_id": self._reasoning_id, "output_index": self._index, "summary_index": 0}

    def _call(self, call: ToolCall) -> bytes:
        item = self._call_item(call, self._index)
        place = {"item_id": item["id"], "output_index": self._index}
        begun = {**item, "status": "in_progress", "arguments": ""}
        return b"".join(
            (
                self._event("response.output_item.added", output_index=self._index, item=begun),
                self._event("response.function_call_arguments.delta", **place, delta=item["arguments"]),
                self._event("response.function_call_arguments.done", **place, arguments=item["arguments"]),
                self._done(item),
            )
        )

    def _write(self, text: str) -> bytes:
        events = b""
        if not self._text:
            item = {**self._message_item(""), "status": "in_progress", "content": []}
            events = self._event("response.output_item.added", output_index=self._index, item=item)
            events += self._event("response.content_part.added", **self._place(), part=_part(""))
        self._text += text
        return events + self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[])

    def _end_message(self) -> bytes:
        text = self._event("response.output_text.done", **self._place(), text=self._text, logprobs=[])
        part = self._event("response.content_part.done", **self._place(), part=_part(self._text))
        return text + part + self._done(self._message_item(self._text))

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message_id, "output_index": self._index, "content_index": 0}

    def _done(self, item: dict[str, Any]) -> bytes:
        event = self._event("response.output_item.done", output_index=self._index, item=item)
        self._output.append(item)
        self._index += 1
        return event

    # ---- objects

    def _reasoning_item(self, text: str) -> dict[str, Any]:
        summary = [{"type": "summary_text", "text": text}]
        return {"id": self._reasoning_id, "type": "reasoning", "summary": summary, "encrypted_content": text}

    def _call_item(self, call: ToolCall, index: int) -> dict[str, Any]:
        return {"id": f"fc_{self._id}_{index}", "type": "function_call", "status": "completed", "call_id": call.id,
                **function_of(call)}  # fmt: skip

    def _message_item(self, text: str) -> dict[str, Any]:
        return {"id": self._message_id, "type": "message", "status": "completed", "role": "assistant",
                "content": [_part(text)]}  # fmt: skip

    def _response(self, work: Work, status: str) -> dict[str, Any]:
        """Return a response without output and usage. It repeats fields of the request."""
        body = work.body
        text = body.get("text") or {}
        effort = (body.get("reasoning") or {}).get("effort")
        return {
            "id": self._id, "object": "response", "created_at": int(time.time()), "completed_at": None,
            "status": status, "incomplete_details": None, "model": work.name, "previous_response_id": None,
            "instructions": body.get("instructions"), "output": [], "error": None, "tools": _tools(body),
            "tool_choice": "auto", "truncation": body.get("truncation") or "disabled", "parallel_tool_calls": True,
            "text": {"format": text.get("format") or {"type": "text"}}, "top_p": _or_one(body.get("top_p")),
            "presence_penalty": 0, "frequency_penalty": 0, "top_logprobs": 0,
            "temperature": _or_one(body.get("temperature")),
            "reasoning": {"effort": effort, "summary": None} if effort else None, "usage": None,
            "max_output_tokens": body.get("max_output_tokens"), "max_tool_calls": None, "store": False,
            "background": bool(body.get("background")), "service_tier": "default", "metadata": {},
            "safety_identifier": None, "prompt_cache_key": None,
        }  # fmt: skip


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _tools(body: dict[str, Any]) -> list[dict[str, Any]]:
    fields = ("type", "name", "description", "strict", "parameters")
    return [{name: tool.get(name) for name in fields} for tool in body.get("tools") or ()]


def _or_one(value: Any) -> Any:
    return 1 if value is None else value


def _usage(work: Work) -> dict[str, Any]:
    prompt = work.entry.prompt_tokens
    return {"input_tokens": prompt, "output_tokens": work.tokens, "total_tokens": prompt + work.tokens,
            "input_tokens_details": {"cached_tokens": work.cached_tokens},
            "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip
