"""Calls of Ollama's library for Python."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ollama

from clients.programs.harness import (
    FUNCTION,
    MESSAGES,
    PROMPT,
    SCHEMA,
    TOOL,
    Call,
    Target,
    begin_of_async,
    cancelled,
    main,
)

LIMIT = {"num_predict": 3, "temperature": 0, "seed": 1}


def calls(target: Target) -> dict[str, Call]:
    """Return the calls of one target."""
    headers = {"Authorization": f"Bearer {target.key}"}
    client, later = ollama.Client(target.url, headers=headers), ollama.AsyncClient(target.url, headers=headers)
    return {**reads(client, target), **text(client, target), **chats(client, target), **models(client, target),
            **errors(client, target), **asynchronous(later, target)}  # fmt: skip


def reads(client: ollama.Client, target: Target) -> dict[str, Call]:
    model = target.model
    return {
        "list": client.list,
        "load": lambda: client.generate(model),
        "ps": client.ps,
        "show": lambda: client.show(model),
        "embed": lambda: client.embed(model, [PROMPT, "Hello."]),
        "embed with dimensions": lambda: client.embed(model, PROMPT, dimensions=4),
        "embeddings": lambda: client.embeddings(model, PROMPT),
    }


def text(client: ollama.Client, target: Target) -> dict[str, Call]:
    def generate(**rest: Any) -> Any:
        return client.generate(target.model, PROMPT, **{"think": False, **rest})

    return {
        "generate": generate,
        "generate stream": lambda: list(generate(stream=True)),
        "generate cut": lambda: generate(options=LIMIT),
        "generate cut stream": lambda: list(generate(options=LIMIT, stream=True)),
        "generate thinking": lambda: generate(think=True),
        "generate format": lambda: generate(format=SCHEMA, options={"temperature": 0}),
        "generate cancelled": lambda: cancelled(generate(stream=True)),
    }


def chats(client: ollama.Client, target: Target) -> dict[str, Call]:
    def chat(**rest: Any) -> Any:
        return client.chat(target.model, **{"messages": MESSAGES, "think": False, **rest})

    answered = [
        *MESSAGES,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}],
        },
        {"role": "tool", "content": "sunny", "tool_name": FUNCTION["name"]},
    ]
    return {
        "chat": chat,
        "chat stream": lambda: list(chat(stream=True)),
        "chat cut": lambda: chat(options=LIMIT),
        "chat cut stream": lambda: list(chat(options=LIMIT, stream=True)),
        "chat tools": lambda: chat(tools=[TOOL]),
        "chat tools stream": lambda: list(chat(tools=[TOOL], stream=True)),
        "chat function": lambda: chat(tools=[get_weather]),
        "chat tool result": lambda: chat(tools=[TOOL], messages=answered),
        "chat thinking": lambda: chat(think=True),
        "chat thinking stream": lambda: list(chat(think=True, stream=True)),
        "chat format": lambda: chat(format=SCHEMA, options={"temperature": 0}),
        "chat cancelled": lambda: cancelled(chat(stream=True)),
        "unload": lambda: client.chat(target.model, keep_alive=0),
    }


def models(client: ollama.Client, target: Target) -> dict[str, Call]:
    model = target.model
    return {
        "copy": lambda: client.copy(model, "copied"),
        "delete": lambda: client.delete("copied"),
        "create": lambda: client.create("created", from_=model, system="Be brief."),
        "create stream": lambda: list(client.create("created", from_=model, system="Be brief.", stream=True)),
        "show created": lambda: client.show("created"),
        "delete created": lambda: client.delete("created"),
        "create blob": lambda: create_blob(client),
        "error of a pull": lambda: client.pull("127.0.0.1:9/none/none", insecure=True),
        "error of a pull stream": lambda: list(client.pull("127.0.0.1:9/none/none", insecure=True, stream=True)),
        "error of a push": lambda: client.push("127.0.0.1:9/none/none", insecure=True),
    }


def errors(client: ollama.Client, target: Target) -> dict[str, Call]:
    missing = target.missing
    return {
        "error of a missing model": lambda: client.chat(missing, MESSAGES),
        "error of a missing model in a stream": lambda: list(client.chat(missing, MESSAGES, stream=True)),
        "error of generate": lambda: client.generate(missing, PROMPT),
        "error of embed": lambda: client.embed(missing, PROMPT),
        "error of show": lambda: client.show(missing),
        "error of delete": lambda: client.delete(missing),
        "error of copy": lambda: client.copy(missing, "copied"),
    }


def asynchronous(client: ollama.AsyncClient, target: Target) -> dict[str, Call]:
    async def chat() -> Any:
        return await client.chat(target.model, MESSAGES, think=False)

    async def stream() -> Any:
        return [part async for part in await client.chat(target.model, MESSAGES, think=False, stream=True)]

    async def cancel() -> Any:
        return await begin_of_async(await client.chat(target.model, MESSAGES, think=False, stream=True))

    return {"async chat": chat, "async chat stream": stream, "async chat cancelled": cancel}


def create_blob(client: ollama.Client) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blob"
        path.write_bytes(b"a blob")
        return client.create_blob(path)


def get_weather(city: str) -> str:
    """Weather of a city.

    Args:
        city: its name
    """
    return city


if __name__ == "__main__":
    main(calls)
