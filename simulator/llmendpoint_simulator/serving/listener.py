"""Accepts connections on sockets that already listen."""

from __future__ import annotations

import asyncio
import logging
import socket
import time

from llmendpoint_simulator.serving.connection import Connection, Handle, Receive
from llmendpoint_simulator.serving.timers import Timers

#: Pause in accepting if all file descriptors are in use. The connection stays in the kernel's queue, and the socket
#: stays readable, so the event loop would spin.
_PAUSE_SECONDS = 0.1

log = logging.getLogger(__name__)


class Listener:
    """The connections of a server. Their requests go to `handle`, and bodies to what `receive` returns."""

    def __init__(self, timers: Timers, handle: Handle, receive: Receive | None = None) -> None:
        self._timers = timers
        self._handle = handle
        self._receive = receive
        self._sockets: list[socket.socket] = []
        self._connections: set[Connection] = set()
        self._accepted = 0

    def start(self, sockets: list[socket.socket]) -> None:
        """Accept connections."""
        self._sockets = sockets
        for sock in sockets:
            sock.setblocking(False)
            self._listen(sock)

    def stop(self) -> None:
        """Close the sockets and all connections."""
        loop = asyncio.get_running_loop()
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            loop.remove_reader(sock.fileno())
            sock.close()
        for connection in tuple(self._connections):
            connection.close()

    def _listen(self, sock: socket.socket) -> None:
        if sock in self._sockets:
            asyncio.get_running_loop().add_reader(sock.fileno(), self._accept, sock)

    def _accept(self, listening: socket.socket) -> None:
        try:
            while True:
                sock, _ = listening.accept()
                self._accepted += 1
                connection = Connection(sock, self._accepted, self._timers, self._handle, self._receive)
                connection.on_closed = self._connections.discard
                self._connections.add(connection)
        except (BlockingIOError, ConnectionAbortedError):
            pass
        except OSError as error:
            log.warning("cannot accept a connection: %s", error.strerror)
            asyncio.get_running_loop().remove_reader(listening.fileno())
            self._timers.at(time.monotonic() + _PAUSE_SECONDS, lambda _: self._listen(listening))
