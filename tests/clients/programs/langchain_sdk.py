"""Calls of LangChain's integration of Ollama."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

from clients.programs.harness import MESSAGES, PROMPT, SCHEMA, TOOL, Call, Target, cancelled, main


def calls(target: Target) -> dict[str, Call]:
    """Return the calls of one target."""
    headers = {"headers": {"Authorization": f"Bearer {target.key}"}}
    common: dict[str, Any] = {"model": target.model, "base_url": target.url, "client_kwargs": headers}
    chat = ChatOllama(**common, temperature=0, seed=1, reasoning=False)
    return {
        **chats(chat),
        **others(common),
        "chat cut": lambda: ChatOllama(**common, num_predict=3, reasoning=False).invoke(PROMPT),
        "chat reasoning": lambda: ChatOllama(**common, reasoning=True).invoke(PROMPT),
        "error of a missing model": lambda: ChatOllama(**{**common, "model": target.missing}).invoke(PROMPT),
        "error of a missing model in a stream": lambda: list(
            ChatOllama(**{**common, "model": target.missing}).stream(PROMPT)
        ),
        "error of validation": lambda: ChatOllama(
            **{**common, "model": target.missing}, validate_model_on_init=True
        ).invoke(PROMPT),
    }


def chats(chat: Any) -> dict[str, Call]:
    schema = {"title": "answer", "description": "An answer", **SCHEMA}
    call = {"name": "get_weather", "args": {"city": "Oslo"}, "id": "call_1"}
    told = [HumanMessage(PROMPT), AIMessage("", tool_calls=[call]), ToolMessage("sunny", tool_call_id="call_1")]

    async def stream() -> Any:
        return [chunk async for chunk in chat.astream(PROMPT)]

    return {
        "chat": lambda: chat.invoke(MESSAGES),
        "chat stream": lambda: list(chat.stream(PROMPT)),
        "chat batch": lambda: chat.batch([PROMPT, PROMPT]),
        "chat tools": lambda: chat.bind_tools([TOOL]).invoke(PROMPT),
        "chat tools stream": lambda: list(chat.bind_tools([TOOL]).stream(PROMPT)),
        "chat tool result": lambda: chat.bind_tools([TOOL]).invoke(told),
        "chat structured": lambda: chat.with_structured_output(schema, method="json_schema").invoke(PROMPT),
        "async chat stream": stream,
        "chat cancelled": lambda: cancelled(chat.stream(PROMPT)),
    }


def others(common: dict[str, Any]) -> dict[str, Call]:
    return {
        "generate": lambda: OllamaLLM(**common, reasoning=False, temperature=0).invoke(PROMPT),
        "generate stream": lambda: list(OllamaLLM(**common, reasoning=False, temperature=0).stream(PROMPT)),
        "embeddings": lambda: OllamaEmbeddings(**common).embed_documents([PROMPT, "Hello."]),
    }


if __name__ == "__main__":
    main(calls)
