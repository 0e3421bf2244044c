"""Listening sockets: one each for IPv4 and IPv6 for `localhost` and for an address without a host, otherwise one."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import select
import socket
from collections.abc import Iterable, Sequence

from llmendpoint_common.process.units import LOCALHOST, Address

_BACKLOG = 4096
#: The IPv4 address and the IPv6 address of hosts that mean both.
_PAIRS = {None: ("0.0.0.0", "::"), LOCALHOST: ("127.0.0.1", "::1")}
#: A peer that vanished without closing is noticed after 60 s of silence and 4 lost probes, 15 s apart: two minutes.
_PROBES = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


class ListenError(OSError):
    """A socket cannot listen. Its text is one sentence for people, without the number of the error."""

    def __str__(self) -> str:
        return str(self.strerror)


def bind_sockets(address: Address, *, reuse_port: bool = False) -> list[socket.socket]:
    """Return listening, non-blocking sockets for `address`. Port 0 selects a free port, the same for IPv4 and IPv6.

    Raises ListenError, which names the address, for example if it is in use.
    """
    pair = _PAIRS.get(address.host)
    if pair is None:
        host = str(address.host)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return [_listen(family, host, address.port, reuse_port=reuse_port)]
    first = _listen(socket.AF_INET, pair[0], address.port, reuse_port=reuse_port)
    port = first.getsockname()[1]
    try:
        return [first, _listen(socket.AF_INET6, pair[1], port, reuse_port=reuse_port)]
    except OSError as error:
        # If the kernel has no IPv6, only IPv4 is served. A port in use is an error for both families.
        if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return [first]
        first.close()
        raise


def port_of(sockets: Sequence[socket.socket]) -> int:
    """Return the port that the sockets listen on."""
    return int(sockets[0].getsockname()[1])


def names_of(sockets: Iterable[socket.socket]) -> str:
    """Return the addresses that the sockets listen on as text, such as `127.0.0.1:11435 and [::1]:11435`."""
    return " and ".join(str(Address(*sock.getsockname()[:2])) for sock in sockets)


def are_loopback(sockets: Iterable[socket.socket]) -> bool:
    """Return whether only programs on this machine can connect to the sockets."""
    return all(ipaddress.ip_address(sock.getsockname()[0]).is_loopback for sock in sockets)


def probe_silent_peers(sock: socket.socket) -> None:
    """Let the kernel close a silent connection whose peer has vanished, within about two minutes (TCP keep-alive).

    Connections that a listening socket accepts inherit this. A silent peer that still exists is not affected.
    """
    # The peer may have closed the connection already, and then macOS refuses the options.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES:
            # macOS has another name for the first one, and its default of two hours.
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_readable(sock: socket.socket) -> bool:
    """Return whether bytes, an end or an error have arrived that were not read yet. False if the socket is closed."""
    if sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _listen(family: int, host: str, port: int, *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ListenError(error.errno, f"cannot listen on {Address(host, port)}: {error.strerror}") from None
    return sock
