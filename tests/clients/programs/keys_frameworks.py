"""Ways of giving an API key to LangChain, LlamaIndex and LiteLLM."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

# Without this, the import of LiteLLM loads a list of prices from the internet.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from langchain_ollama import ChatOllama
from llama_index.llms.ollama import Ollama

from clients.programs.harness import MESSAGES, PROMPT, Call, Target, main, with_environment

litellm.suppress_debug_info = True


def calls(target: Target) -> dict[str, Call]:
    """Return a call for each way."""
    url, key = target.url, target.key
    bearer = {"Authorization": f"Bearer {key}"}
    common: dict[str, Any] = {"model": target.model, "base_url": url}
    with_key = url.replace("://", f"://user:{key}@")
    found: dict[str, Call] = {
        "langchain client_kwargs": lambda: ChatOllama(**common, client_kwargs={"headers": bearer}).invoke(PROMPT),
        "langchain OLLAMA_API_KEY": with_environment(lambda: ChatOllama(**common).invoke(PROMPT), OLLAMA_API_KEY=key),
        "langchain user and password in the URL": lambda: ChatOllama(model=target.model, base_url=with_key).invoke(
            PROMPT
        ),
        "llama_index headers": lambda: Ollama(**common, headers=bearer, context_window=2048).complete(PROMPT),
    }
    for provider, base in (("ollama_chat", ""), ("ollama", ""), ("openai", "/v1"), ("anthropic", "")):
        request: dict[str, Any] = {"model": f"{provider}/{target.model}", "api_base": url + base, "messages": MESSAGES}
        found[f"litellm {provider} api_key"] = partial(litellm.completion, **request, api_key=key, num_retries=0)
    azure: dict[str, Any] = {"model": f"azure/{target.model}", "api_base": url, "api_version": "2024-06-01"}
    found["litellm azure"] = partial(litellm.completion, **azure, messages=MESSAGES, api_key=key, num_retries=0)
    return found


if __name__ == "__main__":
    main(calls)
