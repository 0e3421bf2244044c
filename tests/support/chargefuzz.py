"""Fuzzer for charges: who is charged for a request, and what passes, with limits on and off.

    python tests/support/chargefuzz.py --seconds 300    # longer than the tests; writes findings to the corpus

Each case is one request with a valid head and any body (`charge_cases`). It is sent through the whole data path without
sockets, under several configurations, in one piece and in several, to an upstream that answers as Ollama. The results
are compared with one another and with an independent reading of the request (`charge_judge`).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import h11

from llmendpoint_common.contracts.sidecar import (
    IncludeUsage,
    ModelManagement,
    Operation,
    Outcome,
    RefusalReason,
    RequestRecord,
    SidecarConfig,
    TenantConfig,
    TenantLimits,
)
from llmendpoint_sidecar.inputs.keys import KeyTable, digest
from llmendpoint_sidecar.policy.reading_queue import ReadingQueue

if __name__ == "__main__":
    # Only pytest puts the folder of the tests on the path.
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.charge_cases import KEYS, made
from support.charge_judge import (
    ALLOWED,
    WAYS,
    Answer,
    Request,
    answer_to,
    is_allowed,
    kind_of,
    read_models,
    read_request,
)
from support.charge_judge import decoded as decoded_body
from support.corpus import CORPUS, split
from support.data_path import Clock, DataPath
from support.private import is_reading, use_of_allowances

_PEPPER = b"p" * 32
_KEYS = KeyTable(_PEPPER, {digest(_PEPPER, key): tenant for tenant, key in KEYS.items()})
_LIMITED = TenantLimits(
    requests_per_minute=60, tokens_per_minute=10_000_000, max_concurrent=4, allowed_models=(ALLOWED,)
)
_TENANT_A = TenantConfig(
    name="a", requests_per_minute=60, tokens_per_minute=10_000_000, max_concurrent=4, allowed_models=("M",)
)
_SPLICE = b',"stream_options":{"include_usage":true}'
_UNKNOWN_CONTEXT = 32_768


class FindingError(Exception):
    """A request was charged, forwarded or answered in a way in which it must not be."""


class Setting(NamedTuple):
    """A configuration. `used_up`: a request of tenant `a` is in progress, and no other one is within its limits."""

    config: SidecarConfig
    keys: bool = False
    used_up: bool = False

    @property
    def forbids(self) -> bool:
        return self.config.model_management is ModelManagement.FORBIDDEN

    @property
    def injects(self) -> bool:
        return self.config.include_usage is IncludeUsage.INJECT

    def limits_of(self, tenant: str) -> TenantLimits:
        return next((one for one in self.config.tenants if one.name == tenant), self.config.default_tenant)


_FORBIDDEN, _INJECT = ModelManagement.FORBIDDEN, IncludeUsage.INJECT
SETTINGS = {
    "open": Setting(SidecarConfig()),
    "default": Setting(SidecarConfig(max_waiting=256, model_management=_FORBIDDEN)),
    "shared": Setting(SidecarConfig(default_tenant=_LIMITED)),
    "tenants": Setting(
        SidecarConfig(tenants=(_TENANT_A,), default_tenant=_LIMITED, max_waiting=256, model_management=_FORBIDDEN), keys=True
    ),
    "models": Setting(SidecarConfig(tenants=(TenantConfig(name="a", allowed_models=(ALLOWED,)),)), keys=True),
    "inject": Setting(SidecarConfig(include_usage=_INJECT)),
    "everything": Setting(
        SidecarConfig(
            tenants=(_TENANT_A,), default_tenant=_LIMITED, max_waiting=1, model_management=_FORBIDDEN, include_usage=_INJECT
        ),
        keys=True,
    ),
    "used up": Setting(SidecarConfig(tenants=(TenantConfig(name="a", max_concurrent=1, tokens_per_minute=5),)), keys=True, used_up=True),
}  # fmt: skip


class Seen(NamedTuple):
    """What happened to a request. `charged` has running requests, requests and tokens that were added, by tenant."""

    statuses: tuple[int, ...]
    forwarded: tuple[bytes, bytes, bytes] | None
    answer: Answer | None
    record: RequestRecord
    charged: dict[str, tuple[int, float, float]]

    @property
    def decision(self) -> tuple[object, ...]:
        """What must not depend on how the request is split."""
        record = self.record
        about = (record.tenant, record.model_name, record.operation, record.code, record.outcome, record.refusal_reason)
        return self.statuses, self.forwarded, about, self.charged


class _Errors(logging.Handler):
    """Keeps errors that were logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


