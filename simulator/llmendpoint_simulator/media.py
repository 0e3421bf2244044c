"""Images and transcriptions in OpenAI's format.

Images are those of Ollama 0.17.4. `/v1/audio/transcriptions` exists only in newer versions.
"""

from __future__ import annotations

import base64
import struct
import time
import zlib
from email.parser import BytesParser
from email.policy import HTTP
from functools import cache
from typing import Any

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.answers import text_answer
from llmendpoint_simulator.behaviour import until_running
from llmendpoint_simulator.faults import WHOLE_FAULTS, Fault
from llmendpoint_simulator.ledger import Entry
from llmendpoint_simulator.pace import Pace
from llmendpoint_simulator.refusals import refuse
from llmendpoint_simulator.requests import RequestError, prompt_tokens, read_body
from llmendpoint_simulator.serving.exchange import Exchange
from llmendpoint_simulator.serving.responses import Response
from llmendpoint_simulator.shapes.base import failure, json_response, merge
from llmendpoint_simulator.shapes.openai import OpenAIShape
from llmendpoint_simulator.world import World


class _ImageShape(OpenAIShape):
    """Errors of `/v1/images/generations` and `/v1/images/edits`."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation


class Media:
    """Answers requests for images and transcriptions, and adds them to the ledger."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def generate_image(self, exchange: Exchange) -> Response | None:
        """Answer `/v1/images/generations`."""
        return await self._image(exchange, Operation.OPENAI_IMAGE_GENERATIONS, ("prompt", "model"))

    async def edit_image(self, exchange: Exchange) -> Response | None:
        """Answer `/v1/images/edits`."""
        return await self._image(exchange, Operation.OPENAI_IMAGE_EDITS, ("prompt", "model", "image"))

    async def transcribe(self, exchange: Exchange) -> Response:
        """Answer `/v1/audio/transcriptions` with a text of `tokens` words, as JSON or with `response_format: text`."""
        shape = _ImageShape(Operation.OPENAI_TRANSCRIPTIONS)
        try:
            form = _form(exchange)
            if "file" not in form:
                raise RequestError(400, "file is required", malformed=True)
            text = await self._transcribe(exchange, shape.operation, form["model"])
        except RequestError as error:
            return failure(error.status, error.sentence, shape, malformed=error.malformed)
        if form.get("response_format") == "text":
            return Response(200, text.encode(), "text/plain; charset=utf-8")
        return json_response({"text": text}, charset=False)

    async def _image(self, exchange: Exchange, operation: Operation, needed: tuple[str, ...]) -> Response | None:
        shape = _ImageShape(operation)
        try:
            body = read_body(exchange.request.body, exchange.request.path, native=False)
            for field in needed:
                if not body.get(field):
                    raise RequestError(400, f"{field} is required", malformed=True)
            return await self._paint(exchange, operation, body)
        except RequestError as error:
            return failure(error.status, error.sentence, shape, malformed=error.malformed)

    async def _paint(self, exchange: Exchange, operation: Operation, body: dict[str, Any]) -> Response | None:
        world = self._world
        name = str(body["model"])
        model = world.store.canonical(world.aliases.target_of(name))
        with world.counted(exchange.request, model, operation) as entry:
            self._check_model(name, model)
            await self._run(exchange, entry, str(body["prompt"]))
            world.ledger.close(entry, "completed", "image")
        if not world.is_image(model):
            # As in Ollama 0.17.4, which runs any model, and drops its text.
            exchange.begin("application/x-ndjson")
            exchange.end()
            return None
        data = [{"b64_json": base64.b64encode(_png()).decode()}]
        return json_response({"created": int(time.time()), "data": data}, charset=False)

    async def _transcribe(self, exchange: Exchange, operation: Operation, name: str) -> str:
        world = self._world
        model = world.store.canonical(name)
        with world.counted(exchange.request, model, operation) as entry:
            self._check_model(name, model)
            await self._run(exchange, entry, "")
            world.ledger.close(entry, "completed", "text")
        return merge(text_answer({}, operation, world.behaviour.tokens).tokens).text.strip()

    def _check_model(self, name: str, model: str) -> None:
        if model not in self._world.store.present:
            raise RequestError(404, f"model '{name}' not found")

    async def _run(self, exchange: Exchange, entry: Entry, prompt: str) -> None:
        """Wait as long as a generation takes, or inject a fault."""
        world = self._world
        await until_running(world.current)
        is_loaded = world.store.is_loaded(entry.model)
        kinds = WHOLE_FAULTS - {Fault.LOAD_FAILURE} if is_loaded else WHOLE_FAULTS
        injected = world.pick(exchange.request, entry.model, kinds)
        if injected is not None:
            await refuse(exchange, injected)
        async with world.running(entry.model, None, injected) as place:
            pace = Pace(world.behaviour, world.random, place.slots, place.runner)
            # Both report no tokens, so the ledger counts none.
            await world.timers.sleep(pace.first(prompt_tokens(prompt)) + pace.gap() * (world.behaviour.tokens - 1))


def _form(exchange: Exchange) -> dict[str, str]:
    """Return the fields of a multipart form. Raises RequestError if it is not one, or does not name a model."""
    request = exchange.request
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise RequestError(400, "request Content-Type isn't multipart/form-data", malformed=True)
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    form: dict[str, str] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, str):
            content = part.get_payload(decode=True)
            form.setdefault(name, content.decode("utf-8", "replace") if isinstance(content, bytes) else "")
    if not form.get("model"):
        raise RequestError(400, "model is required", malformed=True)
    return form


@cache
def _png() -> bytes:
    """Return a picture: one white pixel (PNG)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\x00\xff\xff\xff")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
