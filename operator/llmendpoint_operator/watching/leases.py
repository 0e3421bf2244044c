"""The Leases with our label in one scope, as listings and the watch show them."""

from __future__ import annotations

from collections.abc import Callable

from llmendpoint_operator.kube.owner import Manifest


class Leases:
    """Calls `on_lease` with each new version of a Lease, and with each Lease that no longer exists."""

    def __init__(self, on_lease: Callable[[Manifest, bool], None]) -> None:
        self._on_lease = on_lease
        self._known: dict[str, Manifest] = {}
        self._unlisted: set[str] = set()

    def begin(self) -> None:
        """Start a listing."""
        self._unlisted = set(self._known)

    def show(self, body: Manifest) -> None:
        """Record a Lease from a listing or a watch."""
        uid = body["metadata"]["uid"]
        self._unlisted.discard(uid)
        known = self._known.get(uid)
        if known is None or _version(known) < _version(body):
            self._known[uid] = body
            self._on_lease(body, False)

    def gone(self, body: Manifest) -> None:
        """Record the deletion of a Lease."""
        uid = body["metadata"]["uid"]
        self._unlisted.discard(uid)
        if self._known.pop(uid, None) is not None:
            self._on_lease(body, True)

    def end(self) -> None:
        """End a listing: Leases that it has not shown no longer exist."""
        for uid in self._unlisted:
            self._on_lease(self._known.pop(uid), True)
        self._unlisted = set()


def _version(body: Manifest) -> int:
    return int(body["metadata"]["resourceVersion"])
