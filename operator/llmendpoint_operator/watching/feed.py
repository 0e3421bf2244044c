"""Passes the objects of one scope to the inventory, and marks the owners that have to be reconciled.

A scope is a namespace, or the whole cluster. Reconciles in a scope start when each of its kinds has been listed once,
or is known not to be listable. Until then, dirty owners are held. Scopes do not wait for each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.kinds import Kind, Role
from llmendpoint_operator.kube.owner import Manifest

log = logging.getLogger(__name__)

#: The roles of the kinds that reconciles wait for.
_NEEDED = (Role.RESOURCE, Role.CHILD, Role.OBSERVED, Role.CONSULTED)


class Feed:
    """The way of one scope's objects into the inventory. `scope` is a namespace, or empty for the whole cluster."""

    def __init__(self, scope: str, kinds: Iterable[Kind], inventory: Inventory, mark: Callable[[Key], None]) -> None:
        self.scope = scope
        self._inventory = inventory
        self._mark = mark
        self._unlisted = {kind.name for kind in kinds if kind.role in _NEEDED}
        self._lost: set[str] = set()
        self._held: set[Key] = set()
        #: Set when reconciles have started.
        self.opened = asyncio.Event()

    @property
    def waits_for(self) -> list[str]:
        """The kinds whose first listing is not done."""
        return sorted(self._unlisted)

    def begin(self, kind: Kind) -> None:
        """Start a listing of a kind."""
        self._inventory.begin_listing(kind.name, self.scope)

    def show(self, kind: Kind, body: Manifest) -> None:
        """Record an object from a listing or a watch."""
        before = self._consulted(kind)
        try:
            self._dirty(self._inventory.shows(kind.name, body))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # An object that the operator cannot read must not keep it from watching the others.
            log.warning("cannot read a %s: %r", kind.name, error)
        self._compare(kind, before)

    def gone(self, kind: Kind, body: Manifest) -> None:
        """Record the deletion of an object."""
        before = self._consulted(kind)
        self._dirty(self._inventory.gone(kind.name, body))
        self._compare(kind, before)

    def end(self, kind: Kind) -> None:
        """End a listing: objects of this kind and scope that it has not shown no longer exist."""
        before = self._consulted(kind)
        for key in self._inventory.end_listing(kind.name, self.scope):
            self._dirty(key)
        if kind.name in self._lost:
            self._lost.discard(kind.name)
            self._mark_owners(kind)
        self._compare(kind, before)
        self._settle(kind)

    def lose(self, kind: Kind, trouble: str = "") -> None:
        """Record that a kind cannot be watched in this scope, so that reconciles do not wait for it.

        `trouble` is the refusal of the API server, or empty if the cluster does not have the kind.
        """
        before = self._consulted(kind)
        self._lost.add(kind.name)
        self._inventory.lose(kind.name, self.scope, trouble)
        self._mark_owners(kind)
        self._compare(kind, before)
        self._settle(kind)

    def open(self) -> None:
        """Mark the owners that are held, and mark owners immediately from now on."""
        self.opened.set()
        for key in self._held:
            self._mark(key)
        self._held.clear()

    def _settle(self, kind: Kind) -> None:
        self._unlisted.discard(kind.name)
        if not self._unlisted and not self.opened.is_set():
            self.open()

    def _mark_owners(self, kind: Kind) -> None:
        """Mark the owners of a kind of child that is lost or found: their status changes, and children may have to."""
        for key in self._inventory.resources():
            if key.kind in kind.owners and self.scope in ("", key.namespace):
                self._dirty(key)

    def _consulted(self, kind: Kind) -> Sequence[object] | None:
        """Return what the inventory knows from the objects of others, if this kind is one of them."""
        return self._inventory.prometheus_servers() if kind.role is Role.CONSULTED else None

    def _compare(self, kind: Kind, before: Sequence[object] | None) -> None:
        """Mark all endpoints if what is known from the objects of others has changed. They have no owner of ours."""
        if self._consulted(kind) != before:
            for key in self._inventory.resources():
                if key.kind == LLMENDPOINT:
                    self._dirty(key)

    def _dirty(self, key: Key | None) -> None:
        if key is None:
            return
        if self.opened.is_set():
            self._mark(key)
        else:
            self._held.add(key)
