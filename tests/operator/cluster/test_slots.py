"""The bound of reconciles at the same time: who has no progress does not keep others waiting."""

from __future__ import annotations

import asyncio

import pytest

from llmendpoint_operator.cluster import slots
from llmendpoint_operator.cluster.slots import Slots
from support.waiting import eventually


@pytest.fixture
def returned() -> list[None]:
    return []


@pytest.fixture
def one(returned: list[None]) -> Slots:
    """A single slot, whose returns are recorded."""
    return Slots(lambda: returned.append(None), limit=1)


async def test_a_slot_that_is_given_back_can_be_taken_again(one: Slots, returned: list[None]) -> None:
    first = one.take()
    assert first is not None
    assert one.take() is None
    first.give_back()
    first.give_back()
    assert returned == [None]
    assert one.take() is not None
    assert one.take() is None


async def test_a_reconcile_without_progress_goes_on_without_its_slot(
    one: Slots, returned: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "PATIENCE_SECONDS", 0.02)
    first = one.take()
    assert first is not None
    await eventually(lambda: returned == [None])
    assert one.take() is not None


async def test_a_reconcile_with_progress_keeps_its_slot(one: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "PATIENCE_SECONDS", 0.2)
    slots.current.set(one.take())
    begin = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() < begin + 0.5:
        slots.progress()
        assert one.take() is None
        await asyncio.sleep(0)
    slots.give_back()
    assert one.take() is not None


async def test_code_outside_a_reconcile_needs_no_slot() -> None:
    slots.progress()
    slots.give_back()
