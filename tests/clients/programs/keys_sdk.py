"""Ways of giving an API key to the libraries of Ollama, OpenAI and Anthropic for Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import ollama
import openai

from clients.programs.harness import MESSAGES, Call, Target, main, with_environment


def calls(target: Target) -> dict[str, Call]:
    """Return a call for each way. The client is made when it is called."""
    url, key, v1 = target.url, target.key, f"{target.url}/v1"
    with_key = url.replace("://", f"://user:{key}@")

    def ask_ollama(make: Callable[[], Any]) -> Call:
        return lambda: make().chat(target.model, MESSAGES)

    def ask_openai(make: Callable[[], Any]) -> Call:
        return lambda: make().chat.completions.create(model=target.model, messages=MESSAGES)

    def ask_anthropic(make: Callable[[], Any]) -> Call:
        return lambda: make().messages.create(model=target.model, max_tokens=9, messages=MESSAGES)

    azure: dict[str, Any] = {"api_key": key, "api_version": "2024-06-01", "max_retries": 0}
    return {
        "ollama without a key": ask_ollama(lambda: ollama.Client(url)),
        "ollama headers": ask_ollama(lambda: ollama.Client(url, headers={"Authorization": f"Bearer {key}"})),
        "ollama OLLAMA_API_KEY": with_environment(ask_ollama(lambda: ollama.Client(url)), OLLAMA_API_KEY=key),
        "ollama user and password in the URL": ask_ollama(lambda: ollama.Client(with_key)),
        "ollama Basic": ask_ollama(lambda: ollama.Client(url, auth=("user", key))),
        "ollama bare key": ask_ollama(lambda: ollama.Client(url, headers={"Authorization": key})),
        "openai api_key": ask_openai(lambda: openai.OpenAI(base_url=v1, api_key=key, max_retries=0)),
        "openai OPENAI_API_KEY": with_environment(
            ask_openai(lambda: openai.OpenAI(max_retries=0)), OPENAI_API_KEY=key, OPENAI_BASE_URL=v1
        ),
        "openai for Azure": ask_openai(lambda: openai.AzureOpenAI(azure_endpoint=url, **azure)),
        "anthropic api_key": ask_anthropic(lambda: anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)),
        "anthropic auth_token": ask_anthropic(lambda: anthropic.Anthropic(base_url=url, auth_token=key, max_retries=0)),
        "anthropic ANTHROPIC_API_KEY": with_environment(
            ask_anthropic(lambda: anthropic.Anthropic(max_retries=0)), ANTHROPIC_API_KEY=key, ANTHROPIC_BASE_URL=url
        ),
    }


if __name__ == "__main__":
    main(calls)
