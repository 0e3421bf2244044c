"""Leases: each new version is passed on once, and so is the end of a Lease."""

from __future__ import annotations

from typing import Any

from llmendpoint_operator.watching.leases import Leases


def lease(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


def test_new_versions_and_ends() -> None:
    seen: list[tuple[str, str, bool]] = []
    leases = Leases(
        lambda body, deleted: seen.append((body["metadata"]["name"], body["metadata"]["resourceVersion"], deleted))
    )
    leases.begin()
    leases.show(lease("a", 1))
    leases.show(lease("b", 2))
    leases.end()
    leases.show(lease("a", 1))
    leases.show(lease("a", 3))
    leases.show(lease("a", 2))
    leases.gone(lease("b", 4))
    leases.gone(lease("b", 4))
    leases.begin()
    leases.end()
    assert seen == [("a", "1", False), ("b", "2", False), ("a", "3", False), ("b", "4", True), ("a", "3", True)]
