"""What every program with a client library shares. A program runs the calls of one library against several servers.

It reads targets as JSON from stdin and writes the results of all calls as JSON to stdout: values as the library returned
them, and errors with the type of the exception.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any
from unittest import mock

#: Number of chunks that are read of a stream that is then cancelled.
READ_BEFORE_CANCEL = 2

PROMPT = "What is the capital?"
MESSAGES = [{"role": "user", "content": PROMPT}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "Weather of a city", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": FUNCTION}
SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}},
    "required": ["sure"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Target:
    """A server: its URL, the API key, a model that it has, and one that it does not have."""

    name: str
    url: str
    key: str
    model: str
    missing: str


Call = Callable[[], Any]


def main(calls: Callable[[Target], dict[str, Call]]) -> None:
    """Run the calls against each target."""
    targets = [Target(**given) for given in json.load(sys.stdin)]
    # One event loop for all calls, because a client keeps its connections.
    with asyncio.Runner() as runner:
        results = {
            target.name: {name: outcome(call, runner) for name, call in calls(target).items()} for target in targets
        }
    json.dump(results, sys.stdout)


def outcome(call: Call, runner: asyncio.Runner) -> Any:
    """Return the value of a call as JSON, or its exception."""
    try:
        value = call()
        return plain(runner.run(value) if isinstance(value, Coroutine) else value)
    except Exception as error:  # every exception is a result that is compared
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        return {"raised": kind, "status": getattr(error, "status_code", None), "message": str(error)}


def plain(value: Any) -> Any:
    """Return a value of a library as JSON."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", warnings=False)
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def cancelled(stream: Any) -> list[Any]:
    """Read the begin of a stream, and close it."""
    begin = begin_of(stream)
    stream.close()
    return begin


def begin_of(chunks: Iterable[Any]) -> list[Any]:
    """Read the begin of a stream."""
    iterator = iter(chunks)
    return [next(iterator) for _ in range(READ_BEFORE_CANCEL)]


async def begin_of_async(chunks: Any) -> list[Any]:
    """Read the begin of an asynchronous stream."""
    iterator = aiter(chunks)
    return [await anext(iterator) for _ in range(READ_BEFORE_CANCEL)]


def with_environment(call: Call, **variables: str) -> Call:
    """Return the call with environment variables set."""

    def run() -> Any:
        with mock.patch.dict(os.environ, variables):
            return call()

    return run
