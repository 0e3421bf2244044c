"""A refusal by the proxy, as the libraries of Ollama, OpenAI and Anthropic for Python report it."""

from __future__ import annotations

from typing import Any

import anthropic
import ollama
import openai

from clients.programs.harness import MESSAGES, Call, Target, main


def calls(target: Target) -> dict[str, Call]:
    """Return one call for each library, and one for each of them in a stream."""
    headers = {"Authorization": f"Bearer {target.key}"}
    said: dict[str, Any] = {"model": target.model, "messages": MESSAGES}
    native: Any = ollama.Client(target.url, headers=headers)
    compatible: Any = openai.OpenAI(base_url=f"{target.url}/v1", api_key=target.key, max_retries=0)
    messages: Any = anthropic.Anthropic(base_url=target.url, api_key=target.key, max_retries=0)
    return {
        "ollama": lambda: native.chat(**said),
        "ollama stream": lambda: list(native.chat(**said, stream=True)),
        "openai": lambda: compatible.chat.completions.create(**said),
        "openai stream": lambda: list(compatible.chat.completions.create(**said, stream=True)),
        "anthropic": lambda: messages.messages.create(**said, max_tokens=9),
        "anthropic stream": lambda: list(messages.messages.create(**said, max_tokens=9, stream=True)),
    }


if __name__ == "__main__":
    main(calls)
