"""Routes that list, describe and change models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from llmendpoint_simulator.pulls import Line, Pulls
from llmendpoint_simulator.requests import RequestError, is_valid_name, read_body
from llmendpoint_simulator.serving.exchange import Exchange
from llmendpoint_simulator.serving.responses import Response
from llmendpoint_simulator.shapes.base import failure, json_response
from llmendpoint_simulator.world import World

_NDJSON = "application/x-ndjson"


class Management:
    """Answers requests about models. Failed steps of a pull are reported inside its stream, as in Ollama."""

    def __init__(self, world: World, pulls: Pulls) -> None:
        self._world = world
        self._store = world.store
        self._pulls = pulls

    def tags(self, _: Exchange) -> Response:
        """List the models that are present."""
        return json_response({"models": self._store.listing()})

    def ps(self, _: Exchange) -> Response:
        """List the models that are in memory."""
        return json_response({"models": self._store.loaded_listing()})

    def show(self, exchange: Exchange) -> Response:
        """Describe a model."""
        name = _name(_body(exchange))
        if not name:
            return failure(400, "model is required")
        model = self._store.canonical(name)
        if model not in self._store.present:
            return failure(404, f"model '{name}' not found")
        return json_response(self._store.description(model, self._capabilities(model)))

    async def pull(self, exchange: Exchange) -> Response | None:
        """Pull a model, if the registry has it."""
        body = _body(exchange)
        name = _name(body)
        if not is_valid_name(name):
            return failure(400, "invalid model name")
        return await _progress(exchange, body, self._pulls.pull(exchange.request, self._store.canonical(name)))

    async def push(self, exchange: Exchange) -> Response | None:
        """Push a model, if it is present."""
        body = _body(exchange)
        name = _name(body)
        if not name:
            return failure(400, "model is required")
        return await _progress(exchange, body, self._pulls.push(self._store.canonical(name)))

    async def create(self, exchange: Exchange) -> Response | None:
        """Create a model from another one, or from files, which are blobs."""
        body = _body(exchange)
        if not is_valid_name(_name(body)):
            return failure(400, "invalid model name")
        if not body.get("from") and not body.get("files"):
            return json_response({"error": "neither 'from' or 'files' was specified"}, charset=False, status=400)
        return await _progress(exchange, body, self._pulls.create(exchange.request, body, _name(body)))

    def copy(self, exchange: Exchange) -> Response:
        """Copy a model."""
        body = _body(exchange)
        source, destination = str(body.get("source") or ""), str(body.get("destination") or "")
        for kind, given in (("source", source), ("destination", destination)):
            if not is_valid_name(given):
                return failure(400, f'{kind} "{given}" is invalid')
        if self._store.canonical(source) not in self._store.present:
            return failure(404, f'model "{source}" not found')
        self._store.add(destination, self._store.content(source))
        return Response(200)

    def delete(self, exchange: Exchange) -> Response:
        """Delete a model."""
        name = _name(_body(exchange))
        if not is_valid_name(name):
            return failure(400, f'name "{name}" is invalid')
        return Response(200) if self._store.remove(name) else failure(404, f"model '{name}' not found")

    def openai_models(self, _: Exchange) -> Response:
        """List the models in OpenAI's format."""
        models = [_openai_model(name) for name in sorted(self._store.present)]
        return json_response({"object": "list", "data": models}, charset=False)

    def openai_model(self, exchange: Exchange) -> Response:
        """Describe a model in OpenAI's format."""
        name = exchange.request.path.removeprefix("/v1/models/")
        if self._store.canonical(name) not in self._store.present:
            error = {"message": f"model '{name}' not found", "type": "api_error", "param": None, "code": None}
            return json_response({"error": error}, charset=False, status=404)
        return json_response(_openai_model(name), charset=False)

    def _capabilities(self, model: str) -> list[str]:
        if self._world.is_embedding(model):
            return ["embedding"]
        return ["image"] if self._world.is_image(model) else ["completion", "tools", "thinking"]


def _body(exchange: Exchange) -> dict[str, Any]:
    return read_body(exchange.request.body, exchange.request.path)


def _name(body: dict[str, Any]) -> str:
    return str(body.get("model") or body.get("name") or "")


async def _progress(exchange: Exchange, body: dict[str, Any], lines: AsyncIterator[Line]) -> Response | None:
    """Send the lines as a stream, or with `stream: false` only the last one, with an error as status.

    As in Ollama, an error before the first line is a status too.
    """
    is_streamed = body.get("stream") is not False
    latest: Line | None = None
    try:
        async for line in lines:
            if is_streamed and latest is None:
                exchange.begin(_NDJSON)
            latest = line
            if is_streamed and not exchange.write(msgspec.json.encode(line) + b"\n"):
                await exchange.drained()
    except RequestError as error:
        sentence = {"error": error.sentence}
        if not is_streamed or latest is None:
            return json_response(sentence, charset=False, status=error.status)
        exchange.write(msgspec.json.encode(sentence) + b"\n")
    if not is_streamed:
        return json_response(latest, charset=False)
    exchange.end()
    return None


def _openai_model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "library"}
