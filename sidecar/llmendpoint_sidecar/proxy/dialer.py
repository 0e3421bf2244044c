"""Opens connections to the upstream.

If the upstream is on this machine, the kernel connects while `connect` is called, although it reports EINPROGRESS. The
first bytes are then sent immediately, before asyncio knows the connection. Otherwise they wait for three turns of the
event loop, and in a burst these turns last as long as the handling of all new requests.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket

from llmendpoint_common.process.errors import UpstreamError
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.process.sockets import probe_silent_peers
from llmendpoint_common.process.units import Address


class Opening:
    """A connection that is being opened, and the bytes that wait for it."""

    __slots__ = ("_connected", "_dialer", "_socket", "_waiting", "_waiting_bytes")

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        #: A socket that is probably connected. `_connected`: it is, because bytes were sent through it.
        self._socket = dialer.connect_now()
        self._connected = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def write(self, data: bytes) -> int:
        """Send bytes immediately if possible. Return the number of bytes that wait until the connection is open."""
        if self._socket is not None and not self._waiting:
            data = data[self._send(data) :]
        if data:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
        return self._waiting_bytes

    async def run(self, protocol: asyncio.Protocol) -> None:
        """Connect a protocol. Raises UpstreamError, which names the address, on failure and after the timeout."""
        sock, self._socket = self._socket, None
        if sock is not None and not self._connected:
            sock.close()
            sock = None
        await self._dialer.connect(protocol, sock)

    def close(self) -> None:
        """Close the socket, unless `run` has taken it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def take_waiting(self) -> bytes:
        """Return the bytes that wait for the connection."""
        return b"".join(self._waiting)

    def _send(self, data: bytes) -> int:
        """Return the number of bytes that were sent: 0 if the socket is not connected."""
        try:
            sent = self._socket.send(data) if self._socket is not None else 0
        except OSError:
            # `run` connects again, and reports the error.
            return 0
        self._connected = True
        return sent


class Dialer:
    """Opens connections to one address. `timeout` is in seconds."""

    __slots__ = ("_address", "_family", "_host", "_timeout")

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._host = address.host or "127.0.0.1"
        self._timeout = timeout
        self._family = _loopback_family(self._host)

    def connect_now(self) -> socket.socket | None:
        """Return a socket that is probably connected. None if the upstream is not on this machine, or refuses."""
        if self._family is None:
            return None
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.setblocking(False)
        if sock.connect_ex((self._host, self._address.port)) not in (0, errno.EINPROGRESS):
            sock.close()
            return None
        return sock

    async def connect(self, protocol: asyncio.Protocol, connected: socket.socket | None) -> None:
        """Connect a protocol, through a connected socket if there is one. Raises UpstreamError as `Opening.run`."""
        loop = asyncio.get_running_loop()
        try:
            if connected is not None:
                await loop.create_connection(lambda: protocol, sock=connected)
                return
            async with asyncio.timeout(self._timeout):
                transport, _ = await loop.create_connection(lambda: protocol, self._host, self._address.port)
        except TimeoutError:
            raise UpstreamError(f"no connection to {self._address} within {self._timeout:g} s") from None
        except OSError as error:
            raise UpstreamError(f"cannot connect to {self._address}: {reason_of(error)}") from None
        if self._family is None:
            probe_silent_peers(transport.get_extra_info("socket"))


def _loopback_family(host: str) -> socket.AddressFamily | None:
    """Return the address family of an address of the loopback interface. None for any other address or name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if not address.is_loopback:
        return None
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
