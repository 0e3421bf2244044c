"""Calls of Anthropic's library for Python."""

from __future__ import annotations

from typing import Any

import anthropic

from clients.programs.harness import MESSAGES, PARAMETERS, Call, Target, cancelled, main

_TOOL = {"name": "get_weather", "description": "Weather of a city", "input_schema": PARAMETERS}
_THINKING = {"type": "enabled", "budget_tokens": 1024}


def calls(target: Target) -> dict[str, Call]:
    """Return the calls of one target."""
    settings: dict[str, Any] = {"base_url": target.url, "api_key": target.key, "max_retries": 0}
    client, later = anthropic.Anthropic(**settings), anthropic.AsyncAnthropic(**settings)
    return {**messages(client, target), **errors(client, target), **asynchronous(later, target)}


def messages(client: Any, target: Target) -> dict[str, Call]:
    common = {"model": target.model, "max_tokens": 2000, "messages": MESSAGES}

    def create(**rest: Any) -> Any:
        return client.messages.create(**{**common, **rest})

    def stream(**rest: Any) -> Any:
        with client.messages.stream(**{**common, **rest}) as events:
            return [event.type for event in events], events.get_final_message()

    def text() -> Any:
        with client.messages.stream(**common) as events:
            return list(events.text_stream)

    answered = [
        *MESSAGES,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Oslo"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}]},
    ]
    return {
        "message": create,
        "message with a system prompt": lambda: create(system="Be brief."),
        "message stream": stream,
        "message events": lambda: list(create(stream=True)),
        "message text stream": text,
        "message cut": lambda: create(max_tokens=3),
        "message cut stream": lambda: stream(max_tokens=3),
        "message tools": lambda: create(tools=[_TOOL]),
        "message tools stream": lambda: stream(tools=[_TOOL]),
        "message tool result": lambda: create(tools=[_TOOL], messages=answered),
        "message thinking": lambda: create(thinking=_THINKING),
        "message thinking stream": lambda: stream(thinking=_THINKING),
        "message cancelled": lambda: cancelled(create(stream=True)),
    }


def errors(client: Any, target: Target) -> dict[str, Call]:
    missing = {"model": target.missing, "max_tokens": 5, "messages": MESSAGES}
    return {
        "error of a missing model": lambda: client.messages.create(**missing),
        "error of a missing model in a stream": lambda: list(client.messages.create(**missing, stream=True)),
        "error of no messages": lambda: client.messages.create(model=target.model, max_tokens=5, messages=[]),
        "error of no limit": lambda: client.messages.create(model=target.model, max_tokens=0, messages=MESSAGES),
    }


def asynchronous(client: Any, target: Target) -> dict[str, Call]:
    async def stream() -> Any:
        async with client.messages.stream(model=target.model, max_tokens=2000, messages=MESSAGES) as events:
            return [event.type async for event in events], await events.get_final_message()

    return {"async message stream": stream}


if __name__ == "__main__":
    main(calls)
