"""What an exchange knows of its client: the head that it sent, the connection to answer on, how long to be patient."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from llmendpoint_common.wire.http1 import heads


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """A request's head as the client sent it."""

    method: bytes
    target: bytes
    version: str
    head: heads.Head
    keep_alive: bool
    chunked: bool

    @property
    def fields(self) -> heads.Fields:
        """Return the last value of each header by its lower-case name."""
        return self.head.fields


class Client(Protocol):
    """The connection that an exchange answers on."""

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop."""

    @property
    def write(self) -> Callable[[bytes], None]:
        """Sends response bytes."""

    def pause(self) -> None:
        """Stop reading from the client."""

    def resume(self) -> None:
        """Read on."""

    def abort(self) -> None:
        """Close at once."""

    def exchange_done(self, *, keep_alive: bool) -> None:
        """The exchange is over: answer the next one, or close."""


class Timeouts(NamedTuple):
    """Seconds; there is none on the total.

    `head` is from a request's first byte to the end of its head, `idle` between two pieces of a response, of a
    request, or until a client takes more, `keep_alive` without any request.
    """

    connect: float = 5.0
    first_byte: float = 600.0
    idle: float = 120.0
    head: float = 30.0
    keep_alive: float = 300.0
