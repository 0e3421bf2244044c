"""Compares addresses of servers, so that one cause is not reported once for each server that depends on it."""

from __future__ import annotations

from urllib.parse import urlsplit

from llmendpoint_common.process.hosts import addresses_of, is_of_an_interface
from llmendpoint_common.process.units import Address

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", ""})
_PORTS = {"http": 80, "https": 443}


def place(url: str) -> tuple[str, int]:
    """Return the host and the port of a URL. All names of this machine are `localhost`."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    host = (parts.hostname or "").lower()
    return ("localhost" if host in _LOOPBACK else host), parts.port or _PORTS.get(parts.scheme, 0)


def is_local(url: str) -> bool:
    """Return whether a URL names this machine by a loopback address."""
    return place(url)[0] == "localhost"


def leads_to(url: str, listening: Address) -> bool:
    """Return whether a connection to a URL reaches a server of this machine that listens on an address.

    If the ports are equal, the host of the URL is looked up, which may take the seconds of a timeout of the DNS.
    """
    host, port = place(url)
    if port != listening.port:
        return False
    if place(str(listening)) == (host, port):
        return True
    if listening.host in (None, "0.0.0.0", "::"):
        return any(map(is_of_an_interface, addresses_of(host)))
    return not addresses_of(host).isdisjoint(addresses_of(listening.host))


def host_and_port(url: str) -> str:
    """Return a URL without its scheme and path, for sentences."""
    return urlsplit(url).netloc or url