class Attempt:
    """One request under one configuration, with one answer."""

    def __init__(self, setting: Setting, request: Request, way: str) -> None:
        self._request, self._way = request, way
        clock, ticks = Clock(), iter(range(1_000_000_000))
        self.path = DataPath(setting.config, clock, keys=_KEYS if setting.keys else None)
        # Its clock advances with each look, so that every body is read in many slices.
        self.path.admission.reading_queue = ReadingQueue(2, lambda: float(next(ticks)))
        self._records: list[RequestRecord] = []
        self.path.meter.journal.listeners.append(self._records.append)
        if setting.used_up:
            self.path.admission.at_head(b"POST", Operation.CHAT, {b"x-api-key": KEYS["a"]})
        self._before = use_of_allowances(self.path.admission)

    async def run(self, data: bytes, cuts: Iterable[int]) -> Seen:
        """Send the request, answer it, and return what happened. Raises FindingError if something is left over."""
        path, errors = self.path, _Errors()
        logging.getLogger().addHandler(errors)
        try:
            for piece in split(data, cuts):
                if not path.wire.closed:
                    path.client.data_received(piece)
            await self._settle()
            forwarded, answer = await self._answer()
            path.client.eof_received()
            path.client.connection_lost(None)
            await self._settle()
            path.meter.close()
        finally:
            logging.getLogger().removeHandler(errors)
        if errors.found:
            raise FindingError(f"logged: {errors.found}")
        self._check_rest()
        charged = {}
        for tenant, use in use_of_allowances(path.admission).items():
            now, then = use, self._before.get(tenant, (0, 0.0, 0.0))
            charged[tenant] = (now[0] - then[0], now[1] - then[1], now[2] - then[2])
        statuses = _statuses(path.wire.written, self._request.method, ended=path.wire.closed)
        return Seen(statuses, forwarded, answer, self._records[0], charged)

    async def _settle(self) -> None:
        while is_reading(self.path.admission, self.path.meter):  # noqa: ASYNC110 - each turn reads a slice
            await asyncio.sleep(0)

    async def _answer(self) -> tuple[tuple[bytes, bytes, bytes] | None, Answer | None]:
        """Answer the request that the upstream got, and return it."""
        path = self.path
        if len(path.upstreams) > 1:
            raise FindingError(f"one request needed {len(path.upstreams)} connections to the upstream")
        for connection, wire in path.upstreams:
            got = read_request(wire.written)
            if got is None or not got.complete:
                return None, None
            answer = answer_to(self._request, got.body, self._way)
            for piece in answer.pieces:
                if not wire.closed:
                    connection.data_received(piece)
            if answer.then == "left":
                path.client.eof_received()
            elif answer.then == "cut" and not wire.closed:
                connection.eof_received()
                connection.connection_lost(None)
            return (got.method, got.target, got.body), answer
        return None, None

    def _check_rest(self) -> None:
        path = self.path
        if path.metrics.total("meter_failures"):
            raise FindingError("the meter failed")
        counted = path.metrics.totals_by("requests", "tenant")
        if len(self._records) != 1 or counted != {self._records[0].tenant: 1}:
            raise FindingError(f"one request has {len(self._records)} records and was counted as {counted}")
        if path.meter.in_flight.counts():
            raise FindingError(f"still in flight: {path.meter.in_flight.counts()}")
        if path.admission.held_memory.used:
            raise FindingError(f"held bodies still use {path.admission.held_memory.used} bytes")


def _statuses(data: bytes, method: bytes, *, ended: bool) -> tuple[int, ...]:
    """Return the final status that a client got, if any. Raises FindingError if it got anything but one response."""
    if not data:
        return ()
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    found: list[int] = []
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(data)
        if ended:
            connection.receive_data(b"")
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return tuple(found)
            if isinstance(event, h11.Response):
                found.append(event.status_code)
    except h11.RemoteProtocolError as error:
        if ended and "peer" in str(error):
            return tuple(found)  # cut, and seen to be cut
        raise FindingError(f"the client got bytes that are not HTTP: {error}: {data[:200]!r}") from error
    if connection.trailing_data[0]:
        raise FindingError(f"the client got more than one response: {data[:500]!r}")
    return tuple(found)


# ---- what must hold


