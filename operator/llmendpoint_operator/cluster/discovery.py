"""Finds the kinds of the table that the cluster does not have.

The operator asks the API server when it starts, and again as long as a kind is missing. The first pause is 2 s, because
an operator is often installed together with the CustomResourceDefinitions. It doubles each time, up to five minutes.
Children of a missing kind are not written.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_operator.cluster.client import API_ERRORS, ApiServer
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.cluster.kinds import KINDS, TABLE, Kind, Role

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 2.0
_LAST_PAUSE_SECONDS = 300.0
#: Kinds that come from a CustomResourceDefinition. Every cluster has the others.
_WATCHED = (Role.RESOURCE, Role.CHILD, Role.OBSERVED)
_CUSTOM = tuple(kind for kind in TABLE if kind.optional or kind.role is Role.RESOURCE)


class Discovery:
    """Keeps track of the kinds of the table that the cluster does not have."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._missing: set[str] = set()
        self._lost = asyncio.Event()

    @property
    def missing(self) -> frozenset[str]:
        """The names of the kinds that the cluster does not have."""
        return frozenset(self._missing)

    def lost(self, kind: str) -> None:
        """Record that the cluster no longer has a kind, as a refused request has shown."""
        if kind not in self._missing:
            log.warning("the cluster no longer has the kind %s", kind)
            self._missing.add(kind)
            self._lost.set()

    async def look(self) -> set[str]:
        """Look up all kinds that a cluster may not have. Return those that have appeared since the last look-up."""
        served = {kind.name for kind in _CUSTOM if await self._is_served(kind)}
        appeared = self._missing & served
        self._missing = {kind.name for kind in _CUSTOM} - served
        return appeared

    async def until_one_appears(self) -> None:
        """Wait until a missing kind appears. If no kind is missing, wait until one is, and then until it appears."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            if not self._missing:
                self._lost.clear()
                await self._lost.wait()
                pause = _FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(_LAST_PAUSE_SECONDS, 2 * pause)
            try:
                appeared = await self.look()
            except API_ERRORS as error:
                log.debug("cannot look up the kinds of the cluster: %s", describe(error))
                continue
            if appeared:
                log.info("the cluster now has these kinds: %s", ", ".join(sorted(appeared)))
                return

    async def _is_served(self, kind: Kind) -> bool:
        path = f"/apis/{kind.group}/{kind.version}"
        try:
            found = await self._server.request("GET", path)
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return any(resource["name"] == kind.plural for resource in found["resources"])


def served(missing: frozenset[str]) -> tuple[Kind, ...]:
    """Return the kinds of the table that the operator watches and the cluster has."""
    return tuple(kind for kind in KINDS.values() if kind.watched and kind.name not in missing and kind.role in _WATCHED)
