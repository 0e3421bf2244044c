"""TLS for clients: TLS 1.2 or newer, HTTP/1.1. New connections use a renewed certificate.

`loop.create_server` reports a connection only after its handshake, so that unfinished handshakes could take all
descriptors of the process. Therefore connections are accepted here, and counted before their handshakes begin.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from llmendpoint_common.process.reasons import reason_of
from llmendpoint_sidecar.inputs.certificate import CertificatePair

log = logging.getLogger(__name__)

#: A client that does not answer the end of its TLS connection is not waited for longer.
_SHUTDOWN_SECONDS = 3.0
#: Pause after an error of accept(), for example because the process has no descriptor left.
_ERROR_SECONDS = 0.1


class TlsConnection(asyncio.Protocol):
    """A connection of a client, as its handshake uses it."""

    def handshake_began(self, cancel: Callable[[], None]) -> bool:
        """Note that the connection was accepted. Returns False if there is no room for it."""
        raise NotImplementedError

    def handshake_ended(self) -> None:
        """Note that the handshake has ended. If it was successful, `connection_made` was called before."""
        raise NotImplementedError


class TlsServer:
    """Accepts connections on a listening socket, and performs their handshakes."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, new_connection: Callable[[], TlsConnection]
    ) -> None:
        self._sock = sock
        self._context = context
        self._new_connection = new_connection
        self._handshakes: set[asyncio.Task[None]] = set()
        sock.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Accept no further connections. Handshakes that have begun continue."""
        self._accepting.cancel()
        self._sock.close()

    async def wait_closed(self) -> None:
        """Wait until all handshakes have ended."""
        await asyncio.gather(self._accepting, *self._handshakes, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._sock)
            except OSError as error:
                log.error("a connection could not be accepted: %s", reason_of(error))
                await asyncio.sleep(_ERROR_SECONDS)
                continue
            handshake = _Handshake(sock, self._context, self._new_connection())
            task = handshake.task
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)


class _Handshake:
    """The handshake of one connection."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, connection: TlsConnection) -> None:
        self._sock: socket.socket | None = sock
        self._context = context
        self._connection = connection
        self.task = asyncio.get_running_loop().create_task(self._run())
        if not connection.handshake_began(self._cancel):
            self._cancel()

    async def _run(self) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            return
        try:
            # From now on, the transport owns the socket.
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._connection,
                sock,
                ssl=self._context,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )
        except OSError as error:
            # ssl.SSLError is one of these: the client speaks another protocol, or an old version of TLS.
            log.debug("a TLS handshake failed: %s", error)
        finally:
            self._connection.handshake_ended()

    def _cancel(self) -> None:
        if self._sock is not None:
            # The task has not begun, and will not.
            self._sock.close()
            self._sock = None
        self.task.cancel()


class Certificate:
    """The TLS context of the proxy. Raises ssl.SSLError if the certificate is not valid."""

    def __init__(self, pair: CertificatePair) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.set_alpn_protocols(["http/1.1"])
        self._pair = pair
        pair.load_into(self.context)

    def use(self, pair: CertificatePair) -> None:
        """Use a renewed certificate for new connections. Raises ssl.SSLError if it is not valid."""
        if pair != self._pair:
            pair.load_into(self.context)
            self._pair = pair
