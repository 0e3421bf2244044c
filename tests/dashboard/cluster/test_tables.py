"""What is kept of the objects of a kind."""

from __future__ import annotations

from typing import Any

from llmendpoint_dashboard.cluster.tables import Table


def body(namespace: str, name: str, value: int = 0) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "value": value}


class Seen:
    """A table of values, and what it has reported."""

    def __init__(self, limit: int = 10) -> None:
        self.changed: list[str] = []
        self.removed: list[str] = []
        self.table: Table[int] = Table(
            lambda body: int(body["value"]), self.changed.append, self.removed.append, lambda value: value, limit
        )

    @property
    def values(self) -> dict[str, int]:
        return dict(self.table.items())


def test_objects_come_change_and_go() -> None:
    seen = Seen()
    seen.table.show(body("a", "x", 1))
    seen.table.show(body("a", "x", 2))
    assert seen.values == {"a/x": 2}
    seen.table.gone(body("a", "x"))
    seen.table.gone(body("a", "x"))
    assert (seen.values, seen.changed, seen.removed) == ({}, ["a/x", "a/x"], ["a/x"])


def test_what_a_listing_does_not_show_is_gone() -> None:
    seen = Seen()
    for namespace, name in (("a", "x"), ("a", "y"), ("b", "x")):
        seen.table.show(body(namespace, name))
    seen.table.begin("a")
    seen.table.show(body("a", "y"))
    seen.table.end("a")
    assert seen.values.keys() == {"a/y", "b/x"}
    seen.table.begin("")
    seen.table.end("")
    assert seen.values == {}


def test_a_listing_that_begins_again_counts_from_the_start() -> None:
    seen = Seen()
    seen.table.show(body("a", "x"))
    seen.table.begin("")
    seen.table.show(body("a", "x"))
    seen.table.begin("")
    seen.table.end("")
    assert seen.values == {}


def test_the_number_of_values_is_limited() -> None:
    seen = Seen(limit=3)
    for value in (5, 1, 9, 7):
        seen.table.show(body("a", str(value), value))
    assert seen.values == {"a/5": 5, "a/9": 9, "a/7": 7}
    assert seen.removed == ["a/1"]
    assert seen.table.is_cut
    seen.table.show(body("a", "1", 1))
    assert len(seen.table) == 3
