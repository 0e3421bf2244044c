"""Who is charged for a request, and what passes, with limits on and off: kept cases, and damaged, deep and odd ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from support import chargefuzz
from support.charge_cases import made
from support.chargefuzz import FindingError, Plan, everything, planned
from support.corpus import corpus

FILES = corpus("charges")
#: Cases of one test; `python tests/support/chargefuzz.py --seconds 300` tries some ten thousand.
BLOCK = 60


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
