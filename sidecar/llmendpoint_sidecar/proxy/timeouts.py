"""Time limits of the data path."""

from __future__ import annotations

from typing import NamedTuple


class Timeouts(NamedTuple):
    """Time limits in seconds. The total duration of a request is not limited, because long generations are normal.

    connect:     opening a connection to the upstream
    first_byte:  from the end of the request to the head of its response (a model may have to be loaded first)
    idle:        between two pieces of a response or of a request body, and while a client does not read
    head:        from the first byte of a request head to its end
    keep_alive:  between two requests on a connection
    """

    connect: float = 5.0
    first_byte: float = 600.0
    idle: float = 120.0
    head: float = 30.0
    keep_alive: float = 300.0