class Judge:
    """The rules, for one request under one configuration."""

    def __init__(self, setting: Setting, request: Request, seen: Seen) -> None:
        self._setting, self._request, self._seen = setting, request, seen
        self._kind = kind_of(request)
        self._readings = read_models(request)
        self._tenant = _tenant_of(request) if setting.keys and request.method != b"OPTIONS" else ""
        self._limits = setting.limits_of(self._tenant or "")

    def check(self) -> None:
        """Raise FindingError if a rule does not hold."""
        self._check_identity()
        if self._seen.forwarded is not None:
            self._check_forwarded(self._seen.forwarded)
        elif self._request.complete:
            self._check_refused()
        self._check_requests()
        self._check_tokens()

    def _fail(self, sentence: str) -> None:
        raise FindingError(f"{sentence}: {self._seen}")

    def _check_identity(self) -> None:
        seen = self._seen
        if seen.record.tenant != (self._tenant or ""):
            self._fail(f"the tenant is {self._tenant!r}")
        if self._tenant is None and (
            seen.forwarded or seen.record.refusal_reason is not self._expected(RefusalReason.KEY)
        ):
            self._fail("a request without a key was not refused for it")
        if not seen.statuses and seen.record.outcome in (Outcome.OK, Outcome.LENGTH):
            self._fail("a request without a response was counted as a success")
        left = seen.answer is not None and seen.answer.then == "left"
        if len(seen.statuses) != 1 and self._request.complete and not left:
            self._fail("the client got no response")

    def _expected(self, reason: RefusalReason) -> RefusalReason | None:
        """Return the reason for a refusal, or None if the client left before the request was complete."""
        return reason if self._seen.statuses else None

    def _check_forwarded(self, forwarded: tuple[bytes, bytes, bytes]) -> None:
        request, setting = self._request, self._setting
        if self._seen.record.refusal_reason is not None:
            self._fail("a request was forwarded and refused")
        method, target, body = forwarded
        if (method, target) != (request.method, _origin_form(request.target)):
            self._fail("another request line was forwarded")
        if body != request.body and not (self._may_inject and _is_spliced(request.body, body)):
            self._fail("another body was forwarded")
        named = any(reading.named for reading in self._readings)
        if setting.forbids and (self._kind == "manage" or (self._kind == "unknown" and self._readings and not named)):
            self._fail("a request that manages models was forwarded")
        if self._limits.allowed_models is not None and self._kind in ("run", "unknown") and request.is_counted:
            for reading in self._readings:
                if not is_allowed(reading.model):
                    self._fail(f"a request for the model {reading.model!r} was forwarded")

    @property
    def _may_inject(self) -> bool:
        return self._setting.injects and self._request.path in (b"/v1/chat/completions", b"/v1/completions")

    def _check_refused(self) -> None:
        """Check that a complete request was refused for a reason that it gave."""
        reason = self._seen.record.refusal_reason
        if reason is None:
            self._fail("a request was neither forwarded nor refused")
        plain = len(self._readings) == 1 and self._readings[0].plain and self._kind == "run"
        if reason is RefusalReason.INVALID_BODY and plain and not self._request.all(b"content-encoding"):
            self._fail("a body that Ollama accepts was refused")
        if reason is RefusalReason.MODEL and (
            self._limits.allowed_models is None or (plain and is_allowed(self._readings[0].model))
        ):
            self._fail("a model that is allowed was refused")
        if reason is RefusalReason.MANAGEMENT and (not self._setting.forbids or self._kind in ("run", "read")):
            self._fail("a request that manages nothing was refused as such")
        if self._setting == SETTINGS["open"]:
            self._fail("a request was refused without limits")

    def _check_requests(self) -> None:
        """Check that exactly one request is charged, to the tenant of the key; and nothing if its head was refused."""
        request, reason = self._request, self._seen.record.refusal_reason
        at_head = (
            self._tenant is None
            or (self._setting.used_up and self._tenant == "a")
            or (self._setting.forbids and self._kind == "manage")
        )
        counted = request.is_counted and not at_head
        if (
            self._setting.used_up
            and self._tenant == "a"
            and request.is_counted
            and reason is not self._expected(RefusalReason.MAX_CONCURRENT)
        ):
            self._fail("a request beyond the limit was not refused")
        for tenant, (running, requests, tokens) in self._seen.charged.items():
            if running:
                self._fail(f"tenant {tenant!r} still has {running} running requests")
            mine = tenant == self._tenant and counted
            if requests != (1.0 if mine and self._limits.requests_per_minute else 0.0) or (tokens and not mine):
                self._fail(f"tenant {tenant!r} was charged {requests} requests and {tokens} tokens")
        if counted and self._limits.requests_per_minute and self._tenant not in self._seen.charged:
            self._fail("nobody was charged")

    def _check_tokens(self) -> None:
        if not self._limits.tokens_per_minute or not self._request.is_counted or self._tenant is None:
            return
        tokens, seen = self._seen.charged.get(self._tenant, (0, 0.0, 0.0))[2], self._seen
        answer = seen.answer
        if seen.forwarded is None or answer is None or answer.status >= 400:
            expected = (0.0, 0.0)
        elif self._request.method == b"POST" and answer.tokens is not None:
            expected = (answer.tokens, answer.tokens)
        elif self._kind == "run":
            # Without counts of the server, the estimate of the prompt, and the pieces of the response.
            body = decoded_body(self._request)
            estimate = min(-(-len(body or b"") // 4), _UNKNOWN_CONTEXT)
            expected = (estimate, estimate + 4)
        elif self._kind == "unknown":
            expected = (0.0, float(_UNKNOWN_CONTEXT + 4))
        else:
            # A response that the meter cannot read is charged one token for each piece, on each route that it reads.
            expected = (0.0, float(len(answer.pieces)))
        if not expected[0] <= tokens <= expected[1]:
            self._fail(f"{tokens} tokens were charged, and not {expected}")


def _origin_form(target: bytes) -> bytes:
    """Return the target without scheme and authority."""
    if target.startswith((b"/", b"*")):
        return target
    rest = target.partition(b"://")[2]
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    found = rest[cut:]
    return found if found.startswith(b"/") else b"/" + found


def _is_spliced(sent: bytes, got: bytes) -> bool:
    """Return whether `got` is `sent` with the request for usage before the end of its object."""
    at = next((at for at, (one, other) in enumerate(zip(sent, got, strict=False)) if one != other), len(sent))
    # The splice begins with a comma, which can equal a byte of the body.
    return any(
        sent[:cut] + _SPLICE + sent[cut:] == got and sent[cut : cut + 1] == b"}" for cut in (at, at - 1) if cut >= 0
    )


def _tenant_of(request: Request) -> str | None:
    tenants = {key: tenant for tenant, key in KEYS.items()}
    scheme, _, rest = request.last(b"authorization").partition(b" ")
    key = rest.strip() if scheme.lower() == b"bearer" and b" " in request.last(b"authorization") else None
    return tenants.get(request.last(b"x-api-key").strip() if key is None else key)


# ---- cases


class Plan(NamedTuple):
    """How a case is tried: names of settings, ways to answer, and the places at which it is split."""

    settings: tuple[str, ...]
    ways: tuple[str, ...]
    cuts: tuple[int, ...]


def everything(data: bytes) -> Plan:
    """Return the plan for a case that is kept."""
    cuts = tuple(range(len(data))) if len(data) < 4_000 else tuple(range(0, len(data), 997))
    return Plan(tuple(SETTINGS), WAYS, cuts)


def planned(seed: int, data: bytes) -> Plan:
    """Return the plan for a seed."""
    source = random.Random(seed)
    cuts = tuple(source.randrange(len(data) + 1) for _ in range(source.choice((1, 2, 5, 20))))
    others = source.sample(tuple(SETTINGS)[1:], 2)
    return Plan(("open", *others), (source.choice(WAYS),), cuts)


async def attempt(data: bytes, plan: Plan) -> int:
    """Try a case. Returns the number of exchanges. Raises FindingError if a rule does not hold."""
    request, exchanges = read_request(data), 0
    if request is None:
        return 0
    for way in plan.ways:
        models: dict[str, str] = {}
        for name in plan.settings:
            setting, seen = SETTINGS[name], None
            try:
                for cuts in ((), plan.cuts):
                    this = await Attempt(setting, request, way).run(data, cuts)
                    exchanges += 1
                    if seen is not None and seen.decision != this.decision:
                        raise FindingError(f"whole: {seen.decision}; cut: {this.decision}")
                    seen = this
                    Judge(setting, request, seen).check()
            except FindingError as error:
                raise FindingError(f"{name}, {way}: {error}") from error
            if seen is not None and seen.forwarded is not None:
                models[name] = seen.record.model_name
        if len(set(models.values())) > 1:
            raise FindingError(f"{way}: the model depends on the configuration: {models}")
    return exchanges


def seeds(first: int, seconds: float) -> Iterator[int]:
    """Yield seeds until the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield first
        first += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    # Errors are findings. Warnings, for example of refused responses, are not.
    logging.basicConfig(handlers=[logging.NullHandler()])
    cases = exchanges = found = 0
    with asyncio.Runner() as runner:
        for seed in seeds(options.seed, options.seconds):
            data, cases = made(seed), cases + 1
            try:
                exchanges += runner.run(attempt(data, planned(seed, data)))
            except Exception as error:
                found += 1
                path = CORPUS / "charges" / f"found-{seed}.http"
                path.write_bytes(data)
                print(f"{path.name}: {type(error).__name__}: {str(error)[:1500]}")
    print(f"{cases} cases, {exchanges} exchanges, {found} findings")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
