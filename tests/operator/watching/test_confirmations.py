"""What our listings show, compared with what kopf shows, in virtual time."""

from __future__ import annotations

import pytest

from llmendpoint_operator.watching.confirmations import Confirmations, Verdict

KIND, LEASE = "LLMEndpoint", "Lease"


class World:
    """Confirmations of a run of kopf that has begun."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.confirmations = Confirmations(lambda: self.now)

    def after(self, seconds: float) -> Verdict:
        self.now += seconds
        return self.confirmations.check()


@pytest.fixture
def world() -> World:
    found = World()
    found.confirmations.listed(KIND, ["a", "b"])
    found.confirmations.listed(LEASE, ["l"])
    found.confirmations.start([KIND, LEASE])
    return found


def show(world: World, *uids: str, event: str | None = None) -> None:
    for uid in uids:
        world.confirmations.shown(LEASE if uid == "l" else KIND, uid, event)


def test_nothing_is_listed_again_if_kopf_shows_everything(world: World) -> None:
    show(world, "a", "b", "l")
    show(world, "a", event="MODIFIED")
    assert [world.after(5) for _ in range(20)] == [Verdict.NOTHING] * 20


def test_an_object_that_kopf_does_not_show_is_listed_again(world: World) -> None:
    show(world, "a", "l")
    assert world.after(1) is Verdict.NOTHING
    assert world.after(4) is Verdict.LIST
    world.confirmations.listed(KIND, ["a"])  # it was deleted before kopf listed
    assert [world.after(10) for _ in range(5)] == [Verdict.NOTHING] * 5


def test_kopf_is_started_again_if_an_object_exists_that_it_does_not_show(world: World) -> None:
    show(world, "a", "l")
    assert [world.after(seconds) for seconds in (5, 10, 20)] == [Verdict.LIST, Verdict.LIST, Verdict.RESTART]


def test_an_object_that_only_the_run_before_has_shown_is_listed_again(world: World) -> None:
    """kopf is started again without a listing of ours if another kind can be watched now."""
    show(world, "a", "b", "l")
    show(world, "c", "d", event="ADDED")
    show(world, "d", event="DELETED")
    world.confirmations.start([KIND, LEASE, "LoadTest"])
    show(world, "a", "b", "l")
    assert world.after(5) is Verdict.LIST
    world.confirmations.listed(KIND, ["a", "b"])  # c was deleted while no run of kopf watched
    assert [world.after(10) for _ in range(5)] == [Verdict.NOTHING] * 5


def test_another_listing_of_kopf_leads_to_another_one_of_ours(world: World) -> None:
    show(world, "a", "b", "l")
    assert world.after(600) is Verdict.NOTHING
    # Only the Lease is left to be shown, because all endpoints were deleted meanwhile.
    show(world, "l")
    assert world.after(1) is Verdict.NOTHING
    assert world.after(1) is Verdict.LIST
    world.confirmations.listed(KIND, [])
    # Other kinds may be listed a little later.
    assert world.after(18) is Verdict.LIST
    assert [world.after(10) for _ in range(5)] == [Verdict.NOTHING] * 5


def test_a_kind_that_was_listed_again_has_to_be_shown_again(world: World) -> None:
    show(world, "a", "b", "l")
    world.after(600)
    show(world, "a")
    assert world.after(2) is Verdict.LIST
    assert world.after(3) is Verdict.LIST
    show(world, "b")
    assert world.after(15) is Verdict.LIST
    assert [world.after(10) for _ in range(5)] == [Verdict.NOTHING] * 5


def test_deleted_objects_do_not_have_to_be_shown(world: World) -> None:
    show(world, "a", "l")
    show(world, "b", event="DELETED")
    assert [world.after(5) for _ in range(5)] == [Verdict.NOTHING] * 5
