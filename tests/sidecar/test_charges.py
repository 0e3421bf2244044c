"""Who is charged for a request, and what passes, with limits on and off: kept cases, and damaged, deep and odd ones."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from typing import Any

import pytest

from llmendpoint_common.wire.request_body import RequestFacts
from llmendpoint_common.wire.routes import RouteClass
from llmendpoint_sidecar.meter.in_flight import InFlight
from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.policy import admission
from llmendpoint_sidecar.policy.held_memory import BodyMemory
from llmendpoint_sidecar.policy.keys import Keyring
from llmendpoint_sidecar.policy.limits import Allowance, Bucket
from llmendpoint_sidecar.proxy import held_body
from support.wire import chargefuzz, go_corpus
from support.wire.charge_cases import made
from support.wire.charge_judge import Request, read_models
from support.wire.charge_rules import SETTINGS, FindingError
from support.wire.chargefuzz import Plan, everything, planned
from support.wire.corpus import corpus

FILES = corpus("charges")
#: Cases of one test; `python tests/support/wire/chargefuzz.py --seconds 300` tries some ten thousand.
BLOCK = 40


def run(cases: Iterable[tuple[bytes, Plan]]) -> int:
    """Try cases in one event loop. Returns the number of exchanges."""

    async def tried() -> int:
        return sum([await chargefuzz.attempt(data, plan) for data, plan in cases])

    return asyncio.run(tried())


@pytest.mark.parametrize("name", FILES)
def test_a_kept_case_is_charged_and_passes_as_it_must(name: str) -> None:
    data = FILES[name]
    assert run([(data, everything(data))]) > 0


@pytest.mark.parametrize("block", range(4))
def test_no_body_changes_who_is_charged_or_what_passes(block: int) -> None:
    for seed in range(BLOCK * block, BLOCK * (block + 1)):
        data = made(seed)
        try:
            run([(data, planned(seed, data))])
        except FindingError as error:
            pytest.fail(f"seed {seed}: {error}; the case: {data[:500]!r}")


def test_the_judge_reads_bodies_as_go_does() -> None:
    judged = 0
    for question, answer in go_corpus.recorded()[0]:
        body = question.bytes()
        if not answer.accepted or len(body) > 300_000:
            continue
        target, fields = b"/api/chat", [(b"content-encoding", b"zstd")] if question.kind == "zstd" else []
        if question.kind == "form":
            target = b"/v1/audio/transcriptions?" + question.query.encode()
            fields = [(b"content-type", question.content_type.encode("latin-1"))]
        for reading in read_models(Request(b"POST", target, tuple(fields), body, complete=True)):
            assert reading.model in answer.models, (question, reading)
            judged += 1
    assert judged > 500


def _unread(body: bytes, *_: Any, **__: Any) -> RequestFacts:
    """Find no model in a body that is not quite simple."""
    return RequestFacts() if b"\\" in body or b"[[" in body else RequestFacts("m", names_model=True)


def _twice(method: Any) -> Any:
    def call(*arguments: Any) -> None:
        method(*arguments)
        method(*arguments)

    return call


def _nothing(*_: Any) -> None:
    """Do nothing."""


#: Faults, and a part of the finding that each one must cause.
FAULTS: dict[str, tuple[object, str, object, str]] = {
    "models are not checked": (admission.Admission, "needs_body", lambda *_: False, "a request for the model"),
    "bodies are given up": (held_body, "read_request_body", _unread, "a request for the model"),
    "management passes": (admission, "route_class", lambda *_: RouteClass.INFERENCE, "manages models was forwarded"),
    "reading is management": (
        admission,
        "route_class",
        lambda *_: RouteClass.MANAGEMENT,
        "manages nothing was refused",
    ),
    "all clients are one": (Keyring, "tenant_of", lambda *_: "a", "the tenant is"),
    "the end is not noted": (admission.Ticket, "close", _nothing, "running requests"),
    "requests are charged twice": (Bucket, "spend", _twice(Bucket.spend), "was charged 2.0 requests"),
    "nobody is charged": (Allowance, "charge", _nothing, "tokens were charged, and not"),
    "tokens are free": (admission, "tokens_used", lambda *_: 0, "tokens were charged, and not"),
    "bodies are changed": (held_body, "_with_usage", lambda pieces, _: [*pieces, b" "], "another body was forwarded"),
    "memory is lost": (BodyMemory, "release", _nothing, "held bodies still use"),
    "requests stay in flight": (InFlight, "leave", _nothing, "still in flight"),
    "requests are counted twice": (Meter, "add_ended", _twice(Meter.add_ended), "was counted as"),
    "reading fails": (held_body.HeldBody, "judge", lambda _: 1 / 0, "logged"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The rules can fail: each of these faults breaks one of them, for a kept case or within a few hundred others."""
    place, attribute, fault, finding = FAULTS[name]
    monkeypatch.setattr(place, attribute, fault)
    kept = [(data, Plan(tuple(SETTINGS), ("whole",), (1,))) for data in FILES.values()]
    others = ((data, planned(seed, data)) for seed, data in ((seed, made(seed)) for seed in range(400)))
    found = set()
    for case in itertools.chain(kept, others):
        try:
            run([case])
        except FindingError as error:
            found.add(str(error)[:300])
            if finding in str(error):
                return
    pytest.fail(f"not found; other findings: {found}")
