"""Origins of pages and names of hosts that Ollama serves (envconfig.AllowedOrigins, allowedHostsMiddleware).

A page of another origin gets 403. On the loopback interface, so does a request for a host that is not local.
"""

from __future__ import annotations

import ipaddress
import re
import socket

from llmendpoint_simulator.serving.connection import Request
from llmendpoint_simulator.serving.responses import Response

_ORIGINS = re.compile(
    r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0)(:\d+)?|(app|file|tauri|vscode-webview|vscode-file)://.*"
)
_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
    "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
    "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    "X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
_LOCAL_DOMAINS = (".localhost", ".local", ".internal")
_FORBIDDEN = Response(403)


def refusal(request: Request, *, is_loopback: bool) -> Response | None:
    """Return the answer to a request that Ollama's middleware does not pass on, or None."""
    origin = _foreign_origin(request)
    if origin:
        if not _ORIGINS.fullmatch(origin):
            return _FORBIDDEN
        if request.method == "OPTIONS":
            return Response(204, fields=_preflight(origin))
    host = _host(request)
    if not is_loopback or _is_local_address(host):
        return None
    if not _is_local_name(host):
        return _FORBIDDEN
    return Response(204) if request.method == "OPTIONS" else None


def fields_of(request: Request) -> tuple[tuple[str, str], ...]:
    """Return the headers that let a page of another origin read the response."""
    origin = _foreign_origin(request)
    return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin")) if origin else ()


def _preflight(origin: str) -> tuple[tuple[str, str], ...]:
    return (
        ("Access-Control-Allow-Headers", _HEADERS),
        ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Max-Age", "43200"),
        ("Vary", "Origin"),
    )


def _foreign_origin(request: Request) -> str:
    """Return the origin of a page on another host, or an empty text."""
    origin = request.headers.get("origin", "")
    host = request.headers.get("host", "")
    return "" if origin in (f"http://{host}", f"https://{host}") else origin


def _host(request: Request) -> str:
    host = request.headers.get("host", "").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_local_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def _is_local_name(host: str) -> bool:
    return host in ("", "localhost", socket.gethostname().lower()) or host.endswith(_LOCAL_DOMAINS)
