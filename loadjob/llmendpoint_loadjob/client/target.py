"""Address of a model server: its host, and the path to which an API's requests go."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.process.errors import TargetError
from llmendpoint_common.wire.routes import ROUTES, path_of_operation

#: Operation of the requests by API. It determines their path and the dialect of the responses.
OPERATIONS = {
    Api.OLLAMA_CHAT: Operation.CHAT,
    Api.OLLAMA_GENERATE: Operation.GENERATE,
    Api.OPENAI_CHAT: Operation.OPENAI_CHAT,
}
_PATHS = {api: path_of_operation(operation) for api, operation in OPERATIONS.items()}
_ROUTES = {route.path.decode() for route in ROUTES} - {"/"}
#: Path of the chat API below a base path that does not end with /v1, such as /v1beta/openai.
_CHAT_COMPLETIONS = "/chat/completions"
_EXAMPLE = "write it like http://127.0.0.1:11435"
_DEFAULT_PORTS = {False: 80, True: 443}
_AUTHORITY_END = re.compile("[/?#]")
#: Characters that stay as they are in a path or in a query (RFC 3986, 3.3 and 3.4).
_SAFE = "/%:@!$&'()*+,;=~?"


@dataclass(frozen=True)
class Target:
    """Address of a model server. `path` is the path of its base URL, and `query` is sent with each request."""

    host: str
    port: int
    is_tls: bool
    path: str = ""
    query: str = ""

    @property
    def dns_name(self) -> str:
        """The host as it is resolved, in ASCII."""
        return self.host if ":" in self.host else self.host.encode("idna").decode()

    @property
    def authority(self) -> str:
        """The value of the Host header. The default port is omitted, as browsers and SDKs do."""
        host = self.dns_name.partition("%")[0]
        name = f"[{host}]" if ":" in host else host
        return name if self.port == _DEFAULT_PORTS[self.is_tls] else f"{name}:{self.port}"

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def request_target(self, api: Api) -> str:
        """Return the path and query of an API's requests. Raises TargetError if the URL is that of another API."""
        return self._request_path(api) + (f"?{self.query}" if self.query else "")

    def _request_path(self, api: Api) -> str:
        path, own = self.path, _PATHS[api]
        is_openai = api is Api.OPENAI_CHAT
        if path.endswith(own) or (is_openai and path.endswith(_CHAT_COMPLETIONS)):
            return path
        for other, route in [*_PATHS.items(), (Api.OPENAI_CHAT, _CHAT_COMPLETIONS)]:
            if path.endswith(route):
                raise TargetError(f"the URL has the path of the API {other}, but the API of the requests is {api}")
        if any(path.endswith(route) for route in _ROUTES):
            raise TargetError(f"the URL has the path of an API other than {api}; write only its base path")
        # Base URLs of OpenAI's API usually end with /v1, and those of Ollama's API with nothing or with /api.
        for part in ("/v1/chat", "/v1") if is_openai else ("/api", "/v1"):
            if path.endswith(part):
                return path.removesuffix(part) + own
        return path + own


def parse_target(text: str) -> Target:
    """Parse a URL such as `http://127.0.0.1:11435`, with or without the path of an API.

    Raises TargetError, which is a ValueError, if the URL cannot be used. The message quotes neither a password nor the
    query, which can contain a key.
    """
    shown = repr(text.partition("?")[0])
    if "@" in _AUTHORITY_END.split(text.partition("://")[2] or text, maxsplit=1)[0]:
        raise TargetError(
            "the URL contains a user name or a password; use an API key, or the header Authorization of a run document"
        )
    if not text.isprintable() or " " in text:
        raise TargetError(f"the URL {shown} contains a space or a control character")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = _host(parts.hostname or "")
    except ValueError as error:
        raise TargetError(f"{shown} is not a URL: {error}; {_EXAMPLE}") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise TargetError(f"{shown} is not a URL; {_EXAMPLE}")
    if parts.fragment:
        raise TargetError(f"the URL {shown} has a fragment (#), which is never sent to a server")
    is_tls = parts.scheme == "https"
    path = quote(parts.path, safe=_SAFE).rstrip("/")
    return Target(host, port or _DEFAULT_PORTS[is_tls], is_tls, path, quote(parts.query, safe=_SAFE))


def _host(name: str) -> str:
    """Return the host of a URL. Raises ValueError if it cannot be the name of a host."""
    if ":" in name:
        # The zone of a link-local address is percent-encoded in a URL (RFC 6874).
        return unquote(name)
    name.encode("idna")
    return name


def tls_context(cacert: Path | None, *, is_insecure: bool) -> ssl.SSLContext:
    """Return the trust for TLS connections. A file of certificates replaces the authorities of the system.

    Raises TargetError, which names the file, if it cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=str(cacert) if cacert else None)
    except (OSError, ssl.SSLError) as error:
        reason = "it contains no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise TargetError(f"{cacert}: {reason}") from error
    # Like kubectl and curl, accept certificates without an Authority Key Identifier. Since Python 3.13, they are
    # refused by default. Signatures, dates and names are verified as before.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if is_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
