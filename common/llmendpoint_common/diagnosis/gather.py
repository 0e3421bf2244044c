"""Gathers facts from servers: Ollama, sidecars and Prometheus.

Each request has a timeout, and none of them changes anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec

from llmendpoint_common.contracts.sidecar import SidecarStatus
from llmendpoint_common.diagnosis.facts import (
    LoadedModel,
    LocalModel,
    MachineFacts,
    OllamaFacts,
    PrometheusFacts,
    SidecarFacts,
    Silence,
    SilenceKind,
    Target,
)
from llmendpoint_common.diagnosis.places import is_local
from llmendpoint_common.diagnosis.sentences import answered, no_http
from llmendpoint_common.process.reasons import reason_of

_TIMEOUT_SECONDS = 3.0
#: Number and interval of requests to a sidecar that has never reached its upstream.
_UPSTREAM_ATTEMPTS = 5
_UPSTREAM_SECONDS = 0.4
_MAX_BYTES = 8 * 1024 * 1024
#: The header Date is cut off to whole seconds, so it is half a second late on average.
_HALF_SECOND = 0.5


@dataclass(frozen=True)
class OllamaPlace:
    """Address of an Ollama, the models that it should have, and the context that requests need, in tokens."""

    url: str
    wanted_models: tuple[str, ...] = ()
    wanted_context: int | None = None
    wanted_by: str = "you ask"


@dataclass(frozen=True)
class SidecarPlace:
    """Address of the admin server of a sidecar. `upstream` is the URL of its Ollama, if it is known."""

    name: str
    url: str
    is_expected: bool = True
    upstream: str = ""


@dataclass(frozen=True)
class PrometheusPlace:
    """Address of a Prometheus. `is_expected` is whether it should run."""

    url: str
    is_expected: bool = True


@dataclass(frozen=True)
class Places:
    """The servers of a machine."""

    ollamas: tuple[OllamaPlace, ...] = ()
    sidecars: tuple[SidecarPlace, ...] = ()
    prometheus: PrometheusPlace | None = None


@dataclass(frozen=True)
class _Answer:
    """A response: its status, its decoded JSON (None if it is not JSON), and how far the server's clock is ahead."""

    status: int
    value: Any
    body: bytes
    skew: float | None


async def gather(
    session: aiohttp.ClientSession, places: Places, clock: Callable[[], float] = time.time
) -> MachineFacts:
    """Return the facts from the servers. `clock` is the wall clock. `host.observe` adds those of the machine itself."""
    began, monotonic = clock(), time.monotonic()
    asker = _Asker(session, clock)
    ollamas, sidecars, prometheus = await asyncio.gather(
        _all([_ollama(asker, one) for one in places.ollamas]),
        _all([_sidecar(asker, one) for one in places.sidecars]),
        _all([_prometheus(asker, one) for one in [places.prometheus] if one is not None]),
    )
    now = clock()
    return MachineFacts(
        now=now,
        ollamas=tuple(ollamas),
        sidecars=tuple(sidecars),
        prometheus=prometheus[0] if prometheus else None,
        clock_step=(now - began) - (time.monotonic() - monotonic),
    )


async def _all(awaitables: Sequence[Awaitable[Any]]) -> list[Any]:
    return list(await asyncio.gather(*awaitables))


class _Asker:
    """Sends requests, and turns every failure into a Silence."""

    def __init__(self, session: aiohttp.ClientSession, clock: Callable[[], float]) -> None:
        self._session = session
        self._clock = clock

    async def ask(self, url: str, body: Any = None) -> _Answer | Silence:
        """Send a GET or, with a body, a POST request."""
        method = "GET" if body is None else "POST"
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        sent = self._clock()
        try:
            async with self._session.request(
                method, url, json=body, timeout=timeout, allow_redirects=False
            ) as response:
                skew = self._skew(response.headers.get("Date"), sent)
                content = await _bounded(response)
        except TimeoutError:
            return Silence(SilenceKind.TIMEOUT, f"no answer within {_TIMEOUT_SECONDS:g} s")
        except aiohttp.ClientConnectorError as error:
            return _unconnected(error)
        except (aiohttp.ClientError, OSError) as error:
            return Silence(SilenceKind.FOREIGN, no_http(error))
        return _Answer(response.status, _decoded(content), content, skew)

    def _skew(self, date: str | None, sent: float) -> float | None:
        try:
            server = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return None
        return server + _HALF_SECOND - (sent + self._clock()) / 2


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, cut off at the limit."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_BYTES:
            break
    return bytes(body)


def _unconnected(error: aiohttp.ClientConnectorError) -> Silence:
    if error.os_error.errno == errno.ECONNREFUSED or "refused" in str(error.os_error).lower():
        return Silence(SilenceKind.REFUSED, "connection refused")
    return Silence(SilenceKind.UNREACHABLE, reason_of(error))


