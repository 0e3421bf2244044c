"""Decides which Host header fields are served.

A web page can let its own host name resolve to 127.0.0.1, and then read from a server on the visitor's machine (DNS
rebinding). The browser still sends the page's host name as Host. Therefore a server that listens on the loopback
interface serves only names of this machine, by the rules of Ollama (`allowedHostsMiddleware` in `server/routes.go` of
0.17.4). Names that the user allows (`allowedHosts` in the sidecar's configuration file, `--allowed-host` of the
dashboard) also apply beyond loopback.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import TypeAlias

#: Entry of `allowedHosts` that allows every host.
ANY_HOST = "*"
#: Maximum number and length of remembered values, because a client can send any port and any name below `.local`.
_MAX_REMEMBERED = 256
_MAX_REMEMBERED_BYTES = 128
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")

_IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
#: The networks of Go's `netip.Addr.IsPrivate`. Python's `is_private` has many more.
_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))

_BROADCAST = ipaddress.ip_address("255.255.255.255")


class HostRule(dict[bytes, bool]):
    """Whether a value of the header field Host is served: `rule[value]`, with or without a port.

    `names` are served, and the names below a wildcard such as `*.example.com`, but not `example.com`. If `local` is
    true, the names and addresses of this machine are served too. Values that are served are remembered, because the
    data path looks up each request.
    """

    def __init__(self, names: Iterable[str], *, local: bool) -> None:
        super().__init__()
        lower = [name.lower().encode() for name in names]
        self._names = frozenset(lower)
        self._suffixes = tuple(name[1:] for name in lower if name.startswith(b"*."))
        self._local = local

    def __missing__(self, value: bytes) -> bool:
        served = self._is_served(value.lower())
        if served and len(self) < _MAX_REMEMBERED and len(value) <= _MAX_REMEMBERED_BYTES:
            self[value] = True
        return served

    def _is_served(self, value: bytes) -> bool:
        host = _without_port(value)
        if host in self._names or (host.endswith(self._suffixes) and host[:1] != b"."):
            return True
        # Ollama refuses `[::1]` without a port. A sidecar may listen on port 80, which clients leave out.
        return self._local and _is_this_machine(host.decode("latin-1").strip("[]"))


def host_rule(allowed: Iterable[str], *, loopback: bool) -> HostRule | None:
    """Return the rule for clients, or None if every host is served.

    `allowed` is `allowedHosts` of the configuration. `loopback` is whether the server listens on the loopback
    interface.
    """
    names = tuple(allowed)
    if ANY_HOST in names or not (names or loopback):
        return None
    return HostRule(names, local=not names)


def admin_host_rule(allowed: Iterable[str], *, loopback: bool) -> HostRule | None:
    """Return the rule for the admin port, or None if every host is served.

    Beyond loopback, probes and Prometheus use addresses that are not known here. On loopback, names of this machine
    are always served, so that `allowedHosts`, which is for clients, does not stop a local scrape.
    """
    names = tuple(allowed)
    return None if ANY_HOST in names or not loopback else HostRule(names, local=True)


def addresses_of(host: str) -> frozenset[_IPAddress]:
    """Return the IP addresses of a host name or an IP address. Empty if the name is not known."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    texts = (str(row[4][0]).partition("%")[0] for row in found)
    return frozenset(getattr(address, "ipv4_mapped", None) or address for address in map(ipaddress.ip_address, texts))


def is_of_an_interface(address: _IPAddress) -> bool:
    """Return whether the address belongs to a network interface: only then can a socket be bound to it.

    A socket can also be bound to a multicast or broadcast address, which belongs to no interface.
    """
    if address.is_multicast or address == _BROADCAST:
        return False
    if address.version == 4:
        return _can_bind(socket.AF_INET, (str(address), 0))
    # A link-local address needs the number of its interface.
    scopes = [number for number, _ in socket.if_nameindex()] if address.is_link_local else [0]
    return any(_can_bind(socket.AF_INET6, (str(address), 0, 0, scope)) for scope in scopes)


def _without_port(value: bytes) -> bytes:
    name, separator, port = value.rpartition(b":")
    # A second colon outside brackets belongs to an IPv6 address, which has no port here.
    is_port = separator and (port.isdigit() or not port) and (b":" not in name or name.endswith(b"]"))
    return name if is_port else value


def _is_this_machine(host: str) -> bool:
    """Return whether a lower-case host name or IP address means this machine, as Ollama decides it."""
    if host in ("", "localhost") or host.endswith(_LOCAL_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == socket.gethostname().lower()
    return _is_near(address) or is_of_an_interface(address)


def _is_near(address: _IPAddress) -> bool:
    plain = getattr(address, "ipv4_mapped", None) or address
    return plain.is_loopback or address.is_unspecified or any(plain in network for network in _PRIVATE)


def _can_bind(family: int, address: tuple[str, int] | tuple[str, int, int, int]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True
