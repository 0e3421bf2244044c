"""Calls of LiteLLM: Ollama's own API, and Ollama as a provider that is compatible with OpenAI and with Anthropic."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

# Without this, the import loads a list of prices from the internet.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

from clients.programs.harness import MESSAGES, PROMPT, SCHEMA, TOOL, Call, Target, begin_of, main

litellm.suppress_debug_info = True
litellm.telemetry = False


def calls(target: Target) -> dict[str, Call]:
    """Return the calls of one target."""
    found: dict[str, Call] = {}
    for provider, base in (("ollama_chat", ""), ("ollama", ""), ("openai", "/v1"), ("anthropic", "")):
        common: dict[str, Any] = {"model": f"{provider}/{target.model}", "api_base": target.url + base,
                                  "api_key": target.key, "messages": MESSAGES, "num_retries": 0}  # fmt: skip
        missing = {**common, "model": f"{provider}/{target.missing}"}
        found |= {f"{provider} {name}": call for name, call in completions(common).items()}
        found[f"error of {provider}"] = partial(litellm.completion, **missing)
        found[f"error of {provider} in a stream"] = partial(stream_of, **missing)
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    openai: dict[str, Any] = {"model": f"openai/{target.model}", "api_base": f"{target.url}/v1", "api_key": target.key,
                              "messages": MESSAGES, "reasoning_effort": "none", "allowed_openai_params": ["reasoning_effort"]}  # fmt: skip
    found["openai structured"] = lambda: litellm.completion(**openai, response_format=schema, temperature=0)
    for provider, base in (("ollama", ""), ("openai", "/v1")):
        embedding: dict[str, Any] = {"model": f"{provider}/{target.model}", "input": [PROMPT, "Hello."],
                                     "api_base": target.url + base, "api_key": target.key}  # fmt: skip
        found[f"{provider} embedding"] = partial(litellm.embedding, **embedding)
    return found


def stream_of(**request: Any) -> list[Any]:
    """Return all chunks of a stream."""
    return list(litellm.completion(**request, stream=True))


def completions(common: dict[str, Any]) -> dict[str, Call]:
    def complete(**rest: Any) -> Any:
        return litellm.completion(**common, **rest)

    async def stream() -> Any:
        return [chunk async for chunk in await litellm.acompletion(**common, stream=True)]

    return {
        "chat": complete,
        "chat stream": lambda: list(complete(stream=True, stream_options={"include_usage": True})),
        "chat cut": lambda: complete(max_tokens=3),
        "chat tools": lambda: complete(tools=[TOOL]),
        "async chat stream": stream,
        "chat cancelled": lambda: begin_of(complete(stream=True)),
    }


if __name__ == "__main__":
    main(calls)
