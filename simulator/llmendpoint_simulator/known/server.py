"""The known-latency server: its routes, and the connections that it accepts."""

from __future__ import annotations

import socket
import time
from urllib.parse import parse_qs

import msgspec

from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER
from llmendpoint_simulator.behaviour import Behaviour, change
from llmendpoint_simulator.faults import Fault
from llmendpoint_simulator.known.admission import Admission
from llmendpoint_simulator.known.plans import ROUTES, Planner
from llmendpoint_simulator.known.stream import Line, Stream
from llmendpoint_simulator.ledger import Exactness, Ledger
from llmendpoint_simulator.requests import RequestError, read_body
from llmendpoint_simulator.serving.connection import Connection, Request
from llmendpoint_simulator.serving.listener import Listener
from llmendpoint_simulator.serving.timers import Timers
from llmendpoint_simulator.shapes.base import Shape

_VERSION = b'{"version":"0.17.4"}'
_HEADER = REQUEST_ID_HEADER.lower()
_DEFAULT = Behaviour()
#: Fields of a behaviour that this mode does not read.
_UNUSED = (
    "embed", "cached_share", "embedding_models", "image_models", "registry", "revisions", "sizes", "memory",
    "keep_alive", "cpu_factor", "pull_speed", "layers", "verify", "fault_after",
)  # fmt: skip


class KnownLatencyServer:
    """Serves every model name, at `/api/chat`, `/api/generate` and OpenAI's completions, with exact times."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = _checked(behaviour)
        self.ledger = Ledger(time.monotonic)
        self.timers = Timers()
        self._admission = Admission(lambda: self.behaviour, self.timers)
        self._line = Line(self.timers, self._admission, self.ledger)
        self._planner = Planner(lambda: self.behaviour)
        self._listener = Listener(self.timers, self._handle)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve on sockets that already listen."""
        self.timers.start()
        self._listener.start(sockets)

    async def stop(self) -> None:
        """Stop serving, and close all connections."""
        self._listener.stop()
        self.timers.stop()

    def _handle(self, connection: Connection, request: Request) -> None:
        make = next((make for end, make in ROUTES.items() if request.path.endswith(end)), None)
        if request.method == "POST" and make is not None:
            self._complete(connection, request, make())
        else:
            self._manage(connection, request)

    def _complete(self, connection: Connection, request: Request, shape: Shape) -> None:
        try:
            body = read_body(request.body, native=shape.is_ollama)
        except RequestError as error:
            connection.respond(error.status, _error(error.sentence))
            return
        entry = self.ledger.open(request.headers.get(_HEADER, ""), str(body.get("model", "")), shape.operation)
        entry.received_at = request.received_at
        in_flight = self._admission.running + self._admission.waiting + 1
        entry.exactness = Exactness(connection.number, in_flight, request.lag)
        plan = self._planner.plan(body, shape, entry, is_framed=request.version != "1.0")
        if not self._admission.arrive(Stream(connection, entry, plan, self._line)):
            connection.on_lost = None
            self.ledger.close(entry, "faulted")
            connection.respond(503, _error("server busy, please try again.  maximum pending requests exceeded"))

    # ---- other routes

    def _manage(self, connection: Connection, request: Request) -> None:
        match request.method, request.path:
            case "GET", "/simulator/ledger":
                self._answer_ledger(connection, request.query)
            case "DELETE", "/simulator/ledger":
                self.ledger.clear()
                self.timers.longest_lateness = 0.0
                self._planner.restart()
                connection.respond(200, b"")
            case "GET", "/simulator/behaviour":
                connection.respond(200, msgspec.json.encode(self.behaviour))
            case "PUT", "/simulator/behaviour":
                self._change(connection, request.body)
            case "GET" | "HEAD", "/":
                connection.respond(200, b"Ollama is running" if request.method == "GET" else b"", "text/plain")
            case "GET", "/api/version":
                connection.respond(200, _VERSION)
            case "GET", path if path.endswith("/models"):
                connection.respond(200, self._openai_models())
            case "GET", "/api/tags" | "/api/ps":
                models = [{"name": name, "model": name} for name in self.behaviour.models]
                connection.respond(200, msgspec.json.encode({"models": models}))
            case "GET", path if path.endswith("/health"):
                connection.respond(200, b"{}")
            case _:
                connection.respond(404, b"404 page not found", "text/plain")

    def _openai_models(self) -> bytes:
        models = [{"id": name, "object": "model", "owned_by": "library"} for name in self.behaviour.models]
        return msgspec.json.encode({"object": "list", "data": models})

    def _answer_ledger(self, connection: Connection, query: str) -> None:
        text = parse_qs(query).get("entries", ["100"])[0]
        if text.isdecimal():
            connection.respond(200, self._shown_ledger(int(text)))
        else:
            connection.respond(400, _error(f"entries is {text!r}, which is not a whole number of at least 0"))

    def _shown_ledger(self, wanted: int) -> bytes:
        entries = list(self.ledger.entries)[-wanted:] if wanted > 0 else []
        return msgspec.json.encode(
            {
                "accounts": self.ledger.accounts,
                "entries": entries,
                "longest_lateness": self.timers.longest_lateness,
                "now": time.monotonic(),
            }
        )

    def _change(self, connection: Connection, changes: bytes) -> None:
        try:
            self.behaviour = _checked(change(self.behaviour, changes))
        except (msgspec.MsgspecError, ValueError) as error:
            connection.respond(400, _error(str(error)))
            return
        self._planner.restart()
        connection.respond(200, msgspec.json.encode(self.behaviour))


def _checked(behaviour: Behaviour) -> Behaviour:
    """Return the behaviour. Raises ValueError if it has a field that this mode does not have."""
    unused = [name for name in _UNUSED if getattr(behaviour, name) != getattr(_DEFAULT, name)]
    if unused:
        raise ValueError(f"the known-latency mode does not use {' and '.join(unused)}; leave it out")
    if behaviour.fault is not Fault.NONE or behaviour.faults:
        raise ValueError("the known-latency mode does not inject faults; run the simulator without --known-latency")
    if behaviour.load or behaviour.pull:
        raise ValueError("the known-latency mode neither loads nor pulls models; leave --load and --pull out")
    if not isinstance(behaviour.inter_token, int | float):
        raise ValueError("the known-latency mode needs a constant inter_token; write a number of seconds")
    if behaviour.ttft_cv and not isinstance(behaviour.ttft, int | float):
        raise ValueError("ttft is a distribution already; leave ttft_cv out")
    if behaviour.jitter or behaviour.load_factor != 1 or behaviour.prompt_token:
        raise ValueError("the known-latency mode has exact times; leave jitter, load_factor and prompt_token out")
    return behaviour


def _error(sentence: str) -> bytes:
    return msgspec.json.encode({"error": sentence})