def _foreign(answer: _Answer, path: str) -> Silence:
    kind = SilenceKind.LOOP if answer.status == HTTPStatus.LOOP_DETECTED else SilenceKind.FOREIGN
    return Silence(kind, answered(path, answer.status))


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _rows(answer: _Answer | Silence, field: str) -> list[dict[str, Any]]:
    """Return the objects in a list of the response, or none if it has another form."""
    value = answer.value if isinstance(answer, _Answer) else None
    rows = value.get(field) if isinstance(value, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _text(row: dict[str, Any], field: str) -> str:
    return value if isinstance(value := row.get(field), str) else ""


def _number(row: dict[str, Any], field: str) -> int:
    return value if isinstance(value := row.get(field), int) else 0


async def _ollama(asker: _Asker, at: OllamaPlace) -> OllamaFacts:
    facts = OllamaFacts(at.url, wanted_models=at.wanted_models, is_local=is_local(at.url))
    answer = await asker.ask(f"{at.url}/api/version")
    if isinstance(answer, Silence):
        return replace(facts, silence=answer)
    version = answer.value.get("version") if isinstance(answer.value, dict) else None
    if answer.status != 200 or not isinstance(version, str):
        return replace(facts, silence=_foreign(answer, "/api/version"))
    tags, loaded, ledger = await asyncio.gather(
        asker.ask(f"{at.url}/api/tags"), asker.ask(f"{at.url}/api/ps"), asker.ask(f"{at.url}/simulator/ledger")
    )
    models = tuple(LocalModel(_text(row, "name"), _number(row, "size")) for row in _rows(tags, "models"))
    return replace(
        facts,
        version=version,
        models=models,
        loaded=tuple(await _all([_loaded(asker, at, row) for row in _rows(loaded, "models")])),
        skew=answer.skew,
        is_simulated=isinstance(ledger, _Answer) and ledger.status == 200,
    )


async def _loaded(asker: _Asker, at: OllamaPlace, row: dict[str, Any]) -> LoadedModel:
    """Return a model in memory, with the context that its Modelfile or the user asks for."""
    name = _text(row, "name")
    shown = await asker.ask(f"{at.url}/api/show", {"model": name})
    value = shown.value if isinstance(shown, _Answer) and isinstance(shown.value, dict) else {}
    own = _parameter(value, "num_ctx")
    wanted, by = at.wanted_context, at.wanted_by
    if wanted is None and own is not None:
        wanted, by = own, "its Modelfile asks"
    return LoadedModel(
        name,
        size=_number(row, "size"),
        vram=_number(row, "size_vram"),
        context=_number(row, "context_length") or None,
        longest_context=_trained_context(value),
        wanted_context=wanted,
        wanted_by=by,
        gpu_layers=_parameter(value, "num_gpu"),
    )


def _parameter(shown: dict[str, Any], name: str) -> int | None:
    """Return an integer among the parameters of a model, which `/api/show` has as lines of a name and a value."""
    for line in _text(shown, "parameters").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name:
            # Ollama writes large numbers like 1e+07.
            with contextlib.suppress(ValueError, OverflowError):
                return int(float(words[1]))
    return None


def _trained_context(shown: dict[str, Any]) -> int | None:
    info = shown.get("model_info")
    rows = info.items() if isinstance(info, dict) else ()
    return next((value for key, value in rows if key.endswith(".context_length") and isinstance(value, int)), None)


async def _sidecar(asker: _Asker, at: SidecarPlace) -> SidecarFacts:
    """Return the facts about a sidecar. One that has just been started is given time to reach its upstream."""
    for _ in range(_UPSTREAM_ATTEMPTS):
        facts = await _sidecar_now(asker, at)
        if facts.status is None or facts.status.upstream_up or facts.status.upstream_version:
            break
        await asyncio.sleep(_UPSTREAM_SECONDS)
    return facts


async def _sidecar_now(asker: _Asker, at: SidecarPlace) -> SidecarFacts:
    facts = SidecarFacts(at.name, at.url, is_expected=at.is_expected, upstream=at.upstream)
    answer = await asker.ask(f"{at.url}/status")
    if isinstance(answer, Silence):
        return replace(facts, silence=answer)
    try:
        status = msgspec.json.decode(answer.body, type=SidecarStatus)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return replace(facts, silence=_foreign(answer, "/status"))
    return replace(facts, status=status, skew=answer.skew)


async def _prometheus(asker: _Asker, at: PrometheusPlace) -> PrometheusFacts:
    facts = PrometheusFacts(at.url, is_expected=at.is_expected)
    answer = await asker.ask(f"{at.url}/api/v1/targets?state=active")
    if isinstance(answer, Silence):
        return replace(facts, silence=answer)
    data = answer.value.get("data") if isinstance(answer.value, dict) else None
    if answer.status != 200 or not isinstance(data, dict):
        return replace(facts, silence=_foreign(answer, "/api/v1/targets"))
    rows = _rows(replace(answer, value=data), "activeTargets")
    started = None if rows else await _start(asker, at)
    return replace(facts, targets=tuple(map(_target, rows)), skew=answer.skew, started=started)


async def _start(asker: _Asker, at: PrometheusPlace) -> float | None:
    """Return when Prometheus started, or None if it does not say it."""
    answer = await asker.ask(f"{at.url}/api/v1/status/runtimeinfo")
    data = answer.value.get("data") if isinstance(answer, _Answer) and isinstance(answer.value, dict) else None
    return _timestamp(_text(data, "startTime")) if isinstance(data, dict) else None


def _target(row: dict[str, Any]) -> Target:
    return Target(
        url=_text(row, "scrapeUrl"),
        health=_text(row, "health"),
        error=_text(row, "lastError"),
        last_scrape=_timestamp(_text(row, "lastScrape")),
    )


def _timestamp(text: str) -> float | None:
    """Return the Unix time of RFC 3339, or None. Go writes the year 1 for a time that is not set."""
    try:
        found = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return found if found > 0 else None
