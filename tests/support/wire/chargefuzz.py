"""Fuzzer for charges: who is charged for a request, and what passes, with limits on and off.

    python tests/support/wire/chargefuzz.py --seconds 300    # longer than the tests; writes findings to the corpus

Each case is one request with a valid head and any body (`charge_cases`). It is sent through the whole data path without
sockets, under several configurations, in one piece and in several, to an upstream that answers as Ollama. The results
are compared with one another and with an independent reading of the request (`charge_rules`, `charge_judge`).
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
from typing import NamedTuple, cast

import h11

from llmendpoint_common.contracts.sidecar import Operation, RequestRecord
from llmendpoint_sidecar.inputs.keys import KeyTable, digest
from llmendpoint_sidecar.policy.reading_queue import ReadingQueue
from llmendpoint_sidecar.proxy.dialer import Dialer
from llmendpoint_sidecar.proxy.upstream import UpstreamConnection

if __name__ == "__main__":
    # Only pytest puts the folder of the tests on the path.
    sys.path.insert(0, str(Path(__file__).parents[2]))

from support.private import is_reading, use_of_allowances
from support.wire.charge_cases import KEYS, made
from support.wire.charge_judge import WAYS, Answer, Request, answer_to, read_models, read_request
from support.wire.charge_rules import SETTINGS, FindingError, Judge, Seen, Setting
from support.wire.corpus import CORPUS, split
from support.wire.data_path import Clock, DataPath, Wire

_PEPPER = b"p" * 32
_KEYS = KeyTable(_PEPPER, {digest(_PEPPER, key): tenant for tenant, key in KEYS.items()})


class _LateDialer:
    """Opens a connection in the next turn of the event loop."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def connect_now(self) -> None:
        """Return no socket, so that the bytes wait."""

    async def connect(self, protocol: UpstreamConnection, _: object) -> None:
        await asyncio.sleep(0)
        protocol.connection_made(self._wire)  # type: ignore[arg-type]


class _Errors(logging.Handler):
    """Keeps errors that were logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


class Attempt:
    """One request under one configuration, with one answer. `late`: a connection to the upstream has to be opened."""

    def __init__(self, setting: Setting, request: Request, way: str, *, late: bool) -> None:
        self._request, self._way = request, way
        clock, ticks = Clock(), iter(range(1_000_000_000))
        self.path = DataPath(setting.config, clock, keys=_KEYS if setting.keys else None)
        # Its clock advances with each look, so that every body is read in many slices.
        self.path.admission.reading_queue = ReadingQueue(2, lambda: float(next(ticks)))
        if late:
            self._open_late()
        self._records: list[RequestRecord] = []
        self.path.meter.journal.listeners.append(self._records.append)
        if setting.used_up:
            self.path.admission.at_head(b"POST", Operation.CHAT, {b"x-api-key": KEYS["a"]})
        self._before = use_of_allowances(self.path.admission)

    def _open_late(self) -> None:
        def acquire() -> UpstreamConnection:
            connection, wire = UpstreamConnection(lambda _: None), Wire()
            connection.open(cast("Dialer", _LateDialer(wire)))
            self.path.upstreams.append((connection, wire))
            return connection

        self.path.proxy.pool.acquire = acquire  # type: ignore[method-assign]

    async def run(self, data: bytes, cuts: Iterable[int]) -> Seen:
        """Send the request, answer it, and return what happened. Raises FindingError if something is left over."""
        path, errors = self.path, _Errors()
        logging.getLogger().addHandler(errors)
        try:
            for piece in split(data, cuts):
                if not path.wire.closed:
                    path.client.data_received(piece)
                while not (path.wire.reading or path.wire.closed):  # noqa: ASYNC110 - until a connection opens
                    await asyncio.sleep(0)
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
        """Wait until bodies are read, and until a connection to the upstream is open."""
        while is_reading(self.path.admission, self.path.meter):  # noqa: ASYNC110 - each turn reads a slice
            await asyncio.sleep(0)
        for _ in range(4):
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


# ---- cases


class Plan(NamedTuple):
    """How a case is tried: names of settings, ways to answer, and the places at which it is split."""

    settings: tuple[str, ...]
    ways: tuple[str, ...]
    cuts: tuple[int, ...]


def everything(data: bytes) -> Plan:
    """Return the plan for a case that is kept."""
    cuts = tuple(range(1, len(data), max(1, len(data) // 40)))
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
                    this = await Attempt(setting, request, way, late=bool(cuts)).run(data, cuts)
                    exchanges += 1
                    if seen is not None and seen.decision != this.decision:
                        raise FindingError(f"whole: {seen.decision}; cut: {this.decision}")
                    seen = this
                    Judge(setting, request, seen).check()
            except FindingError as error:
                raise FindingError(f"{name}, {way}: {error}") from error
            if seen is not None and seen.forwarded is not None:
                models[name] = seen.record.model_name
        # Nobody knows the model of a body that Ollama refuses.
        readings = read_models(request)
        if len(set(models.values())) > 1 and readings and not any(reading.often for reading in readings):
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
