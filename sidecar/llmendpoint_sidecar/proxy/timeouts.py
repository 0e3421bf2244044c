"""Time limits of the data path."""

from __future__ import annotations

from typing import NamedTuple

from llmendpoint_common.api import defaults
from llmendpoint_common.process.units import parse_duration


class Timeouts(NamedTuple):
    """Time limits in seconds. The total duration of a request is not limited, because long generations are normal.

    connect:     opening a connection to the upstream
    first_byte:  from the end of the request to the head of its response (a model may have to be loaded first)
    idle:        between two pieces of a response, and while the upstream does not read a request
    client:      while a client does not send the rest of its request, or does not read its response
    handshake:   from the acceptance of a connection to the end of its TLS handshake
    head:        from the first byte of a request head to its end
    keep_alive:  between two requests on a connection

    `first_byte` and `idle` do not apply to requests that transfer or create models, because Ollama is silent for
    minutes while it verifies or quantizes a large model.
    """

    connect: float = parse_duration(defaults.CONNECT_TIMEOUT)
    first_byte: float = parse_duration(defaults.FIRST_BYTE_TIMEOUT)
    idle: float = parse_duration(defaults.IDLE_TIMEOUT)
    client: float = 120.0
    handshake: float = 10.0
    head: float = 30.0
    keep_alive: float = parse_duration(defaults.KEEP_ALIVE_TIMEOUT)
