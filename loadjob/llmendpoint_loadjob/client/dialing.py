"""Opens connections: resolves the name, tries all addresses, and makes the TLS handshake.

The addresses are tried as RFC 8305 ("Happy Eyeballs") describes: both families in turn, the next one after 250 ms or
after the failure of the one before. uvloop's own `create_connection` tries them one after the other, so that a broken
IPv6 route would delay each connection by minutes.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, zip_longest
from typing import Any, TypeAlias, TypeVar

from llmendpoint_common.contracts.loadrun import ErrorClass
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_loadjob.client.target import Target

P = TypeVar("P", bound=asyncio.BaseProtocol)
#: A row of `getaddrinfo`.
_Address: TypeAlias = tuple[Any, ...]

#: RFC 8305, 5: the recommended delay before the next attempt.
_NEXT_ATTEMPT_SECONDS = 0.25
#: Addresses are resolved again after this time, so that a rollout of the server is noticed.
_LIFETIME_SECONDS = 5.0
_PROBE_SECONDS = 2.0
#: Time after which a TLS handshake is slow enough to ask if the server speaks HTTP without TLS. Such a server may wait
#: for the end of a request head that never comes, and the handshake would take as long as the request may.
_SLOW_HANDSHAKE_SECONDS = 2.0
#: The same, when it is known that the server speaks HTTP without TLS.
_PLAIN_HANDSHAKE_SECONDS = 0.2
_MAX_ANSWER = 4096
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})")
#: Words of TLS servers in their answer to HTTP without TLS: nginx, Go, Apache and others all name the scheme or TLS.
_TLS_WORDS = re.compile(rb"https|tls|ssl", re.IGNORECASE)
#: Errors for which this machine is the reason: files, ports or memory are used up.
_OWN = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


class DialError(Exception):
    """No connection could be opened. `is_own` is true if this machine is the reason."""

    def __init__(self, error_class: ErrorClass, detail: str, *, is_own: bool = False) -> None:
        super().__init__(detail)
        self.error_class = error_class
        self.detail = detail
        self.is_own = is_own


class Dialer:
    """Opens connections to one target."""

    def __init__(self, target: Target, tls: ssl.SSLContext | None, timeout: float) -> None:
        self._target = target
        self._tls = tls
        self._timeout = timeout
        self._resolving: asyncio.Task[list[_Address]] | None = None
        self._resolved_at = 0.0
        self._next = 0
        #: Whether a server that makes no TLS handshake speaks HTTP without TLS. Asked once.
        self._asking_plain: asyncio.Task[bool] | None = None

    async def dial(self, protocol: Callable[[], P]) -> P:
        """Open a connection and return its protocol. Raises DialError, or TimeoutError at the limit of the caller."""
        sock = await self._open_socket(self._in_turn(await self._addresses()))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._tls is not None:
                return await self._shake_hands(sock, protocol, self._tls)
            _, made = await asyncio.get_running_loop().create_connection(protocol, sock=sock)
        except OSError as error:
            raise self._tls_failure(error) from error
        return made

    async def _shake_hands(self, sock: socket.socket, protocol: Callable[[], P], tls: ssl.SSLContext) -> P:
        """Return a protocol on a socket with TLS. From here on, the transport closes the socket, whatever happens."""
        handshake = asyncio.ensure_future(
            asyncio.get_running_loop().create_connection(
                protocol, sock=sock, ssl=tls, ssl_handshake_timeout=self._timeout,
                server_hostname=self._target.dns_name.rstrip(".").partition("%")[0],
            )
        )  # fmt: skip
        try:
            is_known = self._asking_plain is not None and self._asking_plain.done() and self._asking_plain.result()
            seconds = _PLAIN_HANDSHAKE_SECONDS if is_known else _SLOW_HANDSHAKE_SECONDS
            await asyncio.wait((handshake,), timeout=seconds)
            if not handshake.done() and await self._speaks_plain_http():
                raise DialError(
                    ErrorClass.TLS,
                    f"no TLS connection to {self._target.address}: the server does not answer with TLS, "
                    "but in HTTP; write http:// in the URL",
                )
            _, made = await handshake
        finally:
            handshake.cancel()
            # If it failed in this moment, asyncio would print a traceback.
            handshake.add_done_callback(lambda done: done.cancelled() or done.exception())
        return made

    async def _speaks_plain_http(self) -> bool:
        """Return whether the server answers HTTP without TLS. The first slow handshake asks."""
        if self._asking_plain is None:
            self._asking_plain = asyncio.create_task(self._ask_plain_http())
        return await asyncio.shield(self._asking_plain)

    async def _ask_plain_http(self) -> bool:
        """Return whether the server answers a request without TLS, and does not say that it expects TLS."""
        loop = asyncio.get_running_loop()
        head = f"GET / HTTP/1.1\r\nHost: {self._target.authority}\r\nConnection: close\r\n\r\n"
        answer = b""
        with suppress(DialError, OSError):
            async with asyncio.timeout(_PROBE_SECONDS):
                with await self._open_socket(self._in_turn(await self._addresses())) as sock:
                    await loop.sock_sendall(sock, head.encode())
                    while len(answer) < _MAX_ANSWER and (piece := await loop.sock_recv(sock, _MAX_ANSWER)):
                        answer += piece
                        if (status := _STATUS_LINE.match(answer)) and status[1] != b"400":
                            return True
        return _STATUS_LINE.match(answer) is not None and not _TLS_WORDS.search(answer)

    async def expects_tls(self) -> bool:
        """Return whether the server makes a TLS handshake, although the URL says http. Asked only after a failure."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                sock = await self._open_socket(self._in_turn(await self._addresses()))
                transport, _ = await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, sock=sock, ssl=context, server_hostname=""
                )
        except (DialError, OSError):
            return False
        transport.abort()
        return True

    # ---- names

    async def _addresses(self) -> list[_Address]:
        """Return the addresses of the host. Connections that are opened together share one query."""
        loop = asyncio.get_running_loop()
        task = self._resolving
        is_old = loop.time() - self._resolved_at > _LIFETIME_SECONDS
        if task is None or (task.done() and (is_old or task.cancelled() or task.exception() is not None)):
            task = self._resolving = asyncio.create_task(resolve(self._target.dns_name, self._target.port))
            # At the end of a run nobody may be left to hear why it failed, and asyncio would print a traceback.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._resolved_at = loop.time()
        try:
            return await asyncio.shield(task)
        except (socket.gaierror, UnicodeError) as error:
            reason = error.strerror if isinstance(error, socket.gaierror) else "it is not a name"
            raise DialError(ErrorClass.DNS, f"cannot resolve {self._target.host}: {reason}") from error

    def _in_turn(self, addresses: list[_Address]) -> list[_Address]:
        """Return the addresses in the order in which to try them: both families alternate.

        Each connection begins with another address of the preferred family, so that the pods of a headless Service get
        equal parts of the load.
        """
        first = [address for address in addresses if address[0] == addresses[0][0]]
        others = [address for address in addresses if address[0] != addresses[0][0]]
        start = self._next % len(first)
        self._next += 1
        both = chain.from_iterable(zip_longest(first[start:] + first[:start], others))
        return [address for address in both if address is not None]

    # ---- sockets

    async def _open_socket(self, addresses: list[_Address]) -> socket.socket:
        """Return a socket that is connected to one of the addresses."""
        if len(addresses) == 1:
            try:
                return await _connect(addresses[0])
            except OSError as error:
                raise self._failure(error) from error
        tasks: list[asyncio.Task[socket.socket]] = []
        pending: set[asyncio.Task[socket.socket]] = set()
        try:
            for address in [*addresses, None]:
                if address is not None:
                    tasks.append(asyncio.create_task(_connect(address)))
                    pending.add(tasks[-1])
                limit = None if address is None else _NEXT_ATTEMPT_SECONDS
                while pending:
                    done, pending = await asyncio.wait(pending, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        if task.exception() is None:
                            tasks.remove(task)
                            return task.result()
                    if address is not None:
                        break
        finally:
            await _discard(tasks)
        failure = tasks[0].exception()
        if isinstance(failure, OSError):
            raise self._failure(failure)
        raise failure or DialError(ErrorClass.REFUSED, "the host has no address")

    # ---- errors

    def _failure(self, error: OSError) -> DialError:
        address = self._target.address
        if isinstance(error, TimeoutError):
            return DialError(ErrorClass.TIMEOUT, f"no connection to {address}: {reason_of(error)}")
        if error.errno in _OWN:
            return DialError(ErrorClass.REFUSED, f"this machine cannot open another connection: {reason_of(error)}",
                             is_own=True)  # fmt: skip
        is_reset = isinstance(error, ConnectionResetError | ConnectionAbortedError)
        return DialError(
            ErrorClass.RESET if is_reset else ErrorClass.REFUSED, f"no connection to {address}: {reason_of(error)}"
        )

    def _tls_failure(self, error: OSError) -> DialError:
        if self._tls is None:
            return self._failure(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"the certificate is not accepted: {error.verify_message or error.reason}"
        elif isinstance(error, ssl.SSLError):
            is_plain = error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
            reason = "the server does not answer with TLS" if is_plain else _words(error.reason)
        else:
            reason = "the server closed the connection"
        return DialError(ErrorClass.TLS, f"no TLS connection to {self._target.address}: {reason}")


async def resolve(host: str, port: int) -> list[_Address]:
    """Return the addresses of a host, in the order of preference. Raises socket.gaierror or UnicodeError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(found))


async def _connect(address: _Address) -> socket.socket:
    family, kind, protocol, _, name = address
    loop = asyncio.get_running_loop()
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, name)
    except BaseException:
        # The event loop watches the socket until the next turn, and must not watch what is closed.
        loop.remove_writer(sock)
        sock.close()
        raise
    return sock


async def _discard(tasks: list[asyncio.Task[socket.socket]]) -> None:
    """End the attempts that are not needed, and close the sockets of those that succeeded."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, socket.socket):
            result.close()


def _words(reason: str | None) -> str:
    """Return OpenSSL's name of an error, such as SSLV3_ALERT_HANDSHAKE_FAILURE, as words."""
    return (reason or "the handshake failed").replace("_", " ").lower()
