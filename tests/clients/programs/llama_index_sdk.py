"""Calls of LlamaIndex' integration of Ollama."""

from __future__ import annotations

from typing import Any

import pydantic
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama

from clients.programs.harness import PROMPT, Call, Target, cancelled, main


class Opinion(pydantic.BaseModel):
    """A structured answer."""

    sure: bool


def calls(target: Target) -> dict[str, Call]:
    """Return the calls of one target."""
    common: dict[str, Any] = {"base_url": target.url, "headers": {"Authorization": f"Bearer {target.key}"},
                              "request_timeout": 60.0, "context_window": 2048, "thinking": False, "temperature": 0.0}  # fmt: skip
    client, missing = Ollama(model=target.model, **common), Ollama(model=target.missing, **common)
    short = Ollama(model=target.model, additional_kwargs={"num_predict": 3}, **common)
    said = [ChatMessage(role="user", content=PROMPT)]
    tool = FunctionTool.from_defaults(get_weather)

    async def stream() -> Any:
        return [chunk async for chunk in await client.astream_chat(said)]

    return {
        "chat": lambda: client.chat(said),
        "chat stream": lambda: list(client.stream_chat(said)),
        "chat tools": lambda: client.chat_with_tools([tool], user_msg=PROMPT),
        "chat cut": lambda: short.chat(said),
        "chat structured": lambda: client.as_structured_llm(Opinion).chat(said),
        "complete": lambda: client.complete(PROMPT),
        "complete stream": lambda: list(client.stream_complete(PROMPT)),
        "async chat stream": stream,
        "chat cancelled": lambda: cancelled(client.stream_chat(said)),
        "error of a missing model": lambda: missing.chat(said),
        "error of a missing model in a stream": lambda: list(missing.stream_chat(said)),
    }


def get_weather(city: str) -> str:
    """Return the weather of a city."""
    return city


if __name__ == "__main__":
    main(calls)
