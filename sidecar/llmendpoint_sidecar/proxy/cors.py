"""CORS headers of error responses that the proxy writes itself: those that Ollama would have sent for the same Origin.

Without these headers, a browser hides a response from a page of another origin, which then cannot distinguish a missing
key from a network failure. Only Ollama knows which origins are allowed (OLLAMA_ORIGINS), so it is asked, once per
Origin. The result is remembered for a minute. If Ollama does not answer within a second, the last known result is used.

An Origin is text that a client chooses. Therefore the number of remembered origins and of simultaneous questions to
Ollama is limited. Beyond the limit of questions, error responses have no CORS headers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeAlias

from llmendpoint_common.process.errors import OllamaError
from llmendpoint_common.wire.http1.heads import Headers

log = logging.getLogger(__name__)

AskOllama: TypeAlias = Callable[[str], Awaitable[Headers]]
OnHeaders: TypeAlias = Callable[[Headers], None]

_MAX_ORIGINS = 256
#: The longest origin is a scheme, a domain name of at most 253 characters and a port. Extensions have longer ones.
_MAX_ORIGIN_BYTES = 512
_MAX_QUESTIONS = 8
_ANSWER_SECONDS = 1.0
_FRESH_SECONDS = 60.0
#: Time until Ollama is asked again after it did not answer, so that not every error response waits for it.
_RETRY_SECONDS = 5.0
_ALLOW_ORIGIN = b"access-control-allow-origin"
_EXPOSE = (b"Access-Control-Expose-Headers", b"Retry-After")


def own_origin(fields: Mapping[bytes, bytes]) -> bytes:
    """Return the scheme of an Origin that is the host of the request itself, or an empty value.

    Ollama (gin-contrib/cors) allows such an Origin without CORS headers, whichever of the two schemes it has, because
    it cannot know the scheme that a client uses in front of a load balancer. It compares byte for byte, and so do we.
    """
    origin = fields.get(b"origin", b"")
    scheme, _, host = origin.partition(b"://")
    is_own = host and scheme in (b"http", b"https") and host == fields.get(b"host")
    return scheme if is_own else b""


class _Known(NamedTuple):
    """The headers for an origin, and the time at which Ollama is asked again."""

    headers: Headers
    until: float


class CorsHeaders:
    """The CORS headers by Origin. `ask` returns Ollama's, or raises OllamaError; without it, there are none.

    Times are readings of the clock, in seconds.
    """

    def __init__(self, ask: AskOllama | None, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        #: The origin that was used last is the last one.
        self._known: dict[bytes, _Known] = {}
        self._waiting: dict[bytes, list[OnHeaders]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def when_known(self, fields: Mapping[bytes, bytes], use: OnHeaders) -> None:
        """Call `use` with the headers for a request, whose header fields have lower-case names.

        The call is immediate if Ollama need not be asked, and otherwise within about a second.
        """
        ask, origin = self._ask, fields.get(b"origin", b"")
        if ask is None or not _is_plain(origin) or own_origin(fields):
            use([])
            return
        known = self._known.pop(origin, None)
        if known is not None:
            self._known[origin] = known
            if self._clock() < known.until:
                use(known.headers)
                return
        if origin in self._waiting:
            self._waiting[origin].append(use)
        elif len(self._waiting) < _MAX_QUESTIONS:
            self._waiting[origin] = [use]
            task = asyncio.get_running_loop().create_task(self._learn(ask, origin))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            use(self._last(origin))

    def close(self) -> None:
        """Stop asking. Responses that wait are not written."""
        for task in self._tasks:
            task.cancel()

    async def _learn(self, ask: AskOllama, origin: bytes) -> None:
        """Ask Ollama, remember the result, and pass it to all responses that wait for it."""
        headers, fresh = self._last(origin), _RETRY_SECONDS
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                headers, fresh = _with_exposed(await ask(origin.decode())), _FRESH_SECONDS
        except (OllamaError, TimeoutError):
            log.debug("Ollama did not tell the CORS headers of an Origin")
        except Exception:
            log.exception("Ollama could not be asked for the CORS headers of an Origin")
        self._known.pop(origin, None)
        while len(self._known) >= _MAX_ORIGINS:
            del self._known[next(iter(self._known))]
        self._known[origin] = _Known(headers, self._clock() + fresh)
        for use in self._waiting.pop(origin):
            # Each call is separate, so that a failure of one does not affect the others.
            asyncio.get_running_loop().call_soon(use, headers)

    def _last(self, origin: bytes) -> Headers:
        known = self._known.get(origin)
        return [] if known is None else known.headers


def _is_plain(origin: bytes) -> bool:
    """Return whether an Origin is one that a browser could send: short, visible ASCII."""
    return 0 < len(origin) <= _MAX_ORIGIN_BYTES and all(0x20 < byte < 0x7F for byte in origin)


def _with_exposed(headers: Headers) -> Headers:
    """Let pages read Retry-After, if they may read the response at all."""
    allowed = any(name.lower() == _ALLOW_ORIGIN for name, _ in headers)
    return [*headers, _EXPOSE] if allowed else []
