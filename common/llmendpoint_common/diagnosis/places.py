"""Compares addresses of servers, so that one cause is not reported once for each server that depends on it."""

from __future__ import annotations

from urllib.parse import urlsplit

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


def host_and_port(url: str) -> str:
    """Return a URL without its scheme and path, for sentences."""
    return urlsplit(url).netloc or url
