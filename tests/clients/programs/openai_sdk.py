"""Calls of OpenAI's library for Python."""

from __future__ import annotations

from typing import Any

import openai
import pydantic

from clients.programs.harness import FUNCTION, MESSAGES, PROMPT, TOOL, Call, Target, begin_of_async, cancelled, main

_RESPONSES_TOOL = {"type": "function", **FUNCTION}


class Opinion(pydantic.BaseModel):
    """A structured answer."""

    sure: bool


def calls(target: Target) -> dict[str, Call]:
    """Return the calls of one target."""
    settings: dict[str, Any] = {"base_url": f"{target.url}/v1", "api_key": target.key, "max_retries": 0}
    client, later = openai.OpenAI(**settings), openai.AsyncOpenAI(**settings)
    return {**reads(client, target), **chats(client, target), **responses(client, target), **errors(client, target),
            **asynchronous(later, target)}  # fmt: skip


def reads(client: Any, target: Target) -> dict[str, Call]:
    model = target.model
    return {
        "models": lambda: list(client.models.list()),
        "model": lambda: client.models.retrieve(model),
        "embeddings": lambda: client.embeddings.create(model=model, input=[PROMPT, "Hello."]),
        "embeddings as floats": lambda: client.embeddings.create(model=model, input=PROMPT, encoding_format="float"),
        "completion": lambda: client.completions.create(model=model, prompt=PROMPT, seed=1),
        "completion cut": lambda: client.completions.create(model=model, prompt=PROMPT, max_tokens=3),
        "completion stream": lambda: list(
            client.completions.create(model=model, prompt=PROMPT, stream=True, stream_options={"include_usage": True})
        ),
    }


def chats(client: Any, target: Target) -> dict[str, Call]:
    def chat(**rest: Any) -> Any:
        common = {"model": target.model, "messages": MESSAGES, "reasoning_effort": "none", "seed": 1, "temperature": 0}
        return client.chat.completions.create(**{**common, **rest})

    def helper() -> Any:
        common: dict[str, Any] = {"model": target.model, "messages": MESSAGES, "reasoning_effort": "none"}
        with client.chat.completions.stream(
            **common, tools=[{**TOOL, "function": {**FUNCTION, "strict": True}}]
        ) as stream:
            return [event.type for event in stream], stream.get_final_completion()

    usage = {"stream": True, "stream_options": {"include_usage": True}}
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
    answered = [
        *MESSAGES,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    return {
        "chat": chat,
        "chat stream": lambda: list(chat(stream=True)),
        "chat stream with usage": lambda: list(chat(**usage)),
        "chat cut": lambda: chat(max_tokens=3),
        "chat cut stream": lambda: list(chat(max_tokens=3, **usage)),
        "chat tools": lambda: chat(tools=[TOOL]),
        "chat tools stream": lambda: list(chat(tools=[TOOL], **usage)),
        "chat tool result": lambda: chat(tools=[TOOL], messages=answered),
        "chat reasoning": lambda: chat(reasoning_effort="low"),
        "chat helper": helper,
        "chat parse": lambda: client.chat.completions.parse(
            model=target.model, messages=MESSAGES, response_format=Opinion, temperature=0, reasoning_effort="none"
        ),
        "chat cancelled": lambda: cancelled(chat(stream=True)),
    }


def responses(client: Any, target: Target) -> dict[str, Call]:
    def create(**rest: Any) -> Any:
        return client.responses.create(**{"model": target.model, "input": PROMPT, "temperature": 0, **rest})

    def helper() -> Any:
        with client.responses.stream(model=target.model, input=PROMPT) as stream:
            return [event.type for event in stream], stream.get_final_response()

    return {
        "response": create,
        "response text": lambda: create().output_text,
        "response stream": lambda: list(create(stream=True)),
        "response reasoning stream": lambda: list(create(stream=True, reasoning={"effort": "low"})),
        "response tools": lambda: create(tools=[_RESPONSES_TOOL]),
        "response tools stream": lambda: list(create(tools=[_RESPONSES_TOOL], stream=True)),
        "response helper": helper,
        "response parse": lambda: client.responses.parse(
            model=target.model, input=PROMPT, text_format=Opinion, temperature=0
        ),
        "response cancelled": lambda: cancelled(create(stream=True)),
    }


def errors(client: Any, target: Target) -> dict[str, Call]:
    missing, chat = target.missing, client.chat.completions.create
    return {
        "error of a missing model": lambda: chat(model=missing, messages=MESSAGES),
        "error of a missing model in a stream": lambda: list(chat(model=missing, messages=MESSAGES, stream=True)),
        "error of no messages": lambda: chat(model=target.model, messages=[]),
        "error of completions": lambda: client.completions.create(model=missing, prompt=PROMPT),
        "error of responses": lambda: client.responses.create(model=missing, input=PROMPT),
        "error of embeddings": lambda: client.embeddings.create(model=missing, input=PROMPT),
        "error of model": lambda: client.models.retrieve(missing),
    }


def asynchronous(client: Any, target: Target) -> dict[str, Call]:
    common: dict[str, Any] = {"model": target.model, "messages": MESSAGES, "reasoning_effort": "none", "stream": True}

    async def stream() -> Any:
        return [chunk async for chunk in await client.chat.completions.create(**common)]

    async def cancel() -> Any:
        chunks = await client.chat.completions.create(**common)
        begin = await begin_of_async(chunks)
        await chunks.close()
        return begin

    return {"async chat stream": stream, "async chat cancelled": cancel}


if __name__ == "__main__":
    main(calls)
